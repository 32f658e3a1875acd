"""Training clips per second and core, from JPEG files and the packed cache, and the cores that an accelerator needs.

  python -m experiments.benchmarks.feeding                     # all ways on all cores; takes about three minutes
  python -m experiments.benchmarks.feeding --steps_per_second=4 --batch=64   # for another step rate

A clip is 6 frames at 288 x 144, augmented, in batches of 64. Clips per core are counted by the processor time of this
process, which other work on the machine does not take; with workers only the wall clock is printed. Cores needed:
steps/s x batch / (clips per core and second). The step rate is a flag, as no accelerator was at hand: 25 steps/s is
about what a ResNet-50 at 40 % of an H200's 790 TFLOP/s would do (11.8 TFLOP a step).
"""

import argparse
import os
import tempfile
import time

import cv2
import numpy as np

from experiments.benchmarks.decode import crop
from hitpro_jax.data import packed, pipeline
from hitpro_jax.data.records import Dataset, Record

SIZE, LENGTH, TRACKLETS, FRAMES = (288, 144), 6, 64, 24


def made_up(root: str) -> Dataset:
    """64 tracklets of 24 JPEG crops of 256 x 128 pixels."""
    rng, made = np.random.default_rng(0), []
    for number in range(TRACKLETS):
        os.makedirs(os.path.join(root, f"{number:02d}"))
        frames = tuple(f"{number:02d}/{i}.jpg" for i in range(FRAMES))
        for frame in frames:
            cv2.imwrite(os.path.join(root, frame), crop(rng, 256, 128), [cv2.IMWRITE_JPEG_QUALITY, 90])
        made.append(Record(frames, number % 2, 1, -1))
    return Dataset("made-up", root, tuple(made), (), (), {})


def speed(reader: pipeline.FrameReader, dataset: Dataset, batch: int, steps: int, workers: int) -> tuple[float, ...]:
    """Clips a second by the clock after the first batch, clips a second of processor time, seconds to the first."""
    plan = np.random.default_rng(0).integers(TRACKLETS // 2, size=(steps + 1, batch)) * 2 + np.arange(batch) % 2
    start, busy = time.perf_counter(), time.process_time()
    reading = pipeline.ClipReading(num_workers=workers)
    batches = pipeline.train_batches(reader, dataset.train, plan, clip_length=LENGTH, seed=0, epoch=0, reading=reading)
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        pass
    per_core = batch * (steps + 1) / (time.process_time() - busy)
    return batch * steps / (time.perf_counter() - first), per_core, first - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--steps_per_second", type=float, default=25.0)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_up(os.path.join(folder, "data"))
        ways = {"JPEG files": None}
        for name, quality in (("packed, exact", 0), ("packed, JPEG 90", 90)):
            ways[name] = packed.make(os.path.join(folder, name), dataset, SIZE, quality=quality, jobs=1)
        for name, frames in ways.items():
            reader = pipeline.FrameReader(dataset.root, SIZE, packed=frames)
            for workers in (0, 2):
                clips, per_core, wait = speed(reader, dataset, options.batch, options.steps, workers)
                line = (
                    f"{name}, num_workers={workers}: {clips:.0f} clips/s on {cores} cores, "
                    f"first batch after {wait:.1f} s"
                )
                if not workers:
                    needed = options.steps_per_second * options.batch / per_core
                    line += (
                        f"; {per_core:.0f} clips a core and second: {needed:.0f} cores for "
                        f"{options.steps_per_second:g} steps/s of {options.batch} clips"
                    )
                print(line)


if __name__ == "__main__":
    main()
