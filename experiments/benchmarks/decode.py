"""Decode and resize to 288 x 144 on one core: this project's reader against Pillow, OpenCV and simplejpeg.

  taskset -c 0 python -m experiments.benchmarks.decode        # pip install pillow for all columns
  taskset -c 0 python -m experiments.benchmarks.decode --plain         # the reader by OpenCV alone

Each round runs every way over the same files, in turn, forwards and backwards, and counts processor time, of which
other work on the machine takes none. Printed are medians over the rounds: images a second of each way, and the reader's
speed over that of the fastest other way in the same round. Every way reads the file, decodes it to RGB and scales it
bilinearly (Pillow's own resize averages over the source pixels, which is other pixels and slower).
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg

from hitpro_jax.data import images

SIZE = (288, 144)
CROPS = {"256 x 128": (256, 128), "1080p crop, 540 x 220": (540, 220)}


def ways() -> dict[str, Callable[[str], np.ndarray]]:
    """Name to path -> uint8 [288, 144, 3]; those whose package is missing are left out."""

    def opencv(path):
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)

    found = {"FrameReader": lambda path: images.read(path, SIZE), "OpenCV": opencv}
    try:
        from PIL import Image

        found["Pillow"] = lambda path: np.asarray(
            Image.open(io.BytesIO(_bytes(path))).convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
        )
    except ImportError:
        pass
    found["simplejpeg"] = lambda path: cv2.resize(
        simplejpeg.decode_jpeg(_bytes(path)), SIZE[::-1], interpolation=cv2.INTER_LINEAR
    )
    return found


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def crop(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth shapes with some grain: a JPEG of quality 90 of it is as large as one of a person."""
    coarse = cv2.resize(
        rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(coarse + rng.normal(0, 6, coarse.shape), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--plain", action="store_true", help="keep the reader from simplejpeg")
    options = parser.parse_args()
    if options.plain:
        images._pixels = images.opencv_pixels
    cv2.setNumThreads(1)
    rng, found = np.random.default_rng(0), ways()
    with tempfile.TemporaryDirectory() as folder:
        for title, (height, width) in CROPS.items():
            paths = [os.path.join(folder, f"{height}_{i}.jpg") for i in range(options.files)]
            for path in paths:
                cv2.imwrite(path, crop(rng, height, width), [cv2.IMWRITE_JPEG_QUALITY, 90])
            size = np.mean([os.path.getsize(path) for path in paths]) / 1000
            speeds = {name: [] for name in found}
            for number in range(options.rounds):
                for name in list(found)[:: 1 if number % 2 else -1]:
                    start = time.process_time()
                    for path in paths:
                        found[name](path)
                    speeds[name].append(options.files / (time.process_time() - start))
            medians = {name: statistics.median(values) for name, values in speeds.items()}
            own = medians.pop("FrameReader")
            fastest = max(medians, key=medians.get)
            share = statistics.median(a / b for a, b in zip(speeds["FrameReader"], speeds[fastest], strict=True))
            print(
                f"{title}, {size:.0f} kB: images/s FrameReader {own:.0f}, "
                + ", ".join(f"{name} {value:.0f}" for name, value in medians.items())
                + f"; FrameReader / {fastest} {share:.2f}"
            )


if __name__ == "__main__":
    main()
