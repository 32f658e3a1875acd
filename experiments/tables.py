"""Tables and curves of a sweep, from the workdirs of its finished runs.

  python -m experiments.tables --workdirs=runs/sweeps/synthetic/dts --out=figures/dts

writes table.md (mean and standard deviation over seeds), table.csv (one line a run, every figure) and curves.png (mAP
and quality of the mined positives over epochs) into --out. Curves need matplotlib: `pip install -e .[plots]`.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from experiments.records import averaged, directions_of, flat, folder_of, markdown, record
from experiments.sweeps import SWEEPS

WORKDIRS = flags.DEFINE_string("workdirs", None, "folder of a sweep: <variant>/seed<number>/")
OUT = flags.DEFINE_string("out", None, "folder to write into; default: --workdirs itself")
CURVES = {
    "mAP in %": lambda line: mean_map(line),
    "precision of cross-modality positives": lambda line: line.get("align/cross/precision"),
    "tracklets with a true cross-modality positive": lambda line: line.get("align/cross/recall_any"),
}


def mean_map(line: dict) -> float | None:
    """Mean mAP of an evaluation's averaged directions; None where a line of the metrics has no evaluation."""
    found = {name.split("/")[1]: value for name, value in line.items() if re.fullmatch("eval/[^/]+/mAP", name)}
    return float(np.mean([found[key] for key in averaged(found)])) if found else None


def curve(workdirs: list[Path], value: Callable[[dict], float | None]) -> tuple[np.ndarray, np.ndarray]:
    """(steps [S], values [runs, S]) of one figure of the metrics, at the steps that all runs have."""
    series = []
    for workdir in workdirs:
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        series.append({line["step"]: value(line) for line in lines if value(line) is not None})
    steps = sorted(set.intersection(*map(set, series))) if series else []
    return np.array(steps), np.array([[run[step] for step in steps] for run in series])


def draw(runs: dict[str, list[Path]], path: Path, directions: Sequence[str]) -> None:
    """One panel a figure, one line a variant: the mean over seeds in a band of one standard deviation.

    Args:
      runs: workdirs of each variant.
      path: of the picture.
      directions: that the mAP is a mean of.
    """
    import matplotlib  # here, because tables are made without it

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(CURVES), figsize=(5 * len(CURVES), 4), layout="constrained")
    for panel, (title, value) in zip(panels, CURVES.items(), strict=True):
        for number, (variant, workdirs) in enumerate(runs.items()):
            steps, values = curve(workdirs, value)
            if not values.any():  # not measured, or a stage that is off
                continue
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else 0.0
            colour = f"C{number}"
            panel.plot(steps, mean, marker="o", markersize=3, color=colour, label=f"{variant} ({len(values)})")
            panel.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
        of = f", mean of {' and '.join(directions)}" if title.startswith("mAP") and directions else ""
        panel.set(title=title + of, xlabel="optimiser step")
        panel.set_ylim(bottom=0.0)
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, title="variant (runs)")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def finished(root: Path) -> dict[str, list[Path]]:
    """Workdirs of the finished runs of each variant, in the order in which the sweeps name the variants."""
    names = {folder_of(name): name for sweep in SWEEPS.values() for name, _ in sweep()}
    order = {name: number for number, name in enumerate(names)}
    folders = sorted(
        (path for path in root.glob("*") if path.is_dir()),
        key=lambda path: (order.get(path.name, len(order)), path.name),
    )
    runs = {
        names.get(folder.name, folder.name): [path.parent for path in sorted(folder.glob("seed*/result.json"))]
        for folder in folders
    }
    return {variant: workdirs for variant, workdirs in runs.items() if workdirs}


def main(_) -> None:
    root = Path(WORKDIRS.value)
    out = Path(OUT.value or root)
    runs = finished(root)
    if not runs:
        raise app.UsageError(f"{root} has no finished run: it should hold <variant>/seed<number>/result.json")
    rows = [
        record(variant, workdir.name.removeprefix("seed"), workdir, None)
        for variant, workdirs in runs.items()
        for workdir in workdirs
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(markdown(rows, list(runs))) + "\n")
    lines = [flat(row) for row in rows]
    with open(out / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for line in lines for name in line)))
        writer.writeheader()
        writer.writerows(lines)
    draw(runs, out / "curves.png", directions_of(rows))
    print(f"wrote table.md, table.csv and curves.png of {len(rows)} runs into {out}")


if __name__ == "__main__":
    flags.mark_flag_as_required("workdirs")  # here alone: others import this file
    app.run(main)
