"""LLCM: single images of 1,064 people in nine cameras, each of which sees both modalities."""

import os
import re
from dataclasses import dataclass
from typing import Literal

from hitpro_jax.data.protocols import BOTH_WAYS, Directions, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

CAMERAS = range(1, 10)
INFRARED = tuple(camera for camera in CAMERAS if camera != 3)  # whose infrared test images are scored
_QUERIES = {"i2v": "ir", "v2i": "rgb"}  # modality of the queries of a direction


@dataclass(frozen=True)
class LlcmOptions:
    """Which of the published query lists and galleries are scored."""

    trial: pictures.Trial = pictures.EVERY  # seed of one drawn gallery; -1: the mean over 0 to 9, as published tables
    query: Literal["both", "ir", "rgb"] = "both"  # modality of the queries; their gallery has the other one


def load(root: str) -> Dataset:
    """Reads idx/train_{vis,nir}.txt, rows `path label`, camera in the name (..._c05_...); people in idx/test_id.txt.

    Query: all infrared images in test_nir/cam<c>/<person, 4 digits>/; gallery: all visible ones in test_vis. Each
    direction asks with all images of one side, and each trial draws one image of each person and camera from the other.
    To be scored with the camera rule. Reproduced: rank-1, mAP and mINP; the published CMC counts distinct people, so
    further ranks differ.

    Args:
      root: folder that holds idx/.

    Raises:
      FileNotFoundError: a list is missing.
      ValueError: a malformed row, an unknown camera, a path that leaves the root, a split without an image.

    Source: cameras, draw and camera rule of `process_query_llcm`, `process_gallery_llcm` (DEEN/data_manager.py) and
    `eval_llcm` (AGW/eval_metrics.py) in the set's own repository, github.com/ZYK100/LLCM: infrared test images are
    those of cameras 1, 2 and 4 to 9. For visible queries the test.py there asks with the images that were drawn and
    searches all others.
    Choice: all images of a side ask, in both directions, as other public loaders have it.
    """
    train = _train(root, "vis", RGB) + _train(root, "nir", IR)
    people = pictures.id_list(os.path.join(root, "idx", "test_id.txt"))
    query, gallery = (
        [r for pid in people for r in pictures.of_person(root, f"test_{kind}/cam{{}}", pid, cameras, modality)]
        for kind, cameras, modality in (("nir", INFRARED, IR), ("vis", CAMERAS, RGB))
    )
    return pictures.dataset("LLCM", root, train, query, gallery, (pictures.RANKS_NOTE,))


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
    return load(data.root)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: LlcmOptions) -> Protocol:
    wanted = {key: sides for key, sides in BOTH_WAYS.items() if own.query in ("both", _QUERIES[key])}

    def directions_of(trial: int) -> Directions:
        return {
            key: (asking, searched._replace(first_frames=pictures.drawn(getattr(dataset, searched.split), trial)))
            for key, (asking, searched) in wanted.items()
        }

    numbers = pictures.TEN if own.trial == pictures.EVERY else (own.trial,)
    return pictures.with_trials(protocol, numbers, directions_of)


SPEC = DatasetSpec(
    name="llcm",
    title="LLCM",
    options=LlcmOptions,
    load=_load,
    protocols=(Protocol("llcm", "same_person", BOTH_WAYS),),
    protocol_of=_protocol_of,
)
