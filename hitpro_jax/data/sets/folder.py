"""Own data as a folder of tracklets: one folder of images per tracklet, and a CSV that lists them."""

import csv
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

from hitpro_jax.data import listing
from hitpro_jax.data.protocols import BOTH_WAYS, PAIRINGS, WHOLE, Protocol
from hitpro_jax.data.records import SPLITS, Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

NAME = "folder"
UNKNOWN = -1  # person id of a tracklet without one
_REQUIRED = ("tracklet", "modality", "camera")
_OPTIONAL = ("pid", "split")
_MODALITY = {"rgb": RGB, "ir": IR, "0": RGB, "1": IR}
_FORM = "tracklet,modality,camera[,pid][,split]"


@dataclass(frozen=True)
class FolderOptions:
    """Where the tracklets are listed."""

    csv: str = "tracklets.csv"  # the table, below data.root


def load(root: str, table: str = "tracklets.csv", *, min_frames: int = 1) -> Dataset:
    """Reads the CSV and lists the folders it names.

    A row is `tracklet,modality,camera[,pid][,split]`, after a header that names the columns in any order:
      tracklet: folder of its images below the root (jpg, jpeg, png, bmp). Their order is that of the numbers in
        their names (9.jpg before 10.jpg); other files and folders inside are not looked at.
      modality: rgb or ir, also 0 or 1.
      camera: a number; or, as soon as one row has something else, a name: then all are names, and numbered from 0
        in sorted order, whatever the order of rows. An RGB and an IR camera that stand together may share a name.
      pid: person, a number >= 0; empty or -1 is unknown, which training does not mind.
      split: train, query or gallery; without this column all is training.
    Spaces around a field, CRLF and blank lines do no harm.

    Args:
      root: folder of the data.
      table: the CSV, relative to the root.
      min_frames: tracklets with fewer frames are left out, and counted in the notes.

    Raises:
      FileNotFoundError: there is no such CSV.
      ValueError: a malformed row, a path that leaves the root, a tracklet listed twice or without an image, a
        query or gallery tracklet without a person, or one of these two splits without the other; the message
        names the CSV and the line.
    """
    path = os.path.join(root, table)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no table {path}: write one with the columns {_FORM}")
    rows = _read(path)
    cameras = _camera_numbers([row.camera for row in rows])
    with ThreadPoolExecutor(16) as pool:  # a network disk answers many at once
        frames = list(pool.map(lambda row: _frames(root, row, path), rows))
    kept = [(row, names) for row, names in zip(rows, frames, strict=True) if len(names) >= min_frames]
    records = {
        split: tuple(
            Record(names, row.modality, cameras[row.camera], row.pid) for row, names in kept if row.split == split
        )
        for split in SPLITS
    }
    notes = _notes(cameras, len(rows) - len(kept), min_frames)
    return Dataset(NAME, root, **records, counts={**_counts(records), "notes": notes})


class _Row(NamedTuple):
    line: int
    tracklet: str
    modality: int
    camera: str
    pid: int
    split: str


def _read(path: str) -> list[_Row]:
    # newline="": the csv module reads line ends itself, those within quotes too
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            columns = _columns(next(reader, []), path)
            rows = [
                _row(columns, fields, f"{path}:{reader.line_num}", reader.line_num)
                for fields in reader
                if any(field.strip() for field in fields)
            ]
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: not a line of a CSV ({error}): correct it") from None
    _check_rows(rows, path)
    return rows


def _columns(header: Sequence[str], path: str) -> list[str]:
    columns = [name.strip().lower() for name in header]
    lacking = [name for name in _REQUIRED if name not in columns]
    unknown = [name for name in columns if name not in _REQUIRED + _OPTIONAL]
    if lacking or unknown or len(set(columns)) < len(columns):
        raise ValueError(f"{path}:1: the header is {','.join(columns)!r}: it must name the columns {_FORM}, each once")
    return columns


