"""MARS: tracklets of 1,261 people in six visible cameras, read from its index files."""

import os
import re
from typing import Any

from hitpro_jax.data import listing, matlab
from hitpro_jax.data.protocols import WHOLE, Protocol
from hitpro_jax.data.records import SPLITS, Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import RGB

NAME = "MARS"
JUNK = -1  # person number of junk detections, which are left out
_FRAME_NAME = re.compile(r"([0-9]{4}|00-1)C[1-6]T[0-9]+F[0-9]+\.jpg")


def load(root: str) -> Dataset:
    """Reads info/{train,test}_name.txt, tracks_{train,test}_info.mat and query_IDX.mat.

    A row of a track table is `start end pid camera`; start and end are rows of the name file from 1, end inclusive. A
    frame lies in bbox_{train,test}/<first four letters of its name>/. Query: the rows of query_IDX; gallery: every test
    row, the queries too (by the camera rule no query meets itself); person 0 is a distractor, -1 is junk and left out.
    No tracklet is too short. There is one modality: cross-modality levels of the loss have no terms.

    Args:
      root: folder that holds info/, bbox_train/ and bbox_test/.

    Raises:
      FileNotFoundError: an index file is missing.
      ValueError: a malformed name or row, or a range beyond the names; the message names file and line or row.
    """
    train, test = (_rows(root, half) for half in ("train", "test"))
    query = _query(root, len(test))
    rows = {"train": train, "query": [test[i] for i in query], "gallery": test}
    records = {split: tuple(row for row in rows[split] if row.pid != JUNK) for split in SPLITS}
    counts = {
        split: {"rows": len(rows[split]), "ids": len({r.pid for r in records[split]}), **count(records[split])}
        for split in SPLITS
    }
    return Dataset(NAME, root, **records, counts=counts)


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


def _load(data: DataOptions, own: Any) -> Dataset:
    return load(data.root)


SPEC = DatasetSpec(name="mars", title=NAME, load=_load, protocols=(Protocol("mars", "same_person", WHOLE),))
