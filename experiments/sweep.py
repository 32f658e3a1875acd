"""Runs named sweeps: one training a variant and data seed, each in a workdir of its own; finished ones only report.

  python -m experiments.sweep --sweep=components --seeds=0,1,2
  python -m experiments.sweep --sweep=components --dry_run        # print the commands, for a cluster's own launcher

A killed run goes on from its last checkpoint when the sweep is run again. Figures go to
experiments/results/<sweep>.json.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

from experiments.sweeps import SWEEPS

CONFIG = flags.DEFINE_string("config", "configs/synthetic.py", "the config that the sweep varies")
SWEEP = flags.DEFINE_string("sweep", "components", "which sweep")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "values of --seed_field")
SEED_FIELD = flags.DEFINE_string("seed_field", "data.seed", "config field that the seeds set")
ROOT = flags.DEFINE_string("root", "runs/sweeps", "folder of the workdirs")
ONLY = flags.DEFINE_list("only", [], "run these variants alone; empty: all")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "only print the commands")


def command(overrides: dict, seed: str, workdir: Path) -> list[str]:
    fields = {SEED_FIELD.value: seed, **overrides}
    return [sys.executable, "-m", "hitpro_jax.main", f"--config={CONFIG.value}", f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in fields.items())]


def record(variant: str, seed: str, workdir: Path, minutes: float | None) -> dict:
    """One row of the results: the first and the last evaluation of a finished run, and what it found."""
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((workdir / "result.json").read_text())
    environment = json.loads((workdir / "env.json").read_text())
    directions = [key for key, value in result.items() if isinstance(value, dict)]
    last = ([m for m in metrics if "align/within/precision" in m] or [{}])[-1]  # frozen: no refresh
    kept = {name: round(value, 3) for name, value in last.items()
            if name.startswith("align/") and ("precision" in name or "recall_any" in name) or "purity" in name}
    return {"variant": variant, "seed": int(seed), "result": result, "step": result["step"], "minutes": minutes,
            "frozen": {key: metrics[0][f"eval/{key}/mAP"] for key in directions}, "last refresh": kept,
            "commit": environment["git"], "devices": environment["devices"], "cores": os.cpu_count()}


def main(_) -> None:
    out = Path("experiments/results") / f"{SWEEP.value}.json"
    rows = {(r["variant"], r["seed"]): r for r in json.loads(out.read_text())} if out.exists() else {}
    for seed in SEEDS.value:
        for variant, overrides in SWEEPS[SWEEP.value]():
            if ONLY.value and variant not in ONLY.value:
                continue
            workdir = Path(ROOT.value) / SWEEP.value / variant.replace(" ", "_") / f"seed{seed}"
            words = command(overrides, seed, workdir)
            if DRY_RUN.value:
                print(" ".join(words))
                continue
            done, start = (workdir / "result.json").exists(), time.monotonic()
            subprocess.run(words, check=True)  # a finished run only reports; one of another config is refused
            minutes = round((time.monotonic() - start) / 60.0, 2)
            old = rows.get((variant, int(seed)), {})
            rows[variant, int(seed)] = record(variant, seed, workdir, old.get("minutes") if done else minutes)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(list(rows.values()), indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
