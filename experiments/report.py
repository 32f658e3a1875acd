"""Writes the figures of experiments/results into docs/results.md (all tables) and README.md (five rows).

python -m experiments.report            # rewrites both, between their two marks
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments import records, sweeps

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
README, PAGE = ROOT / "README.md", ROOT / "docs" / "results.md"
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
BOUNDS = ("frozen", "supervised")
LABELS = {
    "frozen": "frozen encoder, no training",
    "HiTPro": "**HiTPro**",
    "supervised": "supervised, with person ids",
}
SWEEPS = {
    ("evidence", "tuning"): "Settings of each baseline, from which the best was taken",
    ("evidence", "components"): "The ladder of HiTPro's components",
    ("evidence", "additions"): "What HiTPro's mining has besides the parts of the abstract, each taken away",
    ("evidence", "parts"): "Sub-tracklets in the whole method",
    ("synthetic", "levels"): "HiTPro, its stages and levels, with the defaults of the commits named below",
}


def headline() -> str:
    """Five rows of the comparison `tuned`: no training, the two best baselines, HiTPro and supervision.

    Means over the worlds on which all methods were run; the spread is that of both directions' mean over worlds.
    """
    rows = _rows("evidence/tuned")
    worlds = _common_worlds(rows)
    if not worlds:
        return "The comparison with the baselines is not yet run.\n"
    scores = {
        name: np.array([_scores_on(rows, name, seed) for seed in worlds])  # [worlds, directions]
        for name, _ in sweeps.baselines()
    }
    baselines = sorted(scores.keys() - {"HiTPro", *BOUNDS}, key=lambda name: scores[name].mean())
    shown = ["frozen", *baselines[-2:], "HiTPro", "supervised"]
    lines = [
        "| mAP in % | infrared to visible | visible to infrared | mean of both |",
        "|---|---|---|---|",
    ]
    for name in shown:
        ways, means = scores[name].mean(0), scores[name].mean(1)
        spread = f" ± {means.std(ddof=1):.1f}" if len(worlds) > 1 else ""
        cells = [*(f"{value:.1f}" for value in ways), f"{means.mean():.1f}{spread}"]
        lines.append(f"| {LABELS.get(name, name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def render() -> str:
    """All tables as Markdown; where there is no file of results, a line with "not yet run"."""
    sections = [["### Is the synthetic world worth training on?"], _calibration()]
    for sweep, title in COMPARED.items():
        sections += [
            [f"### The methods: `{sweep}`"],
            _sweep("evidence", sweep, title),
            _comparison(sweep),
            _ahead(sweep),
        ]
    for (config, sweep), title in SWEEPS.items():
        sections += [[f"### `{sweep}`"], _sweep(config, sweep, title)]
    sections += [["### `settings`"], _settings()]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _rows(name: str) -> list[dict]:
    return records.load(RESULTS / f"{name}.json")


def _calibration() -> list[str]:
    path = RESULTS / "synthetic" / "calibration.json"
    if not path.exists():
        return ["Calibration of the synthetic world: not yet run (`python -m experiments.calibrate`)."]
    table = json.loads(path.read_text())
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
    rows = _rows(f"{config}/{sweep}")
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


def _common_worlds(rows: list[dict]) -> list[int]:
    """Data seeds on which every method of the comparison was run."""
    seeds = [{row["seed"] for row in rows if row["variant"] == name} for name, _ in sweeps.baselines()]
    return sorted(set.intersection(*seeds))


def _scores_on(rows: list[dict], variant: str, seed: int) -> tuple[float, ...]:
    """mAP of both directions of one run."""
    return next(records.scores(row) for row in rows if (row["variant"], row["seed"]) == (variant, seed))


def _comparison(sweep: str) -> list[str]:
    """HiTPro beside the best baseline, and how far it goes from frozen to supervised, over the common worlds."""
    rows = _rows(f"evidence/{sweep}")
    worlds = _common_worlds(rows)
    if not worlds:
        return []
    full = {
        name: np.array([np.mean(_scores_on(rows, name, seed)) for seed in worlds]) for name, _ in sweeps.baselines()
    }
    baselines = full.keys() - {"HiTPro", *BOUNDS}
    best = max(baselines, key=lambda name: full[name].mean())
    best_of_each = np.max([full[name] for name in baselines], axis=0)
    ratios, lead = full["HiTPro"] / best_of_each, full["HiTPro"] - best_of_each
    spread = f" ± {np.std(lead, ddof=1):.1f}" if len(lead) > 1 else ""
    low, own, high = (full[name].mean() for name in ("frozen", "HiTPro", "supervised"))
    ours = [row for row in rows if row["variant"] == "HiTPro" and row["seed"] in worlds]
    return [
        (
            f"HiTPro has {np.mean(ratios):.2f} times the mAP of the best baseline of each world (mean over "
            f"the data seeds {', '.join(map(str, worlds))}; {min(ratios):.2f} to {max(ratios):.2f}), is ahead of it "
            f"on {np.sum(lead > 0)} of {len(lead)}, by {np.mean(lead):.1f}{spread} points, and has "
            f"{np.mean(full['HiTPro'] / full[best]):.2f} times that of the best one on average, {best}."
        ),
        f"It goes {100 * (own - low) / (high - low):.0f} % of the way from the frozen encoder to supervision.",
        (
            f"At its last refresh {_mean_figure(ours, 'precision'):.2f} of its cross-modality positives are right; of "
            "the tracklets with a true match in the other modality "
            f"{_mean_figure(ours, 'recall_any'):.2f} have a right one."
        ),
    ]


def _ahead(sweep: str) -> list[str]:
    """One sentence that names every unsupervised baseline that is ahead of HiTPro on a world and direction."""
    rows = _rows(f"evidence/{sweep}")
    ours = {row["seed"]: records.scores(row) for row in rows if row["variant"] == "HiTPro"}
    unsupervised = set(sweeps.METHODS) - {"supervised"}
    ahead = [
        f"{row['variant']} on seed {row['seed']}, {way} ({theirs:.1f} to {own:.1f})"
        for row in rows
        if row["variant"] in unsupervised and row["seed"] in ours
        for way, theirs, own in zip(
            ("infrared to visible", "visible to infrared"), records.scores(row), ours[row["seed"]], strict=True
        )
        if theirs > own
    ]
    names = "; ".join(ahead) or "none of the unsupervised methods run so far"
    return [f"**Ahead of HiTPro**: {names}."] if rows else []


def _settings() -> list[str]:
    """Methods on harder worlds, and the false positives of people who are seen in one modality alone."""
    every = _rows("evidence/settings")
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
                "On `open_set`, at its last refresh, HiTPro gives a (false) positive of the other modality to "
                f"{_mean_figure(plain, 'false_any'):.2f} of the tracklets whose person is seen in one modality alone, "
                f"and a right one to {_mean_figure(plain, 'recall_any'):.2f} of those with a true match."
            )
        ]
    if stricter := [row for row in every if row["variant"] == sweeps.STRICTER]:
        score = np.mean([records.scores(row) for row in stricter])
        lines += [
            (
                "With `across.kappa=(0.5, 0.5)`, chosen on data seed 0, these are "
                f"{_mean_figure(stricter, 'false_any'):.2f} and {_mean_figure(stricter, 'recall_any'):.2f}, "
                f"at {score:.1f} mAP."
            )
        ]
    return lines


def _settings_table(scores: dict[tuple[str, str], dict[int, float]]) -> list[str]:
    """One line for each method, one column for each world; a cell has a figure for each seed, "-" for none."""
    seeds = {preset: sorted(scores["frozen", preset]) for preset in sweeps.SETTINGS}
    heads = [f"{preset}, seed {' / '.join(map(str, seeds[preset]))}" if seeds[preset] else preset for preset in seeds]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]

    def cell(name: str, preset: str) -> str:
        found = scores[name, preset]
        figures = (f"{found[seed]:.1f}" if seed in found else "-" for seed in seeds[preset])
        return " / ".join(figures) if found else "not yet run"

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


def _mean_figure(rows: list[dict], name: str) -> float:
    """Mean over runs of a figure of the cross-modality positives at the last refresh."""
    return float(np.mean([row["last refresh"][f"align/cross/{name}"] for row in rows]))


PAGES: dict[Path, Callable[[], str]] = {README: headline, PAGE: render}


def insert(text: str, tables: str) -> str:
    """A page with these tables between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + tables + END + rest.split(END)[1]


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(insert(path.read_text(), make()))
