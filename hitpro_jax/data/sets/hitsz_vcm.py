"""HITSZ-VCM: RGB and infrared tracklets of 927 people in 12 cameras, read from the index files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hitpro_jax.data import listing
from hitpro_jax.data.protocols import BOTH_WAYS, Protocol
from hitpro_jax.data.records import SPLITS, Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

NAME = "HITSZ-VCM"
MIN_FRAMES = 12

UNCOMPARED = (
    "neither track file has as many rows as the published one: another set than HITSZ-VCM, or a part of it; "
    "its counts are compared with nothing"
)
PUBLISHED = {
    "train": {"rows": 11_061, "ids": 500, "tracklets": 9_751, "rgb": 5_460, "ir": 4_291, "frames": 224_757},
    "query": {"rows": 5_159, "tracklets": 4_584, "rgb": 0, "ir": 4_584, "frames": 105_979},
    "gallery": {"rows": 5_643, "tracklets": 5_099, "rgb": 5_099, "ir": 0, "frames": 118_137},
    "test": {"ids": 427},
}
"""What the public loaders of MITML and M3-ReID count, with tracklets under 12 frames left out."""

_BEFORE_THE_FILTER = ("rows", "ids")
_INDEX_FILES = (
    "train_name.txt",
    "track_train_info.txt",
    "test_name.txt",
    "track_test_info.txt",
    "query_IDX.txt",
)
_FRAME_NAME = re.compile(r"([0-9]{4})(M[12])(D[0-9]{1,9})T[0-9]+F([0-9]+)\.jpg")
_FOLDER = {"M1": "ir", "M2": "rgb"}  # by the code in a frame's name
_MODALITY = {1: IR, 2: RGB}  # by the number in a track file


@dataclass(frozen=True)
class HitszVcmOptions:
    """How the rows of its track files are read."""

    repair: bool = False  # leave out of a row the frames that their names give to another person or modality


def load(root: str, *, min_frames: int = MIN_FRAMES, repair: bool = False, check_counts: bool = True) -> Dataset:
    """Reads the index files; the images are looked for by `verify_files` and are not opened here.

    The order of frames is that of the name file; a tracklet is a row of the track file; rows under min_frames are
    dropped from all three splits; query = the rows of query_IDX.txt, over all its lines; gallery = every other test
    row. The people's folders may lie in root/{Train|Test}/, root/, root/data/ or root/{Train/Train|Test/Test}/, the
    first that exists. No path leaves the root, since names hold no folders. Blank lines do harm where a line's number
    means something: in the name files and in track_test_info.txt.

    Args:
      root: folder that holds info/ and the images.
      min_frames: frames a tracklet must have.
      repair: leave out of a row the frames that its names give to another person or modality; one of another
        camera alone stays.
      check_counts: False accepts index files of the published size with other counts.

    Returns:
      The data set, `pid` as published. `counts` has, for each split, `rows` and `ids` before the filter and
      `tracklets`, `rgb`, `ir`, `frames` after it; `test`, `ids` of query and gallery; by `train` and `test`,
      `border`, the `rows` that hold frames of another person or modality, those `frames`, and with `repair` the
      `dropped` rows that had min_frames only with them, and `camera`, the `rows` that hold frames of their person
      and modality but of another camera, and those `frames`; and `notes`.

    Raises:
      FileNotFoundError: no such folder, or index files missing from it.
      ValueError: a malformed line, a range beyond the names, a camera that no name gives, a row given twice, a split
        without a tracklet, or counts that are not the published ones.

    Choice: when either track file has the published number of rows, counts other than the published ones are an error
    and not a warning, because scores on part of the data look right and cannot be compared with anyone's. `repair` is
    off, because every public result uses such rows as they stand.
    Source: MITML and M3-ReID.
    """
    _require_index_files(root)
    train, test = _read_track_rows(root, "train"), _read_track_rows(root, "test")
    query = _read_query_rows(root, len(test))
    gallery = sorted(set(range(len(test))).difference(query))
    rows = {"train": train, "query": [test[i] for i in query], "gallery": [test[i] for i in gallery]}
    records = {split: _records(rows[split], min_frames, repair) for split in SPLITS}
    counts = _counts(rows, records, min_frames, repair)
    counts["notes"] = _notes(counts)
    for split in SPLITS:
        if not records[split]:
            raise ValueError(f"{NAME}: no {split} row under {root} has {min_frames} frames: lower data.min_frames.")
    if check_counts and not _compare_with_published(
        counts, records, root, filtered=min_frames == MIN_FRAMES and not repair
    ):
        counts["notes"] += (UNCOMPARED,)
    return Dataset(name=NAME, root=root, **records, counts=counts)


class _Row(NamedTuple):
    """One line of a track file, and what the name file has of its frames."""

    frames: Sequence[str]
    foreign: Sequence[bool]  # of each frame: its name gives another person or modality than the row
    moved: int  # frames that are not foreign, but whose names give another camera than the row
    modality: int
    camid: int
    pid: int


def _require_index_files(root):
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{NAME}: there is no folder {root}: set data.root to the folder that holds info/.")
    missing = [name for name in _INDEX_FILES if not os.path.isfile(os.path.join(root, "info", name))]
    if missing:
        raise FileNotFoundError(f"{NAME}: {os.path.join(root, 'info')} lacks {', '.join(missing)}: copy info/ again.")


def _read_track_rows(root, split):
    frames, labels = _read_names(root, split)
    path = os.path.join(root, "info", f"track_{split}_info.txt")
    # query_IDX.txt counts the lines of the test file, so that blank ones count there
    numbered = listing.filled(path) if split == "train" else enumerate(listing.lines(path), 1)
    rows, seen = [], {}
    cameras = {camera for _, _, camera in labels}
    for number, line in numbered:
        modality, start, end, pid, camid = _track_fields(line, f"{path}:{number}", len(frames))
        if camid not in cameras:
            raise ValueError(
                f"{path}:{number}: camera {camid} is in no name of {split}_name.txt: correct the row, or restore both "
                "files from one copy of the data set."
            )
        first = seen.setdefault((modality, start, end, pid, camid), number)
        if first != number:
            raise ValueError(f"{path}:{number}: the row {line!r} is that of line {first}: remove one of them.")
        chosen = slice(start - 1, end)
        foreign = [label[:2] != (pid, modality) for label in labels[chosen]]
        moved = sum(label[:2] == (pid, modality) and label[2] != camid for label in labels[chosen])
        rows.append(_Row(frames[chosen], foreign, moved, _MODALITY[modality], camid, pid))
    if not rows:
        raise ValueError(f"{path}: there is no row in it: restore it.")
    return rows


def _read_names(root, split):
    """Of each line of the name file, the frame's path and its person, modality and camera."""
    path = os.path.join(root, "info", f"{split}_name.txt")
    frames, labels, folders = [], [], {}
    for number, line in enumerate(listing.lines(path), 1):
        match = _FRAME_NAME.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}:{number}: {line!r} is not a frame name such as 0001M2D3T1F1.jpg: restore the file."
            )
        person, modality, camera, frame = match.groups()
        if person not in folders:
            folders[person] = _person_folder(root, split.capitalize(), person)
        frames.append(f"{folders[person]}/{_FOLDER[modality]}/{camera}/{frame}.jpg")
        labels.append((int(person), int(modality[1:]), int(camera[1:])))  # cameras are also written D03
    return frames, labels


