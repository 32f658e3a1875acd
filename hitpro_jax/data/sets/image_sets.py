"""SYSU-MM01, RegDB and LLCM: sets of single images, each of which becomes a tracklet of one frame.

They show whether the method works at all where others report figures; time has nothing to say in them.
"""

import os
import random
import re
from collections.abc import Sequence

from hitpro_jax.data import listing
from hitpro_jax.data.records import Dataset, Record, count
from hitpro_jax.types import IR, RGB

SYSU_RGB, SYSU_IR, SYSU_INDOOR = (1, 2, 4, 5), (3, 6), (1, 2)
LLCM_CAMERAS = range(1, 10)


def load_sysu_mm01(root: str, *, gallery: str = "all", trial: int = 0) -> Dataset:
    """SYSU-MM01: cam{1..6}/<person, 4 digits>/<n>.jpg, people in exp/{train,val,test}_id.txt; cameras 3 and 6 are IR.

    Training: all images of the people of train_id and val_id. Query: all IR images of test_id. Gallery ("single shot"):
    one RGB image of each test person and camera, drawn like the public loaders do from random.Random(trial), whose
    tables average trials 0 to 9. Cameras 2 and 3 stand in one place: test records of 3 get camera 2, and the protocol
    removes all gallery images of the query's camera.

    Reproduced: rank-1, mAP and mINP of one trial. Not reproduced: rank-5, -10 and -20, because the published CMC counts
    distinct people and ours images; the mean over ten trials; multi-shot.

    Args:
      root: folder that holds exp/ and cam1/ to cam6/.
      gallery: "all" (cameras 1, 2, 4, 5) or "indoor" (1, 2).
      trial: seed of the drawn gallery.

    Raises:
      FileNotFoundError: an id list is missing.
      ValueError: another gallery, a malformed list, a split without an image. A listed person without one is passed
        over, as in the public loaders.
    """
    if gallery not in ("all", "indoor"):
        raise ValueError(f"data.gallery {gallery!r} is neither all nor indoor")
    people = {half: _id_list(os.path.join(root, "exp", f"{half}_id.txt")) for half in ("train", "val", "test")}
    train = [
        record
        for half in ("train", "val")
        for pid in people[half]
        for record in _person(root, "cam{}", pid, SYSU_RGB, RGB) + _person(root, "cam{}", pid, SYSU_IR, IR)
    ]
    query, drawn, rng = [], [], random.Random(trial)
    for pid in people["test"]:
        query += [
            Record(r.frames, IR, {3: 2}.get(r.camid, r.camid), pid) for r in _person(root, "cam{}", pid, SYSU_IR, IR)
        ]
        cameras = SYSU_RGB if gallery == "all" else SYSU_INDOOR
        drawn += _one_a_camera(_person(root, "cam{}", pid, cameras, RGB), rng)
    return _dataset(
        "SYSU-MM01",
        root,
        train,
        query,
        drawn,
        ("rank-5, -10 and -20 count images, where published figures count people: compare rank-1, mAP and mINP",),
    )


def load_regdb(root: str, *, trial: int = 1) -> Dataset:
    """RegDB: idx/{train,test}_{visible,thermal}_<trial>.txt, rows `path label`; one visible and one thermal camera.

    Query: the thermal test images; gallery: the visible ones; the other direction swaps them, and both are complete.
    Published tables average trials 1 to 10: run each and average.

    Raises:
      FileNotFoundError: a list is missing.
      ValueError: a malformed row, a path that leaves the root or is listed twice; the message names file and line.
    """

    def images(half: str, kind: str, modality: int, camid: int) -> list[Record]:
        rows = _image_list(os.path.join(root, "idx", f"{half}_{kind}_{trial}.txt"))
        return [Record((path,), modality, camid, pid) for _, path, pid in rows]

    visible, thermal = (images("train", "visible", RGB, 1), images("train", "thermal", IR, 2))
    query, gallery = (images("test", "thermal", IR, 2), images("test", "visible", RGB, 1))
    return _dataset("RegDB", root, visible + thermal, query, gallery)


