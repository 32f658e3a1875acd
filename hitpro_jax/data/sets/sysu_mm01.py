"""SYSU-MM01: single images of 491 people in four visible and two infrared cameras."""

import os
from dataclasses import dataclass, replace
from typing import Literal

from hitpro_jax.data.protocols import GALLERY, QUERY, Directions, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

VISIBLE, INFRARED = (1, 2, 4, 5), (3, 6)  # cameras
SEARCHES = {"i2v": ("all", VISIBLE), "i2v_indoor": ("indoor", (1, 2))}  # direction: name and cameras of its gallery
SHOTS = {"single": 1, "multi": 10}
_SAME_PLACE = {3: 2}  # camera 3 stands where camera 2 does


@dataclass(frozen=True)
class SysuMm01Options:
    """Which of the published galleries are scored."""

    trial: pictures.Trial = pictures.EVERY  # seed of one drawn gallery; -1: the mean over 0 to 9, as published tables
    gallery: Literal["both", "all", "indoor"] = "both"  # of cameras 1, 2, 4 and 5 (i2v), of 1 and 2 (i2v_indoor)
    shots: Literal["single", "multi"] = "single"  # gallery images of a person and camera: 1 or 10


def load(root: str) -> Dataset:
    """Reads cam{1..6}/<person, 4 digits>/<n>.jpg, people in exp/{train,val,test}_id.txt; cameras 3 and 6 are infrared.

    Training: all images of the people of train_id and val_id. Query: all IR images of test_id; gallery: all their RGB
    images, from which each trial draws. Cameras 2 and 3 share a spot: test records of 3 get camera 2, and the protocol
    removes all gallery images of the query's camera.

    Reproduced: rank-1, mAP and mINP of "single shot", drawn as in `pictures.drawn`, in all-search and indoor-search.
    Not reproduced: rank-5, -10 and -20, because the published CMC counts distinct people and ours images; the draws of
    rand_perm_cam.mat, which the set's own code takes; for "multi shot" the public loaders' draws, which no seed fixes.

    Args:
      root: folder that holds exp/ and cam1/ to cam6/.

    Returns:
      The data set. A listed person without an image is passed over, as in the public loaders.

    Raises:
      FileNotFoundError: an id list is missing.
      ValueError: a malformed list, a split without an image.
    """
    people = {half: pictures.id_list(os.path.join(root, "exp", f"{half}_id.txt")) for half in ("train", "val", "test")}

    def images(half: str, cameras: tuple[int, ...], modality: int) -> list[Record]:
        return [r for pid in people[half] for r in pictures.of_person(root, "cam{}", pid, cameras, modality)]

    halves = "train", "val"
    train = [r for half in halves for r in images(half, VISIBLE, RGB) + images(half, INFRARED, IR)]
    query = [replace(r, camid=_SAME_PLACE.get(r.camid, r.camid)) for r in images("test", INFRARED, IR)]
    return pictures.dataset("SYSU-MM01", root, train, query, images("test", VISIBLE, RGB), (pictures.RANKS_NOTE,))


def _load(data: DataOptions, own: SysuMm01Options) -> Dataset:
    return load(data.root)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: SysuMm01Options) -> Protocol:
    searches = {key: cameras for key, (name, cameras) in SEARCHES.items() if own.gallery in ("both", name)}

    def directions_of(trial: int) -> Directions:
        galleries = {
            key: pictures.drawn((r for r in dataset.gallery if r.camid in cameras), trial, SHOTS[own.shots])
            for key, cameras in searches.items()
        }
        return {key: (QUERY, GALLERY._replace(first_frames=frames)) for key, frames in galleries.items()}

    numbers = pictures.TEN if own.trial == pictures.EVERY else (own.trial,)
    gallery = "" if own.gallery == "both" else f" {own.gallery}"
    shots = "" if own.shots == "single" else " multi-shot"
    return pictures.with_trials(replace(protocol, name=f"{protocol.name}{gallery}{shots}"), numbers, directions_of)


SPEC = DatasetSpec(
    name="sysu_mm01",
    title="SYSU-MM01",
    options=SysuMm01Options,
    load=_load,
    protocols=(Protocol("sysu_mm01", "same_camera", {"i2v": (QUERY, GALLERY)}),),
    protocol_of=_protocol_of,
    titles={"i2v_indoor": "infrared to visible, indoor"},
)
