"""Rows of results: one for each run of a sweep, and tables of them.

Rows of earlier releases stay in the files as they were written; `load` gives the fields of their configs today's names.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from configs import base
from hitpro_jax import legacy, options

CROSS = "i2v", "v2i", "ir2rgb", "rgb2ir"  # how the keys of directions between the modalities begin
# Which figures a row has: of the last refresh those whose names end so, and of every refresh these.
SAVED_ENDINGS = ("precision", "_any", "per_tracklet")
FOLLOWED = ("align/within/precision", "align/cross/precision", "align/cross/recall_any", "clusters/purity")


def load(path: Path) -> list[dict]:
    """The rows of a file of results, of any release; none where there is no such file."""
    rows = json.loads(path.read_text()) if path.exists() else []
    return [row | {"config": legacy.upgraded_fields(row["config"])} if "config" in row else row for row in rows]


def record(variant: str, seed: str, workdir: Path, minutes: float | None) -> dict:
    """One row of the results: first and last evaluation of a finished run, its refreshes, config and environment."""
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((workdir / "result.json").read_text())
    environment = json.loads((workdir / "env.json").read_text())
    refreshes = [m for m in metrics if "align/within/precision" in m] or [{}]  # frozen: no refresh
    last = {
        name: round(value, 3)
        for name, value in refreshes[-1].items()
        if name.startswith("align/") and name.endswith(SAVED_ENDINGS) or "purity" in name
    }
    every = {name: [round(refresh[name], 3) for refresh in refreshes] for name in FOLLOWED if name in last}
    return {
        "variant": variant,
        "seed": int(seed),
        "result": result,
        "step": result["step"],
        "minutes": minutes,
        "frozen": {key: metrics[0][f"eval/{key}/mAP"] for key in scored(result)},
        "last refresh": last,
        "every refresh": every,
        "config": changed(json.loads((workdir / "config.json").read_text())),
        "commit": environment["git"],
        "devices": environment["devices"],
        "cores": environment.get("cores"),
        "processor": environment.get("processor"),
    }


def changed(config: dict) -> dict:
    """Fields of a run's config that are not as in `configs/base.py`, by their names on the command line."""
    usual = options.flat(json.loads(base.get_config().to_json_best_effort()))
    found = legacy.upgraded_fields(options.flat(config))
    return {name: value for name, value in found.items() if name not in usual or usual[name] != value}


def folder_of(variant: str) -> str:
    """Name of the folder below which a variant's runs lie."""
    return variant.replace(" ", "_")


def averaged(directions: Iterable[str]) -> list[str]:
    """Those of the directions that a mean is over: between the modalities; all of them where none is.

    >>> averaged(["i2v", "v2i", "v2v"]), averaged(["all"])
    (['i2v', 'v2i'], ['all'])
    """
    every = list(directions)
    return [key for key in every if key.startswith(CROSS)] or every


def directions_of(rows: Iterable[dict]) -> list[str]:
    """The averaged directions of all rows."""
    return list(dict.fromkeys(key for row in rows for key in averaged(scored(row["result"]))))


def scores(row: dict) -> tuple[float, ...]:
    """mAP of the averaged directions of a row of `record`; none where nothing is labelled."""
    found = scored(row["result"])
    return tuple(found[key]["mAP"] for key in averaged(found))


def frozen_scores(row: dict) -> tuple[float, ...]:
    """The same of the run's first evaluation, before any training."""
    return tuple(row["frozen"][key] for key in averaged(row["frozen"]))


def scored(result: Mapping) -> dict[str, Mapping]:
    """The directions of a result; what else it may hold are deviations over trials, and the trials."""
    return {key: value for key, value in result.items() if isinstance(value, Mapping) and "mAP" in value}


def uncommitted(row: dict) -> bool:
    """Whether the code of a run was another than that of the commit that its row names."""
    return (row["commit"] or "").endswith("-dirty")


def short_commit(row: dict) -> str:
    """The first digits of a row's commit, and whether the code had changed since."""
    return (row["commit"] or "unknown")[:7] + "-dirty" * uncommitted(row)


def markdown(rows: list[dict], variants: list[str]) -> list[str]:
    """A Markdown table: a line a variant, a column a seed, mean and deviation over seeds where all were run.

    The standard deviation is that of a sample (n - 1). Where the frozen encoder is no variant itself, its scores are
    those of a run's first evaluation. Means are over the directions that the last column names. Sentences below the
    table name rows of uncommitted code, and variants that the seed did not change.
    """
    found = {(row["variant"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    cells = {
        name: [scores(found[name, seed]) if (name, seed) in found else None for seed in seeds] for name in variants
    }
    if "frozen" not in variants:
        starts = {row["seed"]: frozen_scores(row) for row in rows}
        cells = {"frozen encoder": [starts[seed] for seed in seeds], **cells}
    mean = f"mean of {' and '.join(directions_of(rows))}" if directions_of(rows) else "mean"
    lines = ["| | " + " | ".join(f"seed {s}" for s in seeds) + f" | {mean} |", "|---" * (len(seeds) + 2) + "|"]
    for name, runs in cells.items():
        texts = [
            "not yet run" if run is None else " / ".join(f"{score:.1f}" for score in run) or "no labels" for run in runs
        ]
        lines.append(f"| {name} | " + " | ".join(texts) + f" | {_spread(runs)} |")
    warnings = [*unchanged(rows), *uncommitted_rows(rows)]
    return [*lines, *(line for warning in warnings for line in ("", warning))]


def _spread(runs: list[tuple | None]) -> str:
    if not all(runs):
        return "-"
    means = [np.mean(run) for run in runs]
    # equal results are not several: they have no deviation
    several = len(set(runs)) == len(runs) > 1
    return f"{np.mean(means):.1f}" + (f" ± {np.std(means, ddof=1):.1f}" if several else "")


def unchanged(rows: Iterable[dict]) -> list[str]:
    """A warning for each variant that has the same scores on several seeds."""
    seeds: dict[tuple, list[int]] = {}
    for row in rows:
        if scores(row):
            seeds.setdefault((row["variant"], scores(row)), []).append(row["seed"])
    return [
        f"**Warning**: {variant} has the same results on seeds {', '.join(map(str, sorted(same)))}: "
        "the seed changes nothing there, and these count as one run."
        for (variant, _), same in seeds.items()
        if len(same) > 1
    ]


def uncommitted_rows(rows: list[dict]) -> list[str]:
    """A sentence that names the rows whose code is in no commit; none where there are none."""
    seeds: dict[str, list[int]] = {}
    for row in filter(uncommitted, rows):
        seeds.setdefault(row["variant"], []).append(row["seed"])
    if not seeds:
        return []
    names = "; ".join(f"{variant} (seed {', '.join(map(str, sorted(of)))})" for variant, of in seeds.items())
    number = sum(map(len, seeds.values()))
    return [f"**Code that is in no commit** made {number} of {len(rows)} rows, so they cannot be made again: {names}."]


def flat(row: dict) -> dict:
    """One line of the CSV; its mean is over the directions that its name has, and absent where nothing is labelled."""
    figures = {
        f"{way} {name}": value
        for way, result in scored(row["result"]).items()
        for name, value in result.items()
        if np.isscalar(value)
    }
    mean = (
        {f"mean mAP of {' and '.join(directions_of([row]))}": round(float(np.mean(scores(row))), 3)}
        if scores(row)
        else {}
    )
    return {
        "variant": row["variant"],
        "seed": row["seed"],
        **mean,
        **figures,
        **row["last refresh"],
        "step": row["step"],
        "commit": row["commit"],
    }
