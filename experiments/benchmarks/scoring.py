"""How long it takes to score random features, by the number of matches that a query has.

python -m experiments.benchmarks.scoring --queries=5000 --gallery=5000 --people=500
python -m experiments.benchmarks.scoring --queries=512 --gallery=200000 --people=3
"""

import argparse
import resource
import time

import numpy as np

from hitpro_jax.scoring.scores import score


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--gallery", type=int, default=5_000, help="rows")
    parser.add_argument("--people", type=int, default=500, help="a query has about gallery / people matches")
    parser.add_argument("--width", type=int, default=256, help="features")
    parser.add_argument("--rounds", type=int, default=3, help="after a first one, which compiles")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    features, pids, camids = [], [], []
    for rows in (options.queries, options.gallery):
        features.append(rng.standard_normal((rows, options.width), np.float32))
        pids.append(rng.integers(0, options.people, rows))
        camids.append(rng.integers(0, 12, rows))
    for number in range(options.rounds + 1):
        before = time.monotonic(), time.process_time()
        found = score(*features, *pids, *camids)
        wall, processor = time.monotonic() - before[0], time.process_time() - before[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        name = "again" if number else "first"
        print(
            f"{name}: {wall:.2f} s, processor {processor:.2f} s, mAP {found['mAP']:.6f}, peak {peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
