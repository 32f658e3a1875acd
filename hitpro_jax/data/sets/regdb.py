"""RegDB: single images of 412 people in one visible and one thermal camera."""

import os
from dataclasses import dataclass, replace
from typing import Annotated

from hitpro_jax.data.protocols import BOTH_WAYS, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions, Range
from hitpro_jax.types import IR, RGB


@dataclass(frozen=True)
class RegDBOptions:
    """Which of the published splits is used."""

    trial: Annotated[int, Range(1, 10)] = 1  # number of the split; published tables average 1 to 10


def load(root: str, *, trial: int = 1) -> Dataset:
    """Reads idx/{train,test}_{visible,thermal}_<trial>.txt, rows `path label`.

    Query: the thermal test images; gallery: the visible ones; the other direction swaps them, and both are complete.
    Published tables average trials 1 to 10: run each and average.

    Args:
      root: folder that holds idx/.
      trial: number of the split.

    Returns:
      The data set; camera 1 is the visible one, 2 the thermal one.

    Raises:
      FileNotFoundError: a list is missing.
      ValueError: a malformed row, a path that leaves the root or is listed twice; the message names file and line.
    """

    def images(half: str, kind: str, modality: int, camid: int) -> list[Record]:
        rows = pictures.image_list(os.path.join(root, "idx", f"{half}_{kind}_{trial}.txt"))
        return [Record((path,), modality, camid, pid) for _, path, pid in rows]

    visible, thermal = (images("train", "visible", RGB, 1), images("train", "thermal", IR, 2))
    query, gallery = (images("test", "thermal", IR, 2), images("test", "visible", RGB, 1))
    return pictures.dataset("RegDB", root, visible + thermal, query, gallery)


def _load(data: DataOptions, own: RegDBOptions) -> Dataset:
    return load(data.root, trial=own.trial)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: RegDBOptions) -> Protocol:
    return replace(protocol, name=f"{protocol.name} trial {own.trial}")


SPEC = DatasetSpec(
    name="regdb",
    title="RegDB",
    options=RegDBOptions,
    load=_load,
    protocols=(Protocol("regdb", "none", BOTH_WAYS),),
    protocol_of=_protocol_of,
)
