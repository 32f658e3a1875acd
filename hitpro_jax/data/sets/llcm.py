"""LLCM: single images of 1,064 people in nine cameras, each of which sees both modalities."""

import os
import random
import re
from dataclasses import dataclass, replace
from typing import Literal

from hitpro_jax.data.protocols import GALLERY, QUERY, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import CountOrZero, DataOptions
from hitpro_jax.types import IR, RGB

CAMERAS = range(1, 10)
_DIRECTION = {"ir": "i2v", "rgb": "v2i"}  # by the modality of the queries


@dataclass(frozen=True)
class LlcmOptions:
    """Which of the published query lists and galleries is scored."""

    trial: CountOrZero = 1  # seed of the drawn gallery; published tables average 0 to 9
    query: Literal["ir", "rgb"] = "ir"  # modality of the queries; the gallery has the other one


def load(root: str, *, query: str = "ir", trial: int = 0) -> Dataset:
    """Reads idx/train_{vis,nir}.txt, rows `path label`, camera in the name (..._c05_...); people in idx/test_id.txt.

    Query: all images of one modality in test_{vis,nir}/cam<c>/<person, 4 digits>/. Gallery: one image of the other
    modality of each test person and camera, drawn like the public loaders do from random.Random(trial). To be scored
    with the camera rule. Reproduced: rank-1, mAP and mINP of one trial and one direction; the published CMC counts
    distinct people, so further ranks differ.

    Args:
      root: folder that holds idx/.
      query: "ir" or "rgb"; training is the same.
      trial: seed of the drawn gallery.

    Raises:
      FileNotFoundError: a list is missing.
      ValueError: another query, a malformed row, an unknown camera, a path that leaves the root, a split without an
        image.
    """
    if query not in ("ir", "rgb"):
        raise ValueError(f"data.llcm.query {query!r} is neither ir nor rgb")
    train = _train(root, "vis", RGB) + _train(root, "nir", IR)
    # the other way round for visible queries
    asked, other = (("test_nir", IR), ("test_vis", RGB))[:: 1 if query == "ir" else -1]
    queries, drawn, rng = [], [], random.Random(trial)
    for pid in pictures.id_list(os.path.join(root, "idx", "test_id.txt")):
        queries += pictures.of_person(root, f"{asked[0]}/cam{{}}", pid, CAMERAS, asked[1])
        drawn += pictures.one_a_camera(pictures.of_person(root, f"{other[0]}/cam{{}}", pid, CAMERAS, other[1]), rng)
    return pictures.dataset("LLCM", root, train, queries, drawn, (pictures.RANKS_NOTE,))


def _train(root: str, kind: str, modality: int) -> list[Record]:
    path = os.path.join(root, "idx", f"train_{kind}.txt")
    records = []
    for number, image, pid in pictures.image_list(path):
        camera = re.search(r"_c([0-9]{1,9})_", image)
        if camera is None or int(camera[1]) not in CAMERAS:
            raise ValueError(f"{path}:{number}: {image!r} names no camera from c01 to c09: restore the file")
        records.append(Record((image,), modality, int(camera[1]), pid))
    return records


def _load(data: DataOptions, own: LlcmOptions) -> Dataset:
    return load(data.root, query=own.query, trial=own.trial)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: LlcmOptions) -> Protocol:
    directions = {_DIRECTION[own.query]: (QUERY, GALLERY)}
    return replace(protocol, name=f"{protocol.name} trial {own.trial}", directions=directions)


SPEC = DatasetSpec(
    name="llcm",
    title="LLCM",
    options=LlcmOptions,
    load=_load,
    protocols=(Protocol("llcm", "same_person", {"i2v": (QUERY, GALLERY)}),),
    protocol_of=_protocol_of,
)
