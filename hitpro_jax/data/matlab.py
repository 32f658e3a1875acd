"""Reads one table of whole numbers from a MATLAB file, as far as MARS's index files need it.

Choice: not SciPy's loadmat, because it crashes the whole process on files that are cut short (seen with SciPy 1.17).
Source: "MAT-File Level 5", MathWorks.
"""

import os
import struct
import zlib

import numpy as np

# the format's numbers of data types
_TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_MATRIX, _COMPRESSED = 14, 15
_MOST = 2**26  # bytes a compressed variable may grow to


def read_table(path: str) -> np.ndarray:
    """The file's only variable, int64 [rows, columns].

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, of another version (4, or 7.3), or holds anything but one table of whole numbers.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"index file {path} does not exist: complete the copy of the data set")
    with open(path, "rb") as file:
        data = file.read()
    try:
        # the end of the header: version 1, and "MI" as a little-endian number
        if data[124:128] != b"\x00\x01IM":
            raise ValueError("not a MATLAB file of version 5 to 7")
        tables = [_table(payload) for kind, payload in _variables(data[128:]) if kind == _MATRIX]
        if len(tables) != 1:
            raise ValueError(f"{len(tables)} variables instead of one")
    except (ValueError, struct.error, zlib.error, KeyError, IndexError) as error:
        reason = error if type(error) is ValueError else "damaged"
        raise ValueError(f"{path} holds no table of whole numbers ({reason}): restore it") from None
    return tables[0]


def _variables(data):
    offset = 0
    while offset < len(data):
        kind, payload, offset = _element(data, offset)
        if kind == _COMPRESSED:
            kind, payload, _ = _element(zlib.decompressobj().decompress(payload, _MOST), 0)
        yield kind, payload


def _element(data, offset):
    """Type and content of the element at `offset`, and where the next one is."""
    kind, size = struct.unpack_from("<II", data, offset)
    if kind >> 16:  # the short form: both numbers in the first four bytes, at most four bytes of content
        return kind & 0xFFFF, data[offset + 4 : offset + 4 + (kind >> 16)], offset + 8
    end = offset + 8 + size
    if end > len(data):
        raise ValueError("cut short")
    # elements fill up to multiples of 8 bytes, compressed ones do not
    return kind, data[offset + 8 : end], end if kind == _COMPRESSED else end + -size % 8


def _table(data):
    _, flags, offset = _element(data, 0)
    _, sizes, offset = _element(data, offset)
    _, _, offset = _element(data, offset)  # the variable's name
    kind, values, _ = _element(data, offset)
    # two sizes of int32; classes 6 to 15 are numbers, and flag 8 marks complex ones
    if len(sizes) != 8 or not 6 <= flags[0] <= 15 or flags[1] & 8:
        raise ValueError("not a table of real numbers")
    rows, columns = struct.unpack("<ii", sizes)
    table = np.frombuffer(values, _TYPES[kind])
    if min(rows, columns) < 1 or len(table) != rows * columns:
        raise ValueError("damaged")
    # MATLAB saves whole numbers as doubles, or in the smallest type that holds them
    if (np.abs(table.astype(np.float64)) < 2**31).all() and (table == np.floor(table)).all():
        return table.astype(np.int64).reshape(rows, columns, order="F")  # stored column by column
    raise ValueError("numbers that are not whole")
