"""Writes the figures of experiments/results into docs/results.md (all tables) and README.md (five rows).

python -m experiments.report            # rewrites both, between their two marks
"""

import itertools
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
    ("evidence", "thresholds"): "Dynamic thresholds and fixed bars of equal recall, of the own world and of another",
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
    studies = {"components": _rungs, "additions": _against, "parts": _against, "thresholds": _mined}
    for (config, sweep), title in SWEEPS.items():
        sections += [[f"### `{sweep}`"], _sweep(config, sweep, title)]
        if rows := _rows(f"{config}/{sweep}"):
            sections.append(studies.get(sweep, lambda *_: [])(config, sweep, rows))
    sections += [["### `settings`"], _settings()]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _rows(name: str) -> list[dict]:
    return records.load(RESULTS / f"{name}.json")


def _calibration() -> list[str]:
    path = RESULTS / "synthetic" / "calibration.json"
    if not path.exists():
        return ["Calibration of the synthetic world: not yet run (`python -m experiments.calibrate`)."]
    table = json.loads(path.read_text())
    worlds = {name: row for name, row in table.items() if name.startswith("seed")}
    names = list(dict.fromkeys(name for row in worlds.values() for name in row))
    lines = [
        (
            "The synthetic world, mean of both directions' mAP in % on unseen people "
            "(`python -m experiments.calibrate`); precision is that of the positives at the first refresh:"
        ),
        "",
        "| data seed | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    everywhere = [name for name in names if all(name in row for row in worlds.values())]
    rows = {**worlds, "mean": {name: np.mean([row[name] for row in worlds.values()]) for name in everywhere}}
    for seed, row in rows.items():
        cells = ((f"{row[n]:.2f}" if "precision" in n else f"{row[n]:.1f}") if n in row else "-" for n in names)
        lines.append(f"| {seed.removeprefix('seed ')} | " + " | ".join(cells) + " |")
    return [*lines, "", _calibrated_at(table.get("commit"))]


def _calibrated_at(commit: str | None) -> str:
    if commit:
        return f"Commit {records.short_commit({'commit': commit})}."
    return (
        "**The file names no commit.** It is older than the mining of today (comparison relative to views, balance): "
        "its two columns of precision are not those of the present code."
    )


def _sweep(config: str, sweep: str, title: str) -> list[str]:
    rows = _rows(f"{config}/{sweep}")
    command = f"python -m experiments.sweep --config=configs/{config}.py --sweep={sweep}"
    if not rows:
        return [f"{title}: not yet run (`{command}`)."]
    lines = [
        (
            f"{title}, mAP in % (infrared to visible / visible to infrared) at the last step, "
            f"no best epoch picked; standard deviation over seeds "
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
    commits = sorted(set(map(records.short_commit, rows)))
    devices = sorted({", ".join(f"{n} x {kind}" for kind, n in row["devices"].items()) for row in rows})
    host = "; ".join(
        f"{name}: " + ", ".join(sorted({str(row.get(name) or "unrecorded") for row in rows}))
        for name in ("cores", "processor")
    )
    return (
        f"{len(rows)} runs, {timed}, beside other work, on {'; '.join(devices)} ({host}); commits {', '.join(commits)}."
    )


def references(config: str) -> dict[int, list[float]]:
    """Mean mAP of all runs of the config as it is, by seed, the highest first; rows that repeat a run count once."""
    found: dict[int, set] = {}
    for name, sweep in sweeps.SWEEPS.items():
        unchanged = [variant for variant, overrides in sweep() if not overrides]
        for row in _rows(f"{config}/{name}"):
            if row["variant"] in unchanged and records.scores(row):
                found.setdefault(row["seed"], set()).add(records.scores(row))
    return {seed: sorted((float(np.mean(run)) for run in runs), reverse=True) for seed, runs in found.items()}


def chance(config: str) -> float | None:
    """The largest difference in mAP of two runs of the config as it is; None where no seed has two."""
    spreads = [means[0] - means[-1] for means in references(config).values() if len(means) > 1]
    return max(spreads, default=None)


def verdict(differences: list[float], by_chance: float | None) -> str:
    """What differences of single runs show, against that of two runs of one config.

    >>> verdict([5.0, 4.5], 4.0), verdict([5.0, 3.0], 4.0), verdict([5.0, -0.1], 4.0), verdict([5.0], None)
    ('more than chance', 'one sign, within chance', 'not shown', 'not shown')
    """
    if by_chance is None or not (min(differences) > 0 or max(differences) < 0):
        return "not shown"
    return "more than chance" if min(map(abs, differences)) > by_chance else "one sign, within chance"


def _against(config: str, sweep: str, rows: list[dict]) -> list[str]:
    """Differences of a sweep's variants to every run of the config as it is."""
    found, by_chance = references(config), chance(config)
    seeds = sorted({row["seed"] for row in rows} & found.keys())
    means = {(row["variant"], row["seed"]): np.mean(records.scores(row)) for row in rows if records.scores(row)}
    heads = [f"seed {seed}, to {' / '.join(f'{mean:.1f}' for mean in found[seed])}" for seed in seeds]
    lines = [
        "The same as differences to every run of the config as it is, in points of the directions' mean:",
        "",
        "| | " + " | ".join(heads) + " | |",
        "|---" * (len(seeds) + 2) + "|",
    ]
    for variant, overrides in sweeps.SWEEPS[sweep]():
        there = [seed for seed in seeds if (variant, seed) in means]
        if overrides and there:
            differences = {seed: [float(means[variant, seed] - mean) for mean in found[seed]] for seed in there}
            cells = [" / ".join(f"{d:+.1f}" for d in differences[seed]) if seed in there else "-" for seed in seeds]
            every = [each for of in differences.values() for each in of]
            lines.append(f"| {variant} | " + " | ".join(cells) + f" | {verdict(every, by_chance)} |")
    return [*lines, "", _what_chance_is(by_chance)]


def _rungs(config: str, sweep: str, rows: list[dict]) -> list[str]:
    """What each rung of the ladder adds to the one below it."""
    means = {(row["variant"], row["seed"]): np.mean(records.scores(row)) for row in rows if records.scores(row)}
    seeds, by_chance = sorted({row["seed"] for row in rows}), chance(config)
    lines = [
        "What each rung adds to the one above it in the table, in points of the directions' mean:",
        "",
        "| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | |",
        "|---" * (len(seeds) + 3) + "|",
    ]
    for below, rung in itertools.pairwise(name for name, _ in sweeps.SWEEPS[sweep]()):
        if all((name, seed) in means for name in (below, rung) for seed in seeds):
            added = [float(means[rung, seed] - means[below, seed]) for seed in seeds]
            cells = " | ".join(f"{each:+.1f}" for each in [*added, np.mean(added)])
            lines.append(f"| {rung} | {cells} | {verdict(added, by_chance)} |")
    return [*lines, "", _what_chance_is(by_chance)]


def _what_chance_is(by_chance: float | None) -> str:
    if by_chance is None:
        return "*Not shown: no seed has two runs of the config as it is, so nothing says what chance does.*"
    return (
        f'*Two runs of the config as it is differ by up to {by_chance:.1f} on one seed: "more than chance" is a '
        'difference of one sign that exceeds this on every seed and against every such run; "not shown" changes sign.*'
    )


def _mined(config: str, sweep: str, rows: list[dict]) -> list[str]:
    """What the thresholds of each variant let through at the last refresh, means over seeds."""
    names = [f"{stage}/{name}" for stage in ("within", "cross") for name in ("per_tracklet", "precision", "recall_any")]
    lines = [
        (
            "Positives at the last refresh, means over seeds: how many a tracklet, how many of them are right, and the "
            "share of the tracklets with a right one; first within (stage 1), then across the modalities (stage 2):"
        ),
        "",
        "| | fixed bars | within: a tracklet | right | found | across: a tracklet | right | found |",
        "|---" * 8 + "|",
    ]
    for variant, _ in sweeps.SWEEPS[sweep]():
        of = [row for row in rows if row["variant"] == variant]
        bars = [
            " and ".join(f"{row['config'][f'{stage}.fixed']:.2f}" for stage in ("within", "across"))
            for row in of
            if "within.fixed" in row["config"] and "across.fixed" in row["config"]
        ]
        cells = [", ".join(bars) or "-", *(_figure(of, f"align/{name}") for name in names)]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return lines


def _common_worlds(rows: list[dict]) -> list[int]:
    """Data seeds on which every method of the comparison was run."""
    scored = [row for row in rows if records.scores(row)]
    seeds = [{row["seed"] for row in scored if row["variant"] == name} for name, _ in sweeps.baselines()]
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
            f"At its last refresh {_figure(ours, 'align/cross/precision')} of its cross-modality positives are "
            "right; of the tracklets with a true match in the other modality "
            f"{_figure(ours, 'align/cross/recall_any')} have a right one."
        ),
    ]


def _ahead(sweep: str) -> list[str]:
    """One sentence that names every unsupervised baseline that is ahead of HiTPro on a world and direction."""
    rows = _rows(f"evidence/{sweep}")
    rows = [row for row in rows if records.scores(row)]
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
        if records.scores(row):
            scores[name, preset][row["seed"]] = np.mean(records.scores(row))
            scores["frozen", preset][row["seed"]] = np.mean(records.frozen_scores(row))  # any run's first evaluation
    lines = [
        f"Harder worlds, mean of both directions' mAP in % (`{command}`):",
        "",
        *_settings_table(scores),
        "",
        *records.uncommitted_rows(every),
        _provenance(every),
        _ahead_on_settings(scores),
    ]
    if plain := [row for row in rows if row["variant"] == "HiTPro, open_set"]:
        lines += [
            (
                "On `open_set`, at its last refresh, HiTPro gives a (false) positive of the other modality to "
                f"{_figure(plain, 'align/cross/false_any')} of the tracklets whose person is seen in one modality "
                f"alone, and a right one to {_figure(plain, 'align/cross/recall_any')} of those with a true match."
            )
        ]
    if stricter := [row for row in every if row["variant"] == sweeps.STRICTER]:
        score = np.mean([np.mean(records.scores(row)) for row in stricter])
        lines += [
            (
                "With `across.kappa=(0.5, 0.5)`, chosen on data seed 0, these are "
                f"{_figure(stricter, 'align/cross/false_any')} and {_figure(stricter, 'align/cross/recall_any')}, "
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
    by_chance = chance("evidence")
    note = f" Differences of up to {by_chance:.1f} on one seed are chance." if ahead and by_chance else ""
    return f"**Ahead of HiTPro** there: {'; '.join(ahead) or 'none of those run'}.{note}"


def _figure(rows: list[dict], name: str) -> str:
    """Mean over the runs that have it of a figure of the last refresh; "-" where none has."""
    found = [row["last refresh"][name] for row in rows if name in row["last refresh"]]
    return f"{np.mean(found):.2f}" if found else "-"


PAGES: dict[Path, Callable[[], str]] = {README: headline, PAGE: render}


def insert(text: str, tables: str) -> str:
    """A page with these tables between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + tables + END + rest.split(END)[1]


if __name__ == "__main__":
    for path, make in PAGES.items():
        path.write_text(insert(path.read_text(), make()))
