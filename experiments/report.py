"""Writes the figures of experiments/results into the README, between its two marks.

  python -m experiments.report            # rewrite README.md
"""

import json
from pathlib import Path

import numpy as np

from experiments import sweeps

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: written by experiments/report.py -->\n", "<!-- end of results -->"


def render() -> str:
    """The tables as Markdown; a file of results that is not there is said to be not yet run."""
    return "\n".join([*_calibration(), "", *_components(), "", *_methods(), ""])


def _load(name: str):
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def _calibration() -> list[str]:
    table = _load("calibration.json")
    if not table:
        return ["Calibration of the synthetic world: not yet run (`python -m experiments.calibrate`)."]
    names = list(next(iter(table.values())))
    lines = [("The synthetic world, mean of both directions' mAP in % on unseen people "
              "(`python -m experiments.calibrate`); precision is that of the positives at the first refresh:"), "",
             "| data seed | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = {**table, "mean": {name: np.mean([row[name] for row in table.values()]) for name in names}}
    for seed, row in rows.items():
        cells = (f"{row[n]:.2f}" if "precision" in n else f"{row[n]:.1f}" for n in names)
        lines.append(f"| {seed.removeprefix('seed ')} | " + " | ".join(cells) + " |")
    return lines


def _components() -> list[str]:
    return _sweep("components", "HiTPro and its parts")


def _methods() -> list[str]:
    """The methods side by side, and in words wherever another unsupervised one is ahead of HiTPro."""
    lines, rows = _sweep("methods", "HiTPro and the adapted baselines"), _load("methods.json") or []
    ours = {row["seed"]: _pair(row, "result") for row in rows if row["variant"] == "HiTPro"}
    ahead = [f"{row['variant']} on seed {row['seed']}, {way} ({theirs:.1f} to {own:.1f})"
             for row in rows if row["variant"] not in ("HiTPro", "supervised") and row["seed"] in ours
             for way, theirs, own in zip(("infrared to visible", "visible to infrared"), _pair(row, "result"),
                                         ours[row["seed"]], strict=True) if theirs > own]
    if rows:
        lines += ["", f"**Ahead of HiTPro**: {'; '.join(ahead) or 'none of the unsupervised methods run so far'}."]
    return lines


def _sweep(sweep: str, title: str) -> list[str]:
    rows = _load(f"{sweep}.json")
    if not rows:
        return [f"{title}: not yet run (`python -m experiments.sweep --sweep={sweep}`)."]
    seeds = sorted({row["seed"] for row in rows})
    variants = [name for name, _ in sweeps.SWEEPS[sweep]()]
    found = {(row["variant"], row["seed"]): row for row in rows}
    lines = [(f"{title}, mAP in % (infrared to visible / visible to infrared) at the last step, "
              f"no best epoch picked (`python -m experiments.sweep --sweep={sweep}`):"), "",
             "| | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |", "|---" * (len(seeds) + 2) + "|"]
    first = [] if "frozen" in variants else [("frozen encoder", "frozen")]
    for name, value in (*first, *((v, "result") for v in variants)):
        runs = [found.get((variants[0] if value == "frozen" else name, seed)) for seed in seeds]
        pairs = [_pair(run, value) for run in runs]
        cells = [f"{p[0]:.1f} / {p[1]:.1f}" if p else "not yet run" for p in pairs]
        mean = f"{np.mean(pairs):.1f}" if all(pairs) else "-"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {mean} |")
    minutes = [row["minutes"] for row in rows if row["minutes"]] or [float("nan")]
    commits = sorted({row["commit"] or "unknown" for row in rows})
    device = ", ".join(f"{n} x {kind}" for kind, n in rows[0]["devices"].items())
    lines += ["", (f"{len(rows)} runs of {min(minutes):.1f} to {max(minutes):.1f} minutes each, start-up included, on "
                   f"{device} ({rows[0]['cores']} cores); commits {', '.join(commits)}.")]
    return lines


def _pair(run: dict | None, value: str) -> tuple[float, float] | None:
    if run is None:
        return None
    if value == "frozen":
        return run["frozen"]["i2v"], run["frozen"]["v2i"]
    return run["result"]["i2v"]["mAP"], run["result"]["v2i"]["mAP"]


def insert(text: str) -> str:
    """The README with the tables of today between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + render() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(insert(README.read_text()))
