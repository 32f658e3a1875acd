"""RegDB: single images of 412 people in one visible and one thermal camera."""

import os
from dataclasses import dataclass, replace
from typing import Annotated

from hitpro_jax.data import listing
from hitpro_jax.data.protocols import BOTH_WAYS, Direction, Directions, Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.data.sets import pictures
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions, Range
from hitpro_jax.types import IR, RGB

EVERY = 0  # value of `trial`: the test sets of all
TRIALS = range(1, 11)
_KINDS = {RGB: ("visible", 1), IR: ("thermal", 2)}  # name in the lists, camera


@dataclass(frozen=True)
class RegDBOptions:
    """Which of the published splits is used."""

    # number of the split; published tables average ten trainings, 1 to 10. 0: the test sets of all ten, for an encoder
    # that was not trained on RegDB
    trial: Annotated[int, Range(EVERY, TRIALS[-1])] = 1


def load(root: str, *, trial: int = 1) -> Dataset:
    """Reads idx/{train,test}_{visible,thermal}_<trial>.txt, rows `path label`.

    Query: the thermal test images; gallery: the visible ones; the other direction swaps them, and both are complete.
    Every trial has a training set of its own. So published tables average ten trainings, and an encoder that was
    trained on one trial has seen test people of the others.

    Args:
      root: folder that holds idx/.
      trial: number of the split; 0 takes the test images of all ten together, and trial 1's for training, which are
        there to be counted alone.

    Returns:
      The data set; camera 1 is the visible one, 2 the thermal one. With trial 0 a person is the number in its images'
      folder, because each trial numbers its labels anew.

    Raises:
      FileNotFoundError: a list is missing.
      ValueError: a malformed row, a path that leaves the root or is listed twice; with trial 0, labels and folders that
        do not go together; the message names the file.
    """
    train = [record for modality in _KINDS for record in _records(root, "train", modality, trial or TRIALS[0])]
    query, gallery = (_test_records(root, modality, trial) for modality in (IR, RGB))
    return pictures.dataset("RegDB", root, train, query, gallery)


def _test_records(root: str, modality: int, trial: int) -> list[Record]:
    """The test images of a trial, or of all trials, each once, by person, then by path."""
    if trial != EVERY:
        return _records(root, "test", modality, trial)
    person: dict[str, int] = {}
    for number in TRIALS:
        rows, path = _rows(root, "test", modality, number), _list(root, "test", modality, number)
        person |= {image: _folder(image, path) for image, _ in rows}
        pairs = {(person[image], label) for image, label in rows}
        if not len(pairs) == len({folder for folder, _ in pairs}) == len({label for _, label in pairs}):
            raise ValueError(f"{path}: labels and folders are not one to one: restore the file")
    return [_record(image, pid, modality) for image, pid in sorted(person.items(), key=lambda item: item[::-1])]


def _folder(image: str, path: str) -> int:
    """The number that the folder of an image has."""
    try:
        return listing.whole(os.path.basename(os.path.dirname(image)))
    except ValueError:
        raise ValueError(
            f"{path}: {image!r} lies in no folder with a person's number: choose one data.regdb.trial, 1 to 10"
        ) from None


def _records(root: str, half: str, modality: int, trial: int) -> list[Record]:
    return [_record(image, pid, modality) for image, pid in _rows(root, half, modality, trial)]


def _rows(root: str, half: str, modality: int, trial: int) -> list[tuple[str, int]]:
    """Path and label of the images of a list."""
    return [row[1:] for row in pictures.image_list(_list(root, half, modality, trial))]


def _list(root: str, half: str, modality: int, trial: int) -> str:
    return os.path.join(root, "idx", f"{half}_{_KINDS[modality][0]}_{trial}.txt")


def _record(path: str, pid: int, modality: int) -> Record:
    return Record((path,), modality, _KINDS[modality][1], pid)


def _load(data: DataOptions, own: RegDBOptions) -> Dataset:
    return load(data.root, trial=own.trial)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: RegDBOptions) -> Protocol:
    if own.trial != EVERY:
        return replace(protocol, name=f"{protocol.name} trial {own.trial}")

    def directions_of(trial: int) -> Directions:
        listed = {
            split: frozenset(path for path, _ in _rows(dataset.root, "test", modality, trial))
            for split, modality in (("query", IR), ("gallery", RGB))
        }

        def limited(direction: Direction) -> Direction:
            asking, searched = (side._replace(first_frames=listed[side.split]) for side in direction)
            return asking, searched

        return {key: limited(direction) for key, direction in BOTH_WAYS.items()}

    return pictures.with_trials(protocol, TRIALS, directions_of)


SPEC = DatasetSpec(
    name="regdb",
    title="RegDB",
    options=RegDBOptions,
    load=_load,
    protocols=(Protocol("regdb", "none", BOTH_WAYS),),
    protocol_of=_protocol_of,
    training_trial="trial",
)