def _row(columns: Sequence[str], fields: Sequence[str], where: str, line: int) -> _Row:
    if len(fields) != len(columns):
        raise ValueError(f"{where}: {len(fields)} fields instead of {len(columns)} ({','.join(columns)}): correct it")
    given = {name: field.strip() for name, field in zip(columns, fields, strict=True)}
    tracklet = listing.inside(given["tracklet"], where)
    modality = _MODALITY.get(given["modality"].lower())
    if modality is None:
        raise ValueError(f"{where}: modality {given['modality']!r} is neither rgb nor ir: correct it")
    if not given["camera"] or given["camera"].startswith("-"):
        raise ValueError(f"{where}: camera {given['camera']!r} is neither a number >= 0 nor a name: correct it")
    split = given.get("split", "train").lower()
    if split not in SPLITS:
        raise ValueError(f"{where}: split {given['split']!r} is none of {', '.join(SPLITS)}: correct it")
    return _Row(line, tracklet, modality, given["camera"], _pid(given.get("pid", ""), split, where), split)


def _pid(text: str, split: str, where: str) -> int:
    if text in ("", str(UNKNOWN)):
        if split != "train":
            raise ValueError(f"{where}: a {split} tracklet needs a person id in the column pid: add it")
        return UNKNOWN
    # 18 digits fit into int64
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{where}: pid {text!r} is not a number >= 0: correct it")
    return int(text)


def _check_rows(rows: Sequence[_Row], path: str) -> None:
    if not rows:
        raise ValueError(f"{path}: there is no row below the header: list the tracklets")
    first: dict[str, int] = {}
    for row in rows:
        if first.setdefault(row.tracklet, row.line) != row.line:
            raise ValueError(
                f"{path}:{row.line}: tracklet {row.tracklet!r} is already on line {first[row.tracklet]}: "
                "remove one of them"
            )
    test = {row.split for row in rows} - {"train"}
    if len(test) == 1:
        raise ValueError(
            f"{path}: there are only {test.pop()} rows of the two test splits: give query and gallery rows, or neither"
        )


def _camera_numbers(names: Sequence[str]) -> dict[str, int]:
    distinct = sorted(set(names), key=listing.natural)
    # nine digits fit into int32; ascii, because isdigit takes digits of other scripts
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: number for number, name in enumerate(distinct)}


def _frames(root: str, row: _Row, path: str) -> tuple[str, ...]:
    try:
        names = listing.image_names(os.path.join(root, row.tracklet))
    except ValueError as error:
        raise ValueError(f"{path}:{row.line}: {error}") from None
    if not names:
        raise ValueError(f"{path}:{row.line}: folder {row.tracklet!r} holds no jpg, png or bmp image: remove the row")
    return tuple(f"{row.tracklet}/{name}" for name in sorted(names, key=listing.natural))


def _counts(records: dict[str, tuple[Record, ...]]) -> dict[str, dict]:
    counts = {}
    for split, members in records.items():
        people = {record.pid for record in members}
        counts[split] = {"ids": "?" if UNKNOWN in people else len(people), **count(members)}
    return counts


def _notes(cameras: dict[str, int], short: int, min_frames: int) -> tuple[str, ...]:
    notes = []
    if any(name != str(number) for name, number in cameras.items()):
        notes.append("cameras: " + ", ".join(f"{name} is {number}" for name, number in cameras.items()))
    if short:
        notes.append(f"left out: {short:,} tracklets with fewer than {min_frames} frames (data.min_frames)")
    return tuple(notes)


def _load(data: DataOptions, own: FolderOptions) -> Dataset:
    return load(data.root, own.csv, min_frames=data.min_frames)


NOTHING = Protocol("none", "none", {})  # no labelled query and gallery


def protocol_of(protocol: Protocol, dataset: Dataset, own: FolderOptions) -> Protocol:
    """The protocol that the rows allow; directions without a match are left out later, see `opening.check`.

    None where nothing is labelled; HITSZ-VCM's two directions where the query is infrared and the gallery visible;
    every pairing of modalities that has rows where a list holds both; else one direction.
    """
    query, gallery = ({record.modality for record in split} for split in (dataset.query, dataset.gallery))
    if not query | gallery:
        return NOTHING
    if (query, gallery) == ({IR}, {RGB}):
        return replace(protocol, directions=BOTH_WAYS)
    if len(query) == len(gallery) == 1:
        return protocol
    there = {
        key: direction
        for key, direction in PAIRINGS.items()
        if all(pick.modality in (None, *kinds) for pick, kinds in zip(direction, (query, gallery), strict=True))
    }
    return replace(protocol, directions=there)


SPEC = DatasetSpec(
    name="folder",
    title="your own tracklets",
    options=FolderOptions,
    load=_load,
    protocols=(Protocol(NAME, "same_person", WHOLE),),
    protocol_of=protocol_of,
    drops_unmatched=True,
)
