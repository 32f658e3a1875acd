"""The scores of one encoder by one protocol, as files, tables and logs have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEADLINE = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


@dataclass(frozen=True)
class Result:
    """Scores of every direction of a protocol."""

    protocol: str  # its name
    setting: str  # what the figures depend on besides the model; "" if nothing was scored
    rows_changed: str  # what makes the scored rows other than the published ones; "" for nothing
    step: int  # optimiser steps of the encoder
    scores: Mapping[str, Mapping[str, Any]]  # by direction, as `scores.score` gives them; empty if nothing was scored
    titles: Mapping[str, str] = field(default_factory=dict)  # of directions, for people; default: the key itself

    @property
    def headline(self) -> dict[str, dict[str, float]]:
        """The figures in percent by direction."""
        return {key: {name: float(found[name]) for name in HEADLINE} for key, found in self.scores.items()}

    def to_json(self) -> dict[str, Any]:
        """What result.json holds: protocol, setting (if anything was scored), step, and the headline's directions."""
        setting = {"setting": self.setting} if self.setting else {}
        return {"protocol": self.protocol, **setting, "step": self.step, **self.headline}

    def rows(self) -> list[tuple[str, dict[str, float]]]:
        """Title and figures in percent of each direction, for tables."""
        return [(self.titles.get(key, key), figures) for key, figures in self.headline.items()]

    def metrics(self) -> dict[str, float]:
        """The figures by the names that metrics.jsonl has, such as "eval/i2v/mAP"."""
        return {f"eval/{key}/{name}": value for key, found in self.headline.items() for name, value in found.items()}

    def summary(self) -> str:
        """One line for the log."""
        directions = "; ".join(
            f"{key} rank-1 {found['rank1']:.1f} mAP {found['mAP']:.1f} ({found['valid'].sum()} queries)"
            for key, found in self.scores.items()
        )
        return f"step {self.step}, {self.protocol} ({self.setting}): {directions}"
