"""BUPTCampus: RGB and infrared tracklets of 3,080 people in six bimodal cameras, read from its lists."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hitpro_jax.data import sampling
from hitpro_jax.data.protocols import PAIRINGS, Protocol
from hitpro_jax.data.records import SPLITS, Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

NAME = "BUPTCampus"
CAMERAS = {"LS3": 1, "G25": 2, "CQ1": 3, "W4": 4, "TSG1": 5, "TSG2": 6}
"""Camera ids, in the order of the public loaders; both modalities of a camera share its id."""

PUBLISHED = {
    "train": {"ids": 1_074, "tracklets": 7_148, "rgb": 3_574, "ir": 3_574, "frames": 796_138},
    "auxiliary": {"ids": 930, "tracklets": 1_860, "rgb": 930, "ir": 930},
    "query": {"ids": 1_076, "tracklets": 1_076, "rgb": 540, "ir": 536},
    "gallery": {"tracklets": 4_844, "rgb": 2_422, "ir": 2_422},
}
"""What is published of the lists; the frames of the test lists are not."""

_FRAMES, _FOLDER = "data_paths.json", "DATA"
_LISTS = {"train": "train.txt", "auxiliary": "train_auxiliary.txt", "query": "query.txt", "gallery": "gallery.txt"}
_TRAIN_MODALITIES = {"RGB/IR": ("IR", "RGB")}  # a row is two tracklets
_TEST_MODALITIES = {"RGB": ("RGB",), "IR": ("IR",)}
_MODALITY = {"RGB": RGB, "IR": IR}


@dataclass(frozen=True)
class BuptCampusOptions:
    """Which of its lists are read."""

    auxiliary: bool = False  # train on the auxiliary list too: people seen in one camera only


def load(root: str, *, auxiliary: bool = False, check_counts: bool = True) -> Dataset:
    """Reads the lists and `data_paths.json`; the images are looked for by `verify_files` and are not opened here.

    The tracklets are those of the lists, in their order; a training row `RGB/IR` is two tracklets, infrared first; a
    tracklet's frames are those of data_paths.json, in its order; there is no least length. FakeIR, which was made from
    RGB, is not used.

    The two tracklets of a training row show the same moments pixel by pixel. Which two belong together is
    supervision: it stands only in the person ids, which `anonymise` takes away together with the order, and
    in the paths, which training reads frames by and nothing else.

    Args:
      root: folder that holds DATA/, data_paths.json and the lists.
      auxiliary: add train_auxiliary.txt, people seen in one camera only, to the training set.
      check_counts: False accepts lists of the published size with other counts.

    Returns:
      The data set, with camera ids of `CAMERAS` and person ids that are positions in the sorted list of the
      people in data_paths.json, the same on every run. `counts` has `ids`, `tracklets`, `rgb`, `ir` and
      `frames` of each list that was read, `train` together with `auxiliary`; and `notes`.

    Raises:
      FileNotFoundError: no such folder, or lists missing from it.
      ValueError: a malformed row, an unknown camera or modality, a row given twice, a tracklet without
        frames, a path that leaves DATA, an empty list, or counts that are not the published ones.

    Choice: when the training list or both test lists have the published number of tracklets, counts other than the
    published ones are an error and not a warning, because scores on part of the data look right and cannot be compared
    with anyone's. `auxiliary` is off, because these people have no second camera to be found in.
    Source: the public loader of the data set, and M3-ReID.
    """
    names = [name for name in _LISTS if auxiliary or name != "auxiliary"]
    _require_files(root, [_FRAMES, *(_LISTS[name] for name in names)])
    paths = _Paths(os.path.join(root, _FRAMES))
    seen: dict[tuple, str] = {}
    lists = {name: _read_list(os.path.join(root, _LISTS[name]), name, paths, seen) for name in names}
    counts: dict[str, Any] = {name: {"ids": _ids(records), **count(records)} for name, records in lists.items()}
    if check_counts:
        _compare_with_published(counts, root)
    if auxiliary:
        extra = lists.pop("auxiliary")
        lists["train"] += extra
        counts["train"] = {"ids": _ids(lists["train"]), **count(lists["train"])}
        counts["notes"] = (f"train: {len(extra):,} of the tracklets are those of the auxiliary list",)
    return Dataset(NAME, root, **{split: lists[split] for split in SPLITS}, counts=counts)


class _Row(NamedTuple):
    """One tracklet that a list names."""

    pid: str
    modality: str
    camera: str
    tid: str

    def __str__(self):
        return " ".join(self)


class _Paths:
    """data_paths.json: `[pid][IR|RGB][camera][tid]` is the list of a tracklet's frames, relative to DATA."""

    def __init__(self, path: str):
        self._path = path
        try:
            with open(path, encoding="utf-8-sig") as file:
                self._tree = json.load(file)
        except ValueError as error:  # neither JSON nor UTF-8
            raise ValueError(f"{path} is not JSON ({error}): copy it again.") from None
        except RecursionError:
            raise ValueError(f"{path} is nested too deeply to be a table of tracklets: copy it again.") from None
        if type(self._tree) is not dict:
            kind = type(self._tree).__name__
            raise ValueError(f"{path} must hold an object by person, but holds one {kind}: copy it again.")
        # shorter first, then by text: numbers in their order, since they are not padded; and any other name
        people = sorted(map(str, self._tree), key=lambda pid: (len(pid), pid))
        self.pids = {pid: number for number, pid in enumerate(people)}

    def frames(self, row: _Row, where: str) -> tuple[str, ...]:
        """The tracklet's frames relative to the root of the data set."""
        found = self._tree
        for key in row:
            found = found.get(key) if isinstance(found, dict) else None
        if found is None or found == []:
            raise ValueError(f"{where}: {self._path} has no frames of the tracklet {row}: copy both files again.")
        if not isinstance(found, list) or not all(isinstance(frame, str) for frame in found):
            raise ValueError(f"{self._path}: the tracklet {row} must be a list of paths: copy the file again.")
        for frame in found:
            if not frame or frame.startswith("/") or ".." in frame.split("/") or not frame.isprintable():
                raise ValueError(
                    f"{self._path}: the tracklet {row} has the path {frame!r}, which is not below {_FOLDER} or holds a "
                    "character that does not print: correct it."
                )
        return tuple(f"{_FOLDER}/{frame}" for frame in found)


