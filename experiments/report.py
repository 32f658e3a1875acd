"""Writes the figures of experiments/results into the README, between its two marks.

python -m experiments.report            # rewrite README.md
"""

import json
from pathlib import Path

import numpy as np

from experiments import records, sweeps

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results: written by experiments/report.py -->\n", "<!-- end of results -->"
COMPARED = {
    "tuned": (
        "HiTPro and the baselines, each of these with the best of its settings in the sweep `tuning`, "
        "HiTPro and supervised with `adapt_steps`, on the worlds of `configs/evidence.py`"
    ),
    "baselines": (
        "The same with the values of `configs/evidence.py` at the commits named below, BatchNorm not adapted"
    ),
}
SWEEPS = {
    ("evidence", "tuning"): "Settings of each baseline, from which the best was taken",
    ("evidence", "components"): "The ladder of HiTPro's components",
    ("evidence", "additions"): "What HiTPro's mining has besides the parts of the abstract, each taken away",
    ("evidence", "parts"): "Sub-tracklets in the whole method",
    ("synthetic", "levels"): "HiTPro, its stages and levels, with the defaults of the commits named below",
}


def render() -> str:
    """The tables as Markdown; a file of results that is not there is said to be not yet run."""
    sections = [_calibration()]
    for sweep, title in COMPARED.items():
        sections += [_sweep("evidence", sweep, title), _comparison(sweep), _ahead(sweep)]
    sections += [*(_sweep(*names, title) for names, title in SWEEPS.items()), _settings()]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _load(name: str):
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else []


