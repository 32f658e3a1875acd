"""Start-up at HITSZ-VCM's size: reading the index files and the scan for missing frames, on a made-up copy.

python -m experiments.benchmarks.loading    # writes 463,259 files of one byte, in a temporary folder
"""

import argparse
import itertools
import os
import tempfile
import time
from functools import partial

import numpy as np

from hitpro_jax.data import records
from hitpro_jax.data.sets import hitsz_vcm

TRAIN_ROWS, TEST_ROWS, QUERIES = 11_061, 10_802, 5_159
NAMES = 232_496


def write(root: str, rows: int, names: int, half: str, first_pid: int) -> list[str]:
    """Index files with `names` names and `rows` rows of at most 24 frames; returns the frames' paths."""
    os.makedirs(os.path.join(root, "info"), exist_ok=True)
    edges = np.linspace(0, names, rows + 1).astype(int)
    lines, table, paths = [], [], []
    for row, (start, end) in enumerate(itertools.pairwise(edges)):
        pid, modality, camera = first_pid + row // 22, 1 + row % 2, 1 + row // 2 % 12
        lines += [f"{pid:04d}M{modality}D{camera}T1F{5 * i + 1}.jpg" for i in range(start, end)]
        folder = f"{half.capitalize()}/{pid:04d}/{('ir', 'rgb')[modality - 1]}/D{camera}"
        paths += [f"{folder}/{5 * i + 1}.jpg" for i in range(start, end)]
        table.append(f"{modality} {start + 1} {end} {pid} {camera}")
    for name, content in ((f"{half}_name", lines), (f"track_{half}_info", table)):
        with open(os.path.join(root, "info", f"{name}.txt"), "w") as file:
            file.write("\n".join(content) + "\n")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        paths = write(root, TRAIN_ROWS, NAMES, "train", 1)
        paths += write(root, TEST_ROWS, 230_763, "test", 600)
        with open(os.path.join(root, "info", "query_IDX.txt"), "w") as file:
            file.write(" ".join(str(2 * i + 1) for i in range(QUERIES)))
        times = [_timed(lambda: hitsz_vcm.load(root, check_counts=False)) for _ in range(options.repeats)]
        print(
            f"index files, {NAMES:,} + 230,763 names, {TRAIN_ROWS:,} + {TEST_ROWS:,} rows: "
            f"median {np.median(times):.2f} s, worst {max(times):.2f} s"
        )
        for folder in {os.path.dirname(path) for path in paths}:
            os.makedirs(os.path.join(root, folder))
        for path in paths:
            with open(os.path.join(root, path), "wb") as file:
                file.write(b"x")
        dataset = hitsz_vcm.load(root, check_counts=False)
        listed = sum(len(r.frames) for split in records.SPLITS for r in getattr(dataset, split))
        for workers in (1, 16):
            seconds = [_timed(partial(records.verify_files, dataset, min_frames=12, workers=workers)) for _ in range(3)]
            print(f"scan of {listed:,} listed frames, {workers} threads: median {np.median(seconds):.2f} s")


def _timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
