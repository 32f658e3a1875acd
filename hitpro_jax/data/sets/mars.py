"""MARS: tracklets of 1,261 people in six visible cameras, read from its index files."""

import os
import re
from dataclasses import dataclass, replace
from typing import Literal

from hitpro_jax.data import listing, matlab
from hitpro_jax.data.protocols import WHOLE, Protocol
from hitpro_jax.data.records import SPLITS, Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import RGB

NAME = "MARS"
JUNK = -1  # person number of junk detections, which are left out
DISTRACTOR = 0  # person number of detections of nobody that is asked for, which stay in the gallery
_FRAME_NAME = re.compile(r"([0-9]{4}|00-1)C[1-6]T[0-9]+F[0-9]+\.jpg")


@dataclass(frozen=True)
class MarsOptions:
    """Which gallery is scored."""

    # every test row, the queries too, as in the set's own code; or without them, as in most PyTorch loaders
    gallery: Literal["with_queries", "without_queries"] = "with_queries"


def load(root: str, *, gallery: str = "with_queries") -> Dataset:
    """Reads info/{train,test}_name.txt, tracks_{train,test}_info.mat and query_IDX.mat.

    A row of a track table is `start end pid camera`; start and end are rows of the name file from 1, end inclusive. A
    frame lies in bbox_{train,test}/<first four letters of its name>/. Query: the rows of query_IDX; gallery: every test
    row, the queries too (by the camera rule no query meets itself), or every other one; person 0 is a distractor, -1 is
    junk and left out. No tracklet is too short. There is one modality: cross-modality levels of the loss have no terms.

    Args:
      root: folder that holds info/, bbox_train/ and bbox_test/.
      gallery: "with_queries" or "without_queries".

    Raises:
      FileNotFoundError: an index file is missing.
      ValueError: a malformed name or row, or a range beyond the names; the message names file and line or row.

    Source: test_mars.m and utils/evaluation_mars.m, github.com/liangzheng06/MARS-evaluation: the gallery is every test
    row. Torchreid and the loaders made from it take the 1,980 queries out of it.
    Choice: the queries stay, as in the set's own code. A query without a true match in another camera is not counted.
    """
    train, test = (_rows(root, half) for half in ("train", "test"))
    query = _query(root, len(test))
    left = set() if gallery == "with_queries" else set(query)
    rows = {
        "train": train,
        "query": [test[i] for i in query],
        "gallery": [row for i, row in enumerate(test) if i not in left],
    }
    records = {split: tuple(row for row in rows[split] if row.pid != JUNK) for split in SPLITS}
    counts = {
        split: {"rows": len(rows[split]), "ids": len({r.pid for r in records[split]}), **count(records[split])}
        for split in SPLITS
    }
    dataset = Dataset(NAME, root, **records, counts=counts)
    return replace(dataset, counts={**counts, "notes": _notes(dataset, gallery)})


def _notes(dataset: Dataset, gallery: str) -> tuple[str, ...]:
    """What a figure depends on besides the rows that are listed, a short text each."""
    junk = {split: dataset.counts[split]["rows"] - len(getattr(dataset, split)) for split in SPLITS}
    distractors = sum(record.pid == DISTRACTOR for record in dataset.gallery)
    cameras: dict[int, set[int]] = {}
    for record in dataset.gallery:
        cameras.setdefault(record.pid, set()).add(record.camid)
    skipped = sum(not cameras.get(record.pid, set()) - {record.camid} for record in dataset.query)
    return (
        f"gallery {gallery.replace('_', ' ')}",
        f"junk left out: {junk['gallery']:,} gallery rows, {junk['query']:,} queries, {junk['train']:,} training rows",
        f"{distractors:,} distractors in the gallery",
        f"{skipped:,} of {len(dataset.query):,} queries not counted: no true match in another camera",
    )


def _rows(root: str, half: str) -> list[Record]:
    frames = _frames(root, half)
    path = os.path.join(root, "info", f"tracks_{half}_info.mat")
    table = matlab.read_table(path)
    if table.shape[1] != 4:
        raise ValueError(f"{path}: {table.shape[1]} columns and not start, end, pid, camera: restore it")
    records, seen = [], {}
    for number, (start, end, pid, camid) in enumerate(table.tolist(), 1):
        if not 1 <= start <= end <= len(frames):
            raise ValueError(
                f"{path} row {number}: {start} to {end} is not a range within the {len(frames)} names of "
                f"{half}_name.txt: restore both files from one copy"
            )
        if pid < JUNK or not 1 <= camid <= 6:
            raise ValueError(f"{path} row {number}: person {pid} or camera {camid} is not one of {NAME}: restore it")
        if seen.setdefault((start, end), number) != number:
            raise ValueError(f"{path} row {number}: the frames of row {seen[start, end]} once more: restore it")
        records.append(Record(tuple(frames[start - 1 : end]), RGB, camid, pid))
    return records


def _frames(root: str, half: str) -> list[str]:
    path = os.path.join(root, "info", f"{half}_name.txt")
    names = listing.lines(path)
    for number, name in enumerate(names, 1):
        if not _FRAME_NAME.fullmatch(name):
            raise ValueError(f"{path}:{number}: {name!r} is not a frame name such as 0001C1T0001F001.jpg: restore it")
    return [f"bbox_{half}/{name[:4]}/{name}" for name in names]


def _query(root: str, num_rows: int) -> list[int]:
    path = os.path.join(root, "info", "query_IDX.mat")
    rows = matlab.read_table(path).ravel().tolist()
    for index, row in enumerate(rows):
        if not 1 <= row <= num_rows or row in rows[:index]:
            raise ValueError(
                f"{path}: row {row} is beyond the {num_rows} of tracks_test_info.mat or given twice: restore it"
            )
    return [row - 1 for row in rows]  # MATLAB counts from 1


def _load(data: DataOptions, own: MarsOptions) -> Dataset:
    return load(data.root, gallery=own.gallery)


def _protocol_of(protocol: Protocol, dataset: Dataset, own: MarsOptions) -> Protocol:
    return replace(protocol, remarks=dataset.counts["notes"])


SPEC = DatasetSpec(
    name="mars",
    title=NAME,
    options=MarsOptions,
    load=_load,
    protocols=(Protocol("mars", "same_person", WHOLE),),
    protocol_of=_protocol_of,
)
