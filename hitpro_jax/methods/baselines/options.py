"""Options of the baselines; their values are their papers'. `configs/base.py` reads them without starting JAX."""

from dataclasses import dataclass
from typing import Annotated

from hitpro_jax.options import Cosine, Count, NotNegative, Positive, Range, Share


@dataclass(frozen=True)
class ClusterOptions:
    """What all baselines that cluster have in common."""

    k1: Annotated[int, Range(2, 2**31 - 1)] = 30  # reciprocal neighbours
    k2: Count = 6  # neighbours averaged over, at most k1
    eps: Annotated[float, Range(0, 1, open_low=True)] = 0.6  # DBSCAN's distance
    min_samples: Count = 4
    temperature: Positive = 0.05
    momentum: Share = 0.1  # weight of the old centre
    positives: Count = 10  # members of the own cluster that batches draw from and diagnostics read

    def faults(self) -> list[str]:
        """Faults between fields, each to stand behind the section's name."""
        return [] if self.k2 <= self.k1 else [f"k2 is {self.k2}: give at most k1, which is {self.k1}"]


@dataclass(frozen=True)
class AdcaOptions:
    """ADCA."""

    begin: Share = 0.5  # share of training after which its second stage begins
    similarity: Cosine = 0.5  # cosine from which two samples vote for their clusters
    aggregation: Share = 0.1  # weight of the own centre


@dataclass(frozen=True)
class PgmOptions:
    """PGM; its `momentum` replaces that of `clusters`."""

    begin: Share = 0.5  # share of training after which its second stage begins
    momentum: Share = 0.2
    weight: NotNegative = 0.25  # of the cross contrast


@dataclass(frozen=True)
class CapOptions:
    """CAP; its first four fields replace those of `clusters`."""

    k1: Annotated[int, Range(2, 2**31 - 1)] = 20
    eps: Annotated[float, Range(0, 1, open_low=True)] = 0.5
    temperature: Positive = 0.07
    momentum: Share = 0.2
    begin: Share = 0.1  # share of training after which the inter-camera loss begins
    weight: NotNegative = 0.5  # of that loss
    hard_negatives: Count = 50


@dataclass(frozen=True)
class SdclOptions:
    """SDCL."""

    share: Annotated[float, Range(0, 1, open_high=True)] = 0.9  # of a row's largest cosine, to be a neighbour
    within: NotNegative = 1.0  # weight of neighbours of the own modality
    across: NotNegative = 0.5  # and of the other one
    begin: Share = 0.2  # share of training after which the latter begin
    instance_momentum: Share = 0.9  # weight of the old value in the memory of instances


@dataclass(frozen=True)
class SupervisedOptions:
    """The reference with labels; its `temperature` replaces that of `clusters`."""

    temperature: Positive = 0.07
    margin: Annotated[float, Range(0, 2)] = 0.2  # of the triplet term, in cosines
    triplet: NotNegative = 1.0  # weight of the triplet term


SECTIONS: dict[str, type] = {
    "clusters": ClusterOptions,
    "adca": AdcaOptions,
    "pgm": PgmOptions,
    "cap": CapOptions,
    "sdcl": SdclOptions,
    "supervised": SupervisedOptions,
}
"""Sections of the config."""
