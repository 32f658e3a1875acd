"""Runs named sweeps: one training for each variant and data seed, in a workdir of its own; finished runs only report.

  python -m experiments.sweep --sweep=components --seeds=0,1,2
  python -m experiments.sweep --sweep=components --dry_run        # print the commands, for a cluster's own launcher

A killed run goes on from its last checkpoint when the sweep is run again. Figures go to
experiments/results/<config>/<sweep>.json; `experiments.tables` draws tables and curves from the workdirs.
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from absl import app, flags

from experiments.records import folder_of, record
from experiments.sweeps import SWEEPS

CONFIG = flags.DEFINE_string("config", "configs/synthetic.py", "the config that the sweep varies")
SWEEP = flags.DEFINE_enum("sweep", "components", list(SWEEPS), "which sweep")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "values of --seed_field")
SEED_FIELD = flags.DEFINE_string("seed_field", "data.seed", "config field that the seeds set")
ROOT = flags.DEFINE_string("root", "runs/sweeps", "folder of the workdirs")
ONLY = flags.DEFINE_multi_string("only", [], "run this variant alone; may be given again")
JOBS = flags.DEFINE_integer("jobs", 1, "runs at a time; from 2 on each prints into console.txt of its workdir")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "only print the commands")


def command(overrides: dict, seed: str, workdir: Path) -> list[str]:
    fields = {SEED_FIELD.value: seed, **overrides}
    return [
        sys.executable,
        "-m",
        "hitpro_jax.main",
        f"--config={CONFIG.value}",
        f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def workdir_of(variant: str, seed: str) -> Path:
    return Path(ROOT.value) / Path(CONFIG.value).stem / SWEEP.value / folder_of(variant) / f"seed{seed}"


def run(variant: str, overrides: dict, seed: str, running: set[subprocess.Popen]) -> dict:
    """Runs one variant to its end, unless it has ended already, and returns its row.

    `minutes` is None where the run had begun before. The run's process is in `running` while it lasts.

    Raises:
      SystemExit: the run failed, was killed or asked to stop, or its workdir belongs to another config.
    """
    workdir = workdir_of(variant, seed)
    begun, start, hint = (workdir / "checkpoints").exists(), time.monotonic(), ""
    with contextlib.ExitStack() as stack:
        console = None
        if JOBS.value > 1:
            workdir.mkdir(parents=True, exist_ok=True)
            console = stack.enter_context(open(workdir / "console.txt", "a"))
            hint = f", see {workdir}/console.txt"
        process = subprocess.Popen(command(overrides, seed, workdir), stdout=console, stderr=console)
        running.add(process)
        code = process.wait()
        running.discard(process)
    if code or not (workdir / "result.json").exists():  # a run that is asked to stop saves its state and ends with 0
        raise SystemExit(
            f"{variant}, seed {seed}, ended with code {code} and no result{hint}; the same sweep goes on from there"
        )
    return record(variant, seed, workdir, None if begun else round((time.monotonic() - start) / 60.0, 2))


def save_row(out: Path, row: dict) -> None:
    """Replaces the older row of this run in the file of results, which other sweeps may be writing at the same time."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        rows = {(r["variant"], r["seed"]): r for r in json.loads(out.read_text())} if out.exists() else {}
        key = row["variant"], row["seed"]
        if key in rows and rows[key]["commit"] == row["commit"]:  # a finished run is not timed again
            row["minutes"] = row["minutes"] or rows[key]["minutes"]
        rows[key] = row
        draft = out.with_suffix(".tmp")
        draft.write_text("[\n" + ",\n".join(map(json.dumps, rows.values())) + "\n]\n")  # a line a run
        draft.replace(out)
    finally:
        os.close(folder)


def main(_) -> None:
    wanted = [
        (variant, overrides, seed)
        for seed in SEEDS.value
        for variant, overrides in SWEEPS[SWEEP.value]()
        if not ONLY.value or variant in ONLY.value
    ]
    if unknown := set(ONLY.value) - {variant for variant, _ in SWEEPS[SWEEP.value]()}:
        raise app.UsageError(f"--only: sweep {SWEEP.value} has no variant {', '.join(sorted(unknown))}")
    if DRY_RUN.value:
        for variant, overrides, seed in wanted:
            print(shlex.join(command(overrides, seed, workdir_of(variant, seed))))
        return
    out = Path("experiments/results") / Path(CONFIG.value).stem / f"{SWEEP.value}.json"
    running, failed = set(), []

    def attempt(*each) -> dict | None:
        """The row of a run; none where it fails, or where one has failed before."""
        try:
            return None if failed else run(*each, running)
        except (SystemExit, OSError, ValueError, KeyError) as error:  # raised below, when the runs beside it have ended
            failed.append(error)

    def stop(*_) -> None:
        failed.append(SystemExit("asked to stop (SIGTERM): runs save their state; the same sweep goes on from there"))
        for process in list(running):
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    with ThreadPoolExecutor(JOBS.value) as pool:
        for finished in as_completed([pool.submit(attempt, *each) for each in wanted]):
            if row := finished.result():
                save_row(out, row)
    if failed:
        raise failed[0]


if __name__ == "__main__":
    app.run(main)
