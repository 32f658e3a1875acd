"""What SYSU-MM01, RegDB and LLCM share: sets of single images, each of which becomes a tracklet of one frame.

They show whether the method works at all where others report figures; they have no temporal order.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated

from hitpro_jax.data import listing
from hitpro_jax.data.protocols import Directions, Protocol
from hitpro_jax.data.records import Dataset, Record, count
from hitpro_jax.options import Range

TEN = tuple(range(10))  # seeds of the drawn galleries over which published tables average
EVERY = -1  # value of a field `trial`: all of them
Trial = Annotated[int, Range(EVERY, 2**31 - 1)]
RANKS_NOTE = "rank-5, -10 and -20 count images, where published figures count people: compare rank-1, mAP and mINP"


def dataset(
    name: str,
    root: str,
    train: Sequence[Record],
    query: Sequence[Record],
    gallery: Sequence[Record],
    notes: tuple[str, ...] = (),
) -> Dataset:
    """The data set of these records, with its counts.

    Raises:
      ValueError: a split is empty.
    """
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


def of_person(root: str, folder: str, pid: int, cameras: Sequence[int], modality: int) -> list[Record]:
    """A record for each image of a person, by camera, then by name; not every person passes every camera.

    Args:
      root: folder of the data set.
      folder: of a camera below it, with `{}` for the camera's number; in it a folder `pid`, four digits.
      pid: the person.
      cameras: in which images are looked for.
      modality: of all these cameras.
    """
    records = []
    for camid in cameras:
        below = f"{folder.format(camid)}/{pid:04d}"
        if os.path.isdir(os.path.join(root, below)):
            names = sorted(listing.image_names(os.path.join(root, below)))
            records += [Record((f"{below}/{name}",), modality, camid, pid) for name in names]
    return records


def drawn(records: Iterable[Record], trial: int, shots: int = 1) -> frozenset[str]:
    """First frames of the records that are drawn of each person and camera.

    Args:
      records: sorted by person, then by camera, then by name, as the public loaders go through them.
      trial: seed of the draw.
      shots: records of a person and camera; all, where there are fewer.

    Source: for one shot the draw is that of the public loaders, `random.seed(trial)` and a `random.choice` for each
    person and camera (AGW for SYSU-MM01, DEEN for LLCM).
    """
    rng = random.Random(trial)
    frames: dict[tuple[int, int], list[str]] = {}
    for record in records:
        frames.setdefault((record.pid, record.camid), []).append(record.frames[0])
    if shots == 1:
        return frozenset(rng.choice(members) for members in frames.values())
    return frozenset(frame for members in frames.values() for frame in rng.sample(members, min(shots, len(members))))


def with_trials(protocol: Protocol, numbers: Sequence[int], directions_of: Callable[[int], Directions]) -> Protocol:
    """The protocol with the directions of one trial, or of several over which figures are averaged.

    Args:
      protocol: its name gets the numbers.
      numbers: of the trials.
      directions_of: (number) -> its directions.
    """
    trials = {number: directions_of(number) for number in numbers}
    several = len(trials) > 1
    title = f"trials {numbers[0]} to {numbers[-1]}" if several else f"trial {numbers[0]}"
    first = trials[numbers[0]]
    return replace(protocol, name=f"{protocol.name} {title}", directions=first, trials=trials if several else {})


def id_list(path: str) -> list[int]:
    """Person numbers of a file, separated by commas, in ascending order.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it holds anything else, no number, or one twice; the message names file and line.
    """
    people = []
    for number, line in listing.filled(path):
        try:
            people += [listing.whole(field.strip()) for field in line.strip(",").split(",")]
        except ValueError:
            raise ValueError(
                f"{path}:{number}: {line!r} is not a list of person numbers, 1,2,3: restore the file"
            ) from None
    if not people:
        raise ValueError(f"{path}: there is no person number in it: restore the file")
    if len(set(people)) < len(people):
        raise ValueError(f"{path}: a person is listed twice: restore the file")
    return sorted(people)


def image_list(path: str) -> list[tuple[int, str, int]]:
    """Line number, path and label of the rows `path label` of an index file; blank lines do no harm.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a malformed row, no row, or a path that leaves the root or is listed twice; the message names file and
        line.
    """
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