def _require_files(root, names):
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{NAME}: there is no folder {root}: set data.root to the folder that holds {_FRAMES}.")
    missing = [name for name in names if not os.path.isfile(os.path.join(root, name))]
    if missing:
        raise FileNotFoundError(f"{NAME}: {root} lacks {', '.join(missing)}: copy them again.")


def _read_list(path, name, paths, seen):
    """The records of a list; `seen` maps each tracklet of all lists to its line."""
    records = []
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            for row in _tracklets(line, where, _TEST_MODALITIES if name in ("query", "gallery") else _TRAIN_MODALITIES):
                first = seen.setdefault(row, where)
                if first != where:
                    raise ValueError(f"{where}: the tracklet {row} was given at {first} already: remove one of them.")
                frames = paths.frames(row, where)
                records.append(Record(frames, _MODALITY[row.modality], CAMERAS[row.camera], paths.pids[row.pid]))
    if not records:
        raise ValueError(f"{path}: there is no tracklet in it: copy it again.")
    return tuple(records)


def _tracklets(line, where, modalities):
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"{where}: {line.strip()!r} is not a row `person modality camera tracklet`: restore the file.")
    pid, modality, camera, tid = fields
    if modality not in modalities:
        raise ValueError(f"{where}: modality {modality!r} is not {' or '.join(modalities)}: correct the row.")
    if camera not in CAMERAS:
        raise ValueError(f"{where}: camera {camera!r} is none of {', '.join(CAMERAS)}: correct the row.")
    return [_Row(pid, each, camera, tid) for each in modalities[modality]]


def _ids(records):
    return len({record.pid for record in records})


def _compare_with_published(counts, root):
    """Raises where lists of the published size hold other counts than the published ones."""

    def tracklets(numbers, *lists):
        return sum(numbers[name]["tracklets"] for name in lists)

    if all(tracklets(counts, *part) != tracklets(PUBLISHED, *part) for part in (["train"], ["query", "gallery"])):
        return
    wrong = [
        f"{name} {key} {counts[name][key]:,} instead of {expected:,}"
        for name in counts
        for key, expected in PUBLISHED[name].items()
        if counts[name][key] != expected
    ]
    if wrong:
        raise ValueError(
            f"{NAME}: the lists under {root} are not the published ones ({', '.join(wrong)}): copy them and "
            f"{_FRAMES} again, or set data.check_counts=False."
        )


def _load(data: DataOptions, own: BuptCampusOptions) -> Dataset:
    return load(data.root, auxiliary=own.auxiliary, check_counts=data.check_counts)


FULL = Protocol("full", "same_person", PAIRINGS, 6, (288, 144))  # from M3-ReID
FULL_NO_CAMERA = Protocol("full_no_camera", "none", PAIRINGS, 10, (256, 128), sampling.uniform_frames)
# From the data set's own code (AuxNet), whose sampler fills whole batches of 64 RGB tracklets and drops the rest: left
# are 512 of 540 queries and 2,368 of 2,422 gallery rows, so that 14 of the 536 infrared queries have no match.
AUXNET = replace(FULL_NO_CAMERA, name="auxnet", rgb_multiple=64)

SPEC = DatasetSpec(
    name="buptcampus",
    title=NAME,
    options=BuptCampusOptions,
    load=_load,
    protocols=(FULL, FULL_NO_CAMERA, AUXNET),
)
