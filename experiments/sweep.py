"""Runs named sweeps: one training for each variant and seed, in a workdir of its own; finished runs only report.

  python -m experiments.sweep --sweep=components --seeds=0,1,2
  python -m experiments.sweep --sweep=components --config.train.epochs=24 --name=longer    # fields of every run
  python -m experiments.sweep --sweep=components --dry_run        # print the commands, for a cluster's own launcher

A killed run goes on from its last checkpoint when the sweep is run again. A variant whose bars are read from another
one (`BarOf`) begins when that has ended. Figures go to experiments/results/<name>/<sweep>.json; `experiments.tables`
draws tables and curves from the workdirs.
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
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from experiments.fields import default_seed_field, refusal
from experiments.records import folder_of, record
from experiments.sweeps import SWEEPS, BarOf
from hitpro_jax.command_line import parse
from hitpro_jax.options import FREE_FIELDS

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "the config that the sweep varies (default: configs/synthetic.py); --config.<field>=<value> holds for every run",
)
SWEEP = flags.DEFINE_enum("sweep", "components", list(SWEEPS), "which sweep")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "values of --seed_field")
SEED_FIELD = flags.DEFINE_string(
    "seed_field", None, "config field that the seeds set (default: data.seed on the synthetic world, elsewhere seed)"
)
ROOT = flags.DEFINE_string("root", "runs/sweeps", "folder of the workdirs")
NAME = flags.DEFINE_string("name", None, "folder below --root and experiments/results (default: the config's name)")
ONLY = flags.DEFINE_multi_string("only", [], "run this variant alone; may be given again")
JOBS = flags.DEFINE_integer("jobs", 1, "runs at a time; from 2 on each prints into console.txt of its workdir")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "only print the commands")


def config_file() -> str:
    """The value of `--config`: a path, with what the file is asked for behind a colon."""
    return flags.FLAGS["config"].config_filename


def name() -> str:
    """The folder of this sweep's workdirs and results."""
    path, _, asked = config_file().partition(":")
    return NAME.value or Path(path).stem + f"_{asked}" * bool(asked)


def seed_field() -> str:
    """The field that the seeds set."""
    return SEED_FIELD.value or default_seed_field(CONFIG.value)


def given() -> dict[str, Any]:
    """Fields that the command line sets for every run."""
    return config_flags.get_override_values(flags.FLAGS["config"])


def command(overrides: dict, seed: str, workdir: Path) -> list[str]:
    """The command of a run, without the bars that are still to be read."""
    fields = {seed_field(): seed, **given(), **overrides}
    return [
        sys.executable,
        "-m",
        "hitpro_jax.main",
        f"--config={config_file()}",
        f"--workdir={workdir}",
        *(f"--config.{field}={value}" for field, value in fields.items() if not isinstance(value, BarOf)),
    ]


def reader(overrides: dict, seed: str) -> list[str]:
    """The command that prints the bars of a variant as flags; none where it needs none."""
    sources = {value.variant for value in overrides.values() if isinstance(value, BarOf)}
    return [
        word
        for source in sources  # one at most
        for word in (sys.executable, "-m", "experiments.thresholds", f"--workdir={workdir_of(source, seed)}")
    ]


def bars(overrides: dict, seed: str, workdir: Path) -> list[str]:
    """The bars of a variant as flags: those with which its run began, or read from the run that has them.

    Raises:
      SystemExit: they cannot be read there.
    """
    words = reader(overrides, seed)
    begun = workdir / "config.json"
    if words and begun.exists():
        config = json.loads(begun.read_text())
        return [f"--config.{stage}.fixed={config[stage]['fixed']}" for stage in ("within", "across")]
    if not words:
        return []
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no bars for {workdir}: {done.stderr.strip()[-300:]}")
    return done.stdout.split()


