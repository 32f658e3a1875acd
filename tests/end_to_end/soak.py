"""Kills a tiny run at random moments, again and again, and compares whatever it ends with to an undisturbed run.

  python -m tests.end_to_end.soak --kills=100
  python -m tests.end_to_end.soak --kills=20 --processes=2 --seed=1

SIGKILL comes after a random part of the time that an undisturbed run takes from its first line on: while it compiles,
refreshes, steps, saves or scores. Then the same command runs again, until it ends before its kill; its arrays, metrics
and result must equal the undisturbed run's to the bit, and the next run begins. Not a test: it takes about half a
minute a kill.
"""

import collections
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from absl import app, flags

from hitpro_jax.data.synthetic import world as synthetic
from tests.runs import Run, checksums, finish

KILLS = flags.DEFINE_integer("kills", 100, "how many in all", lower_bound=1)
PROCESSES = flags.DEFINE_integer("processes", 1, "that share a run; all of them are killed", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the moments")
EXACT = "metrics.jsonl", "result.json"


def wait_for_output(run: Run) -> None:
    """Returns when the run has printed its first line: before that it only imports."""
    while not run.printed() and run.processes[0].poll() is None:
        time.sleep(0.05)


def killed_at(run: Run, workdir: Path, delay: float | None) -> str | None:
    """Kills a run `delay` seconds after its first line and returns what it was doing; None if it had ended by then."""
    wait_for_output(run)
    try:
        run.processes[0].wait(delay)
    except subprocess.TimeoutExpired:
        saving = any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
        for process in run.processes:
            process.kill()
        return "while saving" if saving else f"after '{' '.join(run.printed().splitlines()[-1].split()[:2])}'"
    if any(run.end()):
        raise SystemExit(f"a run failed:\n{run.printed()[-6000:]}")
    return None


def differing(workdir: Path, whole: Path) -> list[str]:
    """What a finished run has unlike the undisturbed one."""
    ours, theirs = checksums(workdir), checksums(whole)
    arrays = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    return sorted(arrays) + [name for name in EXACT if (workdir / name).read_bytes() != (whole / name).read_bytes()]


def main(_) -> None:
    rng, moments, ended, kills = random.Random(SEED.value), collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
        world = str(synthetic.ensure(folder / "world", synthetic.PRESETS["tiny"]))
        finish(
            world, folder / "first", processes=PROCESSES.value
        )  # it compiles: the next one shows how long a run takes
        with Run(world, folder / "whole", processes=PROCESSES.value) as run:
            wait_for_output(run)
            start = time.monotonic()
            killed_at(run, folder / "whole", None)
            duration = time.monotonic() - start
        while kills < KILLS.value or (folder / "run").exists():
            delay = rng.uniform(0.0, duration) if kills < KILLS.value else None
            with Run(world, folder / "run", processes=PROCESSES.value) as run:
                moment = killed_at(run, folder / "run", delay)
            if moment:
                kills += 1
                moments[moment] += 1
                print(f"kill {kills} after {delay:.1f} s, {moment}", flush=True)
                continue
            different, ended = differing(folder / "run", folder / "whole"), ended + 1
            if different:
                raise SystemExit(f"run {ended}, after {kills} kills in all, ended with other {', '.join(different)}")
            print(f"run {ended} ended like the undisturbed one", flush=True)
            shutil.rmtree(folder / "run")
    print(f"{kills} kills in {ended} runs of {duration:.0f} s, all resumed, all ended bit-identical; the moments:")
    for moment, times in moments.most_common():
        print(f"  {times:3d} {moment}")


if __name__ == "__main__":
    app.run(main)
