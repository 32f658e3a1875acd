"""SYSU-MM01: single images of 491 people in four visible and two infrared cameras."""

import os
import random
from dataclasses import dataclass, replace
from typing import Literal

from hitpro_jax.data.protocols import GALLERY, QUERY, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import CountOrZero, DataOptions
from hitpro_jax.types import IR, RGB

VISIBLE, INFRARED, INDOOR = (1, 2, 4, 5), (3, 6), (1, 2)  # cameras
_SAME_PLACE = {3: 2}  # camera 3 stands where camera 2 does


@dataclass(frozen=True)
class SysuMm01Options:
    """Which of the published galleries is scored."""

    trial: CountOrZero = 1  # seed of the drawn gallery; published tables average 0 to 9
    gallery: Literal["all", "indoor"] = "all"  # cameras 1, 2, 4 and 5, or 1 and 2


def load(root: str, *, gallery: str = "all", trial: int = 0) -> Dataset:
    """Reads cam{1..6}/<person, 4 digits>/<n>.jpg, people in exp/{train,val,test}_id.txt; cameras 3 and 6 are infrared.

    Training: all images of the people of train_id and val_id. Query: all IR images of test_id. Gallery ("single shot"):
    one RGB image of each test person and camera, drawn like the public loaders do from random.Random(trial), whose
    tables average trials 0 to 9. Cameras 2 and 3 share a spot: test records of 3 get camera 2, and the protocol
    removes all gallery images of the query's camera.

    Reproduced: rank-1, mAP and mINP of one trial. Not reproduced: rank-5, -10 and -20, because the published CMC counts
    distinct people and ours images; the mean over ten trials; multi-shot.

    Args:
      root: folder that holds exp/ and cam1/ to cam6/.
      gallery: "all" (cameras 1, 2, 4, 5) or "indoor" (1, 2).
      trial: seed of the drawn gallery.

    Returns:
      The data set. A listed person without an image is passed over, as in the public loaders.

    Raises:
      FileNotFoundError: an id list is missing.
      ValueError: another gallery, a malformed list, a split without an image.
    """
    if gallery not in ("all", "indoor"):
        raise ValueError(f"data.sysu_mm01.gallery {gallery!r} is neither all nor indoor")
    people = {half: pictures.id_list(os.path.join(root, "exp", f"{half}_id.txt")) for half in ("train", "val", "test")}

    def images(pid: int, cameras: tuple[int, ...], modality: int) -> list[Record]:
        return pictures.of_person(root, "cam{}", pid, cameras, modality)

    train = [
        record
        for half in ("train", "val")
        for pid in people[half]
        for record in images(pid, VISIBLE, RGB) + images(pid, INFRARED, IR)
    ]
    query, drawn, rng = [], [], random.Random(trial)
    for pid in people["test"]:
        query += [replace(r, camid=_SAME_PLACE.get(r.camid, r.camid)) for r in images(pid, INFRARED, IR)]
        drawn += pictures.one_a_camera(images(pid, VISIBLE if gallery == "all" else INDOOR, RGB), rng)
    return pictures.dataset("SYSU-MM01", root, train, query, drawn, (pictures.RANKS_NOTE,))


def _load(data: DataOptions, own: SysuMm01Options) -> Dataset:
    return load(data.root, gallery=own.gallery, trial=own.trial)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: SysuMm01Options) -> Protocol:
    return replace(protocol, name=f"{protocol.name} {own.gallery} trial {own.trial}")


SPEC = DatasetSpec(
    name="sysu_mm01",
    title="SYSU-MM01",
    options=SysuMm01Options,
    load=_load,
    protocols=(Protocol("sysu_mm01", "same_camera", {"i2v": (QUERY, GALLERY)}),),
    protocol_of=_protocol_of,
)