def workdir_of(variant: str, seed: str) -> Path:
    return Path(ROOT.value) / name() / SWEEP.value / folder_of(variant) / f"seed{seed}"


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
        words = [*command(overrides, seed, workdir), *bars(overrides, seed, workdir)]
        process = subprocess.Popen(words, stdout=console, stderr=console)
        running.add(process)
        code = process.wait()
        running.discard(process)
    if code or not (workdir / "result.json").exists():  # a run that is asked to stop saves its state and ends with 0
        raise SystemExit(
            f"{variant}, seed {seed}, ended with code {code} and no result{hint}; the same sweep goes on from there"
        )
    row = record(variant, seed, workdir, None if begun else round((time.monotonic() - start) / 60.0, 2))
    return row | {"seed field": seed_field(), "given": given()}


def other_rows(out: Path) -> list[str]:
    """Variants in the file of results whose runs had other fields given, or seeds of another field."""
    rows = json.loads(out.read_text()) if out.exists() else []
    mine = seed_field(), _counted(given())
    # rows of earlier releases do not say: nothing could be given then
    had = [(row.get("seed field", "data.seed"), _counted(row.get("given", {}))) for row in rows]
    return [row["variant"] for row, its in zip(rows, had, strict=True) if its != mine]


def _counted(fields: dict) -> dict:
    """Of given fields those that may change a figure, as JSON has them."""
    return json.loads(json.dumps({field: value for field, value in fields.items() if field not in FREE_FIELDS}))


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
    variants = dict(SWEEPS[SWEEP.value]())
    if unknown := set(ONLY.value) - set(variants):
        sys.exit(f"error: --only: sweep {SWEEP.value} has no variant {', '.join(sorted(unknown))}")
    variants = {variant: overrides for variant, overrides in variants.items() if variant in (ONLY.value or variants)}
    varied = {field for overrides in variants.values() for field in overrides}
    if reason := refusal(CONFIG.value, seed_field(), varied, given()):
        sys.exit(f"error: {reason}")
    wanted = [(variant, overrides, seed) for seed in SEEDS.value for variant, overrides in variants.items()]
    wanted.sort(key=lambda each: bool(reader(*each[1:])))  # last those that read from others
    if DRY_RUN.value:
        for variant, overrides, seed in wanted:
            print(printed(variant, overrides, seed))
        return
    out = Path("experiments/results") / name() / f"{SWEEP.value}.json"
    if others := other_rows(out):
        sys.exit(f"error: {out} has rows with other fields ({', '.join(others[:3])}): give another --name")
    run_all(wanted, out)


def printed(variant: str, overrides: dict, seed: str) -> str:
    """A run's command as a shell takes it; bars are read by the shell when it gets there.

    Where they cannot be read the run does not begin: without these flags it would have the bars of the config.
    """
    line = shlex.join(command(overrides, seed, workdir_of(variant, seed)))
    words = reader(overrides, seed)
    return f"bars=$({shlex.join(words)}) && {line} $bars" if words else line


def run_all(wanted: list[tuple[str, dict, str]], out: Path) -> None:
    """Runs all of them and writes their rows; those that read bars begin when the others have ended.

    Raises:
      SystemExit, OSError, ValueError, KeyError: what the first failed run raised.
    """
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
        for reads in (False, True):
            now = [each for each in wanted if bool(reader(*each[1:])) is reads]
            for finished in as_completed([pool.submit(attempt, *each) for each in now]):
                if row := finished.result():
                    save_row(out, row)
    if failed:
        raise failed[0]


def with_config(argv: list[str]) -> list[str]:
    """The command line, with the demo's config where none is given.

    A default of the flag itself would be read as this file is imported, where a faulty field could not be reported.

    >>> with_config(["sweep", "--seeds=0"])
    ['sweep', '--config=configs/synthetic.py', '--seeds=0']
    """
    there = any(word.lstrip("-").partition("=")[0] == "config" for word in argv[1:])
    return argv if there else [argv[0], "--config=configs/synthetic.py", *argv[1:]]


if __name__ == "__main__":
    app.run(main, argv=with_config(sys.argv), flags_parser=parse)
