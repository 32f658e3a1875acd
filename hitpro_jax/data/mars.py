"""MARS: tracklets of 1,261 people in six visible cameras, read from its index files."""

import os
import re
import struct
import zlib

import numpy as np
from scipy import io

from hitpro_jax.data import listing
from hitpro_jax.data.records import RGB, SPLITS, Dataset, Record, count

NAME = "MARS"
JUNK = -1  # person of detections that show nobody in particular: left out
_TORN = (ValueError, TypeError, KeyError, IndexError, OverflowError, NotImplementedError, MemoryError, OSError, EOFError,
         struct.error, zlib.error, io.matlab.MatReadError)  # what SciPy's reader raises at damaged files
_FRAME_NAME = re.compile(r"([0-9]{4}|00-1)C[1-6]T[0-9]+F[0-9]+\.jpg")


def load(root: str) -> Dataset:
    """Reads info/{train,test}_name.txt, tracks_{train,test}_info.mat and query_IDX.mat.

    A row of a track table is `start end pid camera`; start and end are rows of the name file from 1, end inclusive. A
    frame lies in bbox_{train,test}/<first four letters of its name>/. Query: the rows of query_IDX; gallery: every test
    row, the queries too (by the camera rule no query meets itself); person 0 is a distractor, -1 is junk and left out.
    No tracklet is too short. There is one modality: cross-modality levels of the loss have no terms.

    Raises:
      FileNotFoundError: an index file is missing.
      ValueError: a malformed name or row, or a range beyond the names; the message names file and line or row.
    """
    train, test = (_rows(root, half) for half in ("train", "test"))
    query = _query(root, len(test))
    rows = {"train": train, "query": [test[i] for i in query], "gallery": test}
    records = {split: tuple(row for row in rows[split] if row.pid != JUNK) for split in SPLITS}
    counts = {split: {"rows": len(rows[split]), "ids": len({r.pid for r in records[split]}), **count(records[split])}
              for split in SPLITS}
    return Dataset(NAME, root, **records, counts=counts)


def _rows(root: str, half: str) -> list[Record]:
    frames = _frames(root, half)
    path = os.path.join(root, "info", f"tracks_{half}_info.mat")
    table = _matrix(path)
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"{path}: a table of shape {table.shape} and not of 4 columns, start end pid camera: restore it")
    records, seen = [], {}
    for number, (start, end, pid, camid) in enumerate(table.tolist(), 1):
        if not 1 <= start <= end <= len(frames):
            raise ValueError(f"{path} row {number}: {start} to {end} is not a range within the {len(frames)} names of "
                             f"{half}_name.txt: restore both files from one copy")
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
            raise ValueError(f"{path}:{number}: {name!r} is not a frame name such as 0001C1T0001F001.jpg: restore the file")
    return [f"bbox_{half}/{name[:4]}/{name}" for name in names]


def _query(root: str, num_rows: int) -> list[int]:
    path = os.path.join(root, "info", "query_IDX.mat")
    rows = _matrix(path).ravel().tolist()
    for place, row in enumerate(rows):
        if not 1 <= row <= num_rows or row in rows[:place]:
            raise ValueError(f"{path}: row {row} is beyond the {num_rows} of tracks_test_info.mat or given twice: restore it")
    return [row - 1 for row in rows]


def _matrix(path: str) -> np.ndarray:
    """The only variable of a MATLAB file, int64."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"index file {path} does not exist: complete the copy of the data set")
    try:
        content = io.loadmat(path)
    except _TORN as error:
        raise ValueError(f"{path} is not a MATLAB file up to version 7 ({type(error).__name__}): restore it") from None
    tables = [value for key, value in content.items() if not key.startswith("__")]
    if len(tables) != 1 or tables[0].dtype.kind not in "iuf" or (tables[0] != np.floor(tables[0])).any():
        raise ValueError(f"{path}: not one table of whole numbers: restore it")
    return tables[0].astype(np.int64)
