"""Writes the figures of experiments/results into the README, between its two marks.

  python -m experiments.report            # rewrite README.md
"""

import json
from pathlib import Path

import numpy as np

from experiments import records, sweeps

RESULTS = Path(__file__).parent / "results" / "synthetic"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: written by experiments/report.py -->\n", "<!-- end of results -->"
TITLES = {"levels": "HiTPro, its stages and levels", "components": "The ladder of its components",
          "baselines": "HiTPro and the adapted baselines"}


def render() -> str:
    """The tables as Markdown; a file of results that is not there is said to be not yet run."""
    sections = [_calibration(), *(_sweep(name, title) for name, title in TITLES.items()), _ahead()]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _load(name: str):
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else []


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


def _sweep(sweep: str, title: str) -> list[str]:
    rows = _load(f"{sweep}.json")
    if not rows:
        return [f"{title}: not yet run (`python -m experiments.sweep --sweep={sweep}`)."]
    lines = [(f"{title}, mAP in % (infrared to visible / visible to infrared) at the last step, "
              f"no best epoch picked; mean and standard deviation over seeds are of both directions' mean "
              f"(`python -m experiments.sweep --sweep={sweep}`):"), "",
             *records.markdown(rows, [name for name, _ in sweeps.SWEEPS[sweep]()])]
    minutes = [row["minutes"] for row in rows if row["minutes"]]
    timed = f"{len(minutes)} of them timed: {min(minutes):.1f} to {max(minutes):.1f} minutes each, start-up included" \
        if minutes else "none of them timed"
    commits = sorted({(row["commit"] or "unknown")[:7] for row in rows})
    device = ", ".join(f"{n} x {kind}" for kind, n in rows[0]["devices"].items())
    return [*lines, "", (f"{len(rows)} runs, {timed}, beside other work, on {device} ({rows[0]['cores']} cores); "
                         f"commits {', '.join(commits)}.")]


def _ahead() -> list[str]:
    """In words wherever another unsupervised method is ahead of HiTPro."""
    rows = _load("baselines.json")
    ours = {row["seed"]: records.scores(row) for row in rows if row["variant"] == "HiTPro"}
    ahead = [f"{row['variant']} on seed {row['seed']}, {way} ({theirs:.1f} to {own:.1f})"
             for row in rows if row["variant"] not in ("HiTPro", "supervised") and row["seed"] in ours
             for way, theirs, own in zip(("infrared to visible", "visible to infrared"), records.scores(row),
                                         ours[row["seed"]], strict=True) if theirs > own]
    told = "; ".join(ahead) or "none of the unsupervised methods run so far"
    return [f"**Ahead of HiTPro**: {told}."] if rows else []


def insert(text: str) -> str:
    """The README with the tables of today between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + render() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(insert(README.read_text()))