def _person_folder(root, half, person):
    """The first folder that exists; the first of all where none does, for `verify_files` to report."""
    folders = [f"{half}/{person}", person, f"data/{person}", f"{half}/{half}/{person}"]
    return next((folder for folder in folders if os.path.isdir(os.path.join(root, folder))), folders[0])


def _track_fields(line, where, num_names):
    try:
        modality, start, end, pid, camid = map(listing.whole, line.split())
    except ValueError:
        raise ValueError(
            f"{where}: {line!r} is not five integers of at most nine digits, `modality start end pid camera`."
        ) from None
    if modality not in _MODALITY:
        raise ValueError(f"{where}: modality {modality} is neither 1 (infrared) nor 2 (RGB): correct the row.")
    if not 1 <= start <= end <= num_names:
        raise ValueError(
            f"{where}: rows {start} to {end} are not a range within the {num_names} lines of the name file: "
            "restore both files from one copy of the data set."
        )
    return modality, start, end, pid, camid


def _read_query_rows(root, num_rows):
    """The rows of query_IDX.txt, from 0, in the order of the file."""
    path = os.path.join(root, "info", "query_IDX.txt")
    first = {}  # row to the line that gives it
    for number, line in listing.filled(path):
        where = f"{path}:{number}"
        try:
            rows = [*map(listing.whole, line.split())]
        except ValueError:
            raise ValueError(f"{where}: not only row numbers of track_test_info.txt: restore it.") from None
        for row in rows:
            if not 1 <= row <= num_rows:
                raise ValueError(f"{where}: row {row} is not one of the {num_rows} of track_test_info.txt: restore it.")
            if row in first:
                raise ValueError(f"{where}: row {row} is already given on line {first[row]}: remove one of them.")
            first[row] = number
    if not first:
        raise ValueError(f"{path}: there is no row number in it: restore it.")
    return [row - 1 for row in first]


