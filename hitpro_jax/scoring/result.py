"""The scores of one encoder by one protocol, as files, tables and logs have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

HEADLINE = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
Scores = Mapping[str, Mapping[str, Any]]
"""By direction, as `scores.score` gives them."""


class Spread(NamedTuple):
    """A figure in percent over several trials."""

    mean: float
    std: float  # of the sample


@dataclass(frozen=True)
class Result:
    """Scores of every direction of a protocol, of one set of rows or of several trials of them."""

    protocol: str  # its name
    setting: str  # what the figures depend on besides the model; "" if nothing was scored
    rows_changed: str  # what makes the scored rows other than the published ones; "" for nothing
    step: int  # optimiser steps of the encoder
    scores: Scores  # those of the first trial, if there are several; empty if nothing was scored
    titles: Mapping[str, str] = field(default_factory=dict)  # of directions, for people; default: the key itself
    trials: Mapping[int, Scores] = field(default_factory=dict)  # by number; empty: there is one set of rows

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """The figures in percent by direction; of several trials the means."""
        if not self.trials:
            return _figures(self.scores)
        return {key: {name: spread.mean for name, spread in found.items()} for key, found in self.spread.items()}

    @property
    def spread(self) -> dict[str, dict[str, Spread]]:
        """Mean and deviation over the trials by direction; empty where there is one set of rows."""
        found = [_figures(scores) for scores in self.trials.values()]
        return {
            key: {name: _spread([figures[key][name] for figures in found]) for name in HEADLINE}
            for key in (self.scores if found else ())
        }

    def to_json(self) -> dict[str, Any]:
        """What result.json holds: protocol, setting (if anything was scored), step, and the headline's directions.

        Of several trials also `std`, the deviation of each of these figures, and `trials`, the figures of each.
        """
        setting = {"setting": self.setting} if self.setting else {}
        content = {"protocol": self.protocol, **setting, "step": self.step, **self.headline}
        if self.trials:
            content["std"] = {
                key: {name: spread.std for name, spread in found.items()} for key, found in self.spread.items()
            }
            content["trials"] = [{"trial": number, **_figures(scores)} for number, scores in self.trials.items()]
        return content

    def rows(self) -> list[tuple[str, Mapping[str, float | Spread]]]:
        """Title and figures in percent of each direction, for tables."""
        return [(self.titles.get(key, key), figures) for key, figures in (self.spread or self.headline).items()]

    def metrics(self) -> dict[str, float]:
        """The figures by the names that metrics.jsonl has, such as "eval/i2v/mAP"."""
        return {f"eval/{key}/{name}": value for key, found in self.headline.items() for name, value in found.items()}

    def summary(self) -> str:
        """One line for the log."""
        directions = "; ".join(
            f"{key} rank-1 {found['rank1']:.1f} mAP {found['mAP']:.1f} ({self.scores[key]['valid'].sum()} queries)"
            for key, found in self.headline.items()
        )
        return f"step {self.step}, {self.protocol} ({self.setting}): {directions}"


def _figures(scores: Scores) -> dict[str, dict[str, float]]:
    """The figures in percent by direction."""
    return {key: {name: float(found[name]) for name in HEADLINE} for key, found in scores.items()}


def _spread(values: list[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)))