def _calibration() -> list[str]:
    table = _load("synthetic/calibration.json")
    if not table:
        return ["Calibration of the synthetic world: not yet run (`python -m experiments.calibrate`)."]
    names = list(next(iter(table.values())))
    lines = [
        (
            "The synthetic world, mean of both directions' mAP in % on unseen people "
            "(`python -m experiments.calibrate`); precision is that of the positives at the first refresh:"
        ),
        "",
        "| data seed | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    rows = {**table, "mean": {name: np.mean([row[name] for row in table.values()]) for name in names}}
    for seed, row in rows.items():
        cells = (f"{row[n]:.2f}" if "precision" in n else f"{row[n]:.1f}" for n in names)
        lines.append(f"| {seed.removeprefix('seed ')} | " + " | ".join(cells) + " |")
    return lines


def _sweep(config: str, sweep: str, title: str) -> list[str]:
    rows = _load(f"{config}/{sweep}.json")
    command = f"python -m experiments.sweep --config=configs/{config}.py --sweep={sweep}"
    if not rows:
        return [f"{title}: not yet run (`{command}`)."]
    lines = [
        (
            f"{title}, mAP in % (infrared to visible / visible to infrared) at the last step, "
            f"no best epoch picked; mean and standard deviation over seeds are of both directions' mean "
            f"(`{command}`):"
        ),
        "",
        *records.markdown(rows, [name for name, _ in sweeps.SWEEPS[sweep]()]),
    ]
    return [*lines, "", _provenance(rows)]


def _provenance(rows: list[dict]) -> str:
    """How many runs, how long, on what, of which commits."""
    minutes = [row["minutes"] for row in rows if row["minutes"]]
    timed = (
        f"{len(minutes)} of them timed: {min(minutes):.1f} to {max(minutes):.1f} minutes each, start-up included"
        if minutes
        else "none of them timed"
    )
    commits = sorted({(row["commit"] or "unknown")[:7] for row in rows})
    devices = sorted({", ".join(f"{n} x {kind}" for kind, n in row["devices"].items()) for row in rows})
    host = "; ".join(
        f"{name}: " + ", ".join(sorted({str(row.get(name) or "unrecorded") for row in rows}))
        for name in ("cores", "processor")
    )
    return (
        f"{len(rows)} runs, {timed}, beside other work, on {'; '.join(devices)} ({host}); commits {', '.join(commits)}."
    )


def _comparison(sweep: str) -> list[str]:
    """HiTPro beside the best baseline and on the way from frozen to supervised, where all methods were run."""
    rows = _load(f"evidence/{sweep}.json")
    table = {
        name: {row["seed"]: np.mean(records.scores(row)) for row in rows if row["variant"] == name}
        for name, _ in sweeps.baselines()
    }
    worlds = sorted(set.intersection(*(set(scores) for scores in table.values())))
    if not worlds:
        return []
    full = {name: np.array([scores[seed] for seed in worlds]) for name, scores in table.items()}
    rivals = full.keys() - {"HiTPro", "frozen", "supervised"}
    best = max(rivals, key=lambda name: full[name].mean())
    rival = np.max([full[name] for name in rivals], axis=0)
    ratios, lead = full["HiTPro"] / rival, full["HiTPro"] - rival
    spread = f" ± {np.std(lead, ddof=1):.1f}" if len(lead) > 1 else ""
    lines = [
        (
            f"HiTPro has {np.mean(ratios):.2f} times the mAP of the best baseline of each world (mean over "
            f"the data seeds {', '.join(map(str, worlds))}; {min(ratios):.2f} to {max(ratios):.2f}), is ahead of it "
            f"on {np.sum(lead > 0)} of {len(lead)}, by {np.mean(lead):.1f}{spread} points, and has "
            f"{np.mean(full['HiTPro'] / full[best]):.2f} times that of the best one on average, {best}."
        )
    ]
    low, own, high = (full[name].mean() for name in ("frozen", "HiTPro", "supervised"))
    way = (own - low) / (high - low)
    lines += [f"It goes {100 * way:.0f} % of the way from the frozen encoder to supervision."]
    ours = [row for row in rows if row["variant"] == "HiTPro" and row["seed"] in worlds]
    return [
        *lines,
        (
            f"At its last refresh {_found(ours, 'precision'):.2f} of its cross-modality positives are right, "
            f"and {_found(ours, 'recall_any'):.2f} of the tracklets that have one to find have a right one."
        ),
    ]


def _ahead(sweep: str) -> list[str]:
    """In words wherever another unsupervised method, no variant of ours, is ahead of HiTPro."""
    rows = _load(f"evidence/{sweep}.json")
    ours = {row["seed"]: records.scores(row) for row in rows if row["variant"] == "HiTPro"}
    rivals = set(sweeps.METHODS) - {"supervised"}
    ahead = [
        f"{row['variant']} on seed {row['seed']}, {way} ({theirs:.1f} to {own:.1f})"
        for row in rows
        if row["variant"] in rivals and row["seed"] in ours
        for way, theirs, own in zip(
            ("infrared to visible", "visible to infrared"), records.scores(row), ours[row["seed"]], strict=True
        )
        if theirs > own
    ]
    told = "; ".join(ahead) or "none of the unsupervised methods run so far"
    return [f"**Ahead of HiTPro**: {told}."] if rows else []


def _settings() -> list[str]:
    """Methods on harder worlds, and how many strangers HiTPro joins where people are seen in one modality alone."""
    every = _load("evidence/settings.json")
    command = "python -m experiments.sweep --config=configs/evidence.py --sweep=settings"
    if not every:
        return [f"Harder worlds: not yet run (`{command}`)."]
    rows = [row for row in every if row["variant"] != sweeps.STRICTER]
    scores = {(name, preset): {} for preset in sweeps.SETTINGS for name, _ in sweeps.baselines()}
    for row in rows:
        name, preset = row["variant"].split(", ")
        scores[name, preset][row["seed"]] = np.mean(records.scores(row))
        scores["frozen", preset][row["seed"]] = np.mean(list(row["frozen"].values()))  # any run's first evaluation
    lines = [
        f"Harder worlds, mean of both directions' mAP in % (`{command}`):",
        "",
        *_settings_table(scores),
        "",
        _provenance(every),
        _ahead_on_settings(scores),
    ]
    if plain := [row for row in rows if row["variant"] == "HiTPro, open_set"]:
        lines += [
            (
                "Of the tracklets of `open_set` whose person is seen in one modality alone, HiTPro gives "
                f"{_found(plain, 'false_any'):.2f} a positive of the other one at its last refresh, and "
                f"{_found(plain, 'recall_any'):.2f} of those that have one to find a right one."
            )
        ]
    if stricter := [row for row in every if row["variant"] == sweeps.STRICTER]:
        score = np.mean([records.scores(row) for row in stricter])
        lines += [
            (
                f"With `across.kappa=(0.5, 0.5)`, chosen on data seed 0, {_found(stricter, 'false_any'):.2f} and "
                f"{_found(stricter, 'recall_any'):.2f}, at {score:.1f} mAP."
            )
        ]
    return lines


def _settings_table(scores: dict[tuple[str, str], dict[int, float]]) -> list[str]:
    """A line a method, a column a world; in it a figure a seed, "-" where this method was not run on it."""
    seeds = {preset: sorted(scores["frozen", preset]) for preset in sweeps.SETTINGS}
    heads = [f"{preset}, seed {' / '.join(map(str, seeds[preset]))}" if seeds[preset] else preset for preset in seeds]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]

    def cell(name: str, preset: str) -> str:
        found = scores[name, preset]
        told = (f"{found[seed]:.1f}" if seed in found else "-" for seed in seeds[preset])
        return " / ".join(told) if found else "not yet run"

    return lines + [
        f"| {name} | " + " | ".join(cell(name, preset) for preset in seeds) + " |" for name, _ in sweeps.baselines()
    ]


def _ahead_on_settings(scores: dict[tuple[str, str], dict[int, float]]) -> str:
    """Who is ahead of HiTPro, over the seeds that both were run on."""
    ahead = []
    for (name, preset), theirs in scores.items():
        ours = scores["HiTPro", preset]
        common = theirs.keys() & ours.keys()
        if name != "supervised" and common:
            their, own = (np.mean([found[seed] for seed in common]) for found in (theirs, ours))
            ahead += [f"{name} on {preset} ({their:.1f} to {own:.1f})"] if their > own else []
    return f"**Ahead of HiTPro** there: {'; '.join(ahead) or 'none of those run'}."


def _found(rows: list[dict], name: str) -> float:
    """Mean over runs of a figure of the last refresh's positives across the modalities."""
    return float(np.mean([row["last refresh"][f"align/cross/{name}"] for row in rows]))


def insert(text: str) -> str:
    """The README with the tables of today between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + render() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(insert(README.read_text()))