def _records(rows, min_frames, repair):
    records = []
    for row in rows:
        frames = row.frames
        if repair:
            frames = [frame for frame, foreign in zip(frames, row.foreign, strict=True) if not foreign]
        if len(frames) >= min_frames:
            records.append(Record(tuple(frames), row.modality, row.camid, row.pid))
    return tuple(records)


def _counts(rows, records, min_frames, repair):
    ids = {split: {row.pid for row in rows[split]} for split in SPLITS}
    counts = {split: {"rows": len(rows[split]), "ids": len(ids[split]), **count(records[split])} for split in SPLITS}
    halves = {"train": rows["train"], "test": rows["query"] + rows["gallery"]}
    return {
        **counts,
        "test": {"ids": len(ids["query"] | ids["gallery"])},
        "border": {half: _border(members, min_frames, repair) for half, members in halves.items()},
        "camera": {
            half: {"rows": sum(row.moved > 0 for row in members), "frames": sum(row.moved for row in members)}
            for half, members in halves.items()
        },
    }


def _border(rows, min_frames, repair):
    over = [(len(row.frames), sum(row.foreign)) for row in rows if any(row.foreign)]
    border = {"rows": len(over), "frames": sum(foreign for _, foreign in over)}
    if repair:
        # long enough with the foreign frames alone
        border["dropped"] = sum(frames - foreign < min_frames <= frames for frames, foreign in over)
    return border


def _notes(counts):
    notes = []
    for half, border in counts["border"].items():
        rows, frames = f"{border['rows']:,} rows", f"{border['frames']:,} frames of another person or modality"
        if "dropped" in border:
            notes.append(
                f"{half}: {frames} left out of the {rows} that run over a border of the name file; "
                f"{border['dropped']:,} of these rows dropped, with fewer than data.min_frames left"
            )
        else:
            notes.append(f"{half}: {rows} run over a border of the name file and hold {frames}")
    notes += [
        f"{half}: {camera['rows']:,} rows hold {camera['frames']:,} frames whose names give another camera than the "
        "row; they stay, and the row's camera counts"
        for half, camera in counts["camera"].items()
        if camera["frames"]
    ]
    query, gallery = counts["query"], counts["gallery"]
    if query["rgb"] or gallery["ir"]:
        notes.append(
            f"{query['rgb']:,} of {query['tracklets']:,} query tracklets are not infrared and {gallery['ir']:,} of "
            f"{gallery['tracklets']:,} gallery tracklets are not RGB, as the published ones are: look at query_IDX.txt"
        )
    return tuple(notes)


def _compare_with_published(counts, records, root, *, filtered):
    """Raises where index files of the published size hold other counts, or any query without a match.

    False: neither file is of that size, so there is nothing to compare.
    """
    test_rows = {number["query"]["rows"] + number["gallery"]["rows"] for number in (counts, PUBLISHED)}
    # a set of one number where ours and the published one agree
    if counts["train"]["rows"] != PUBLISHED["train"]["rows"] and len(test_rows) > 1:
        return False
    wrong = [
        f"{part} {key} {counts[part][key]:,} instead of {expected:,}"
        for part, numbers in PUBLISHED.items()
        for key, expected in numbers.items()
        if (filtered or key in _BEFORE_THE_FILTER) and counts[part][key] != expected
    ]
    seen = {(record.pid, record.camid) for record in records["gallery"]}
    people = Counter(pid for pid, _ in seen)
    # a person's cameras in the gallery, without the query's own, which the camera rule leaves out
    matchless = sum(people[r.pid] <= ((r.pid, r.camid) in seen) for r in records["query"]) if filtered else 0
    if matchless:
        wrong.append(f"query without a match {matchless:,} instead of 0")
    if wrong:
        raise ValueError(
            f"{NAME}: the index files under {root} are not the published ones ({', '.join(wrong)}): "
            "copy info/ again, or set data.check_counts=False."
        )
    return True


def _load(data: DataOptions, own: HitszVcmOptions) -> Dataset:
    return load(data.root, min_frames=data.min_frames, repair=own.repair, check_counts=data.check_counts)


def _rows_changed(data: DataOptions, own: HitszVcmOptions) -> tuple[str, ...]:
    least = (f"least {data.min_frames} frames",) if data.min_frames != MIN_FRAMES else ()
    return least + (("rows repaired",) if own.repair else ())


SPEC = DatasetSpec(
    name="hitsz_vcm",
    title=NAME,
    options=HitszVcmOptions,
    load=_load,
    protocols=(Protocol("hitsz_vcm", "same_person", BOTH_WAYS, 6, (288, 144)),),
    rows_changed=_rows_changed,
)