def load_llcm(root: str, *, query: str = "ir", trial: int = 0) -> Dataset:
    """LLCM: idx/train_{vis,nir}.txt, rows `path label`, camera in the name (..._c05_...); people in idx/test_id.txt.

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
        raise ValueError(f"data.query {query!r} is neither ir nor rgb")
    train = _llcm_train(root, "vis", RGB) + _llcm_train(root, "nir", IR)
    asked, other = (("test_nir", IR), ("test_vis", RGB))[:: 1 if query == "ir" else -1]
    queries, drawn, rng = [], [], random.Random(trial)
    for pid in _id_list(os.path.join(root, "idx", "test_id.txt")):
        queries += _person(root, f"{asked[0]}/cam{{}}", pid, LLCM_CAMERAS, asked[1])
        drawn += _one_a_camera(_person(root, f"{other[0]}/cam{{}}", pid, LLCM_CAMERAS, other[1]), rng)
    return _dataset(
        "LLCM",
        root,
        train,
        queries,
        drawn,
        ("rank-5, -10 and -20 count images, where published figures count people: compare rank-1, mAP and mINP",),
    )


def _llcm_train(root: str, kind: str, modality: int) -> list[Record]:
    path = os.path.join(root, "idx", f"train_{kind}.txt")
    records = []
    for number, image, pid in _image_list(path):
        camera = re.search(r"_c([0-9]{1,9})_", image)
        if camera is None or int(camera[1]) not in LLCM_CAMERAS:
            raise ValueError(f"{path}:{number}: {image!r} names no camera from c01 to c09: restore the file")
        records.append(Record((image,), modality, int(camera[1]), pid))
    return records


def _dataset(
    name: str,
    root: str,
    train: Sequence[Record],
    query: Sequence[Record],
    gallery: Sequence[Record],
    notes: tuple[str, ...] = (),
) -> Dataset:
    splits = {"train": tuple(train), "query": tuple(query), "gallery": tuple(gallery)}
    for split, members in splits.items():
        if not members:
            raise ValueError(
                f"{name}: no {split} image of the listed people is under {root}: complete the copy of the data set"
            )
    counts = {
        split: {"ids": len({record.pid for record in members}), **count(members)} for split, members in splits.items()
    }
    return Dataset(name, root, **splits, counts={**counts, "notes": notes})


def _person(root: str, folder: str, pid: int, cameras: Sequence[int], modality: int) -> list[Record]:
    """A record for each image of a person, by camera, then by name; not every person passes every camera."""
    records = []
    for camid in cameras:
        place = f"{folder.format(camid)}/{pid:04d}"
        if os.path.isdir(os.path.join(root, place)):
            names = sorted(listing.image_names(os.path.join(root, place)))
            records += [Record((f"{place}/{name}",), modality, camid, pid) for name in names]
    return records


def _one_a_camera(records: Sequence[Record], rng: random.Random) -> list[Record]:
    by_camera: dict[int, list[Record]] = {}
    for record in records:
        by_camera.setdefault(record.camid, []).append(record)
    return [rng.choice(members) for members in by_camera.values()]


def _id_list(path: str) -> list[int]:
    """Person numbers, separated by commas, in ascending order."""
    people = []
    for number, line in listing.filled(path):
        try:
            people += [listing.whole(word.strip()) for word in line.strip(",").split(",")]
        except ValueError:
            raise ValueError(
                f"{path}:{number}: {line!r} is not a list of person numbers, 1,2,3: restore the file"
            ) from None
    if not people:
        raise ValueError(f"{path}: there is no person number in it: restore the file")
    if len(set(people)) < len(people):
        raise ValueError(f"{path}: a person is listed twice: restore the file")
    return sorted(people)


def _image_list(path: str) -> list[tuple[int, str, int]]:
    """Line number, path and label of the rows `path label` of an index file; blank lines do no harm."""
    rows, first = [], {}
    for number, line in listing.filled(path):
        try:
            image, label = line.rsplit(None, 1)
            pid = listing.whole(label)
        except ValueError:
            raise ValueError(f"{path}:{number}: {line!r} is not `path label`: restore the file") from None
        image = listing.inside(image, f"{path}:{number}")
        if first.setdefault(image, number) != number:
            raise ValueError(f"{path}:{number}: {image!r} is already on line {first[image]}: remove one of them")
        rows.append((number, image, pid))
    if not rows:
        raise ValueError(f"{path}: there is no row `path label` in it: restore the file")
    return rows
