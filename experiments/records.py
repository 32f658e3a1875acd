"""Rows of results: one for each run of a sweep, and tables of them.

Rows of earlier releases stay in the files as they were written; `load` gives the fields of their configs today's names.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from configs import base
from hitpro_jax import legacy

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
    directions = directions_of(result)
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
        "frozen": {key: metrics[0][f"eval/{key}/mAP"] for key in directions},
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
    usual = dict(_fields(json.loads(base.get_config().to_json_best_effort())))
    found = legacy.upgraded_fields(dict(_fields(config)))
    return {name: value for name, value in found.items() if name not in usual or usual[name] != value}


def _fields(config: dict, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{above}{name}.")
        else:
            yield above + name, value


def folder_of(variant: str) -> str:
    """Name of the folder below which a variant's runs lie."""
    return variant.replace(" ", "_")


def directions_of(result: dict) -> list[str]:
    """Keys of a result's directions; what else it may hold are deviations over trials, and the trials."""
    return [key for key, value in result.items() if isinstance(value, dict) and "mAP" in value]


def scores(row: dict) -> tuple[float, ...]:
    """mAP of every direction of a row of `record`."""
    return tuple(row["result"][key]["mAP"] for key in directions_of(row["result"]))


def markdown(rows: list[dict], variants: list[str]) -> list[str]:
    """A Markdown table: a line a variant, a column a seed, mean and deviation over seeds where all were run.

    The standard deviation is that of a sample (n - 1). Where the frozen encoder is no variant itself, its scores are
    those of a run's first evaluation.
    """
    found = {(row["variant"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    cells = {
        name: [scores(found[name, seed]) if (name, seed) in found else None for seed in seeds] for name in variants
    }
    if "frozen" not in variants:
        starts = {row["seed"]: tuple(row["frozen"].values()) for row in rows}
        cells = {"frozen encoder": [starts[seed] for seed in seeds], **cells}
    lines = ["| | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |", "|---" * (len(seeds) + 2) + "|"]
    for name, runs in cells.items():
        texts = [
            "not yet run" if run is None else " / ".join(f"{score:.1f}" for score in run) or "no labels" for run in runs
        ]
        lines.append(f"| {name} | " + " | ".join(texts) + f" | {_spread(runs)} |")
    return lines


def _spread(runs: list[tuple | None]) -> str:
    if not all(runs):
        return "-"
    means = [np.mean(run) for run in runs]
    return f"{np.mean(means):.1f}" + (f" ± {np.std(means, ddof=1):.1f}" if len(means) > 1 else "")


def flat(row: dict) -> dict:
    """One line of the CSV."""
    figures = {
        f"{way} {name}": value
        for way, result in row["result"].items()
        if isinstance(result, dict)
        for name, value in result.items()
        if np.isscalar(value)
    }
    return {
        "variant": row["variant"],
        "seed": row["seed"],
        "mean mAP": round(float(np.mean(scores(row))), 3),
        **figures,
        **row["last refresh"],
        "step": row["step"],
        "commit": row["commit"],
    }
