"""What the loaders share: lines of index files, image names in a folder, and paths that stay below their root."""

import os
import re
from pathlib import PurePosixPath

from hitpro_jax.data import images


def lines(path: str) -> list[str]:
    """The lines of an index file, stripped (CRLF, byte-order mark); empty ones at the end do not count.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"index file {path} does not exist: complete the copy of the data set")
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return [line.strip() for line in file.read().rstrip().split("\n")]


def filled(path: str) -> list[tuple[int, str]]:
    """(number from 1, line) of the lines that are not empty: for files whose rows are not referred to by number."""
    return [(number, line) for number, line in enumerate(lines(path), 1) if line]


def whole(text: str) -> int:
    """The whole number >= 0 that a text in an index file gives.

    Args:
      text: a field of a row.

    Raises:
      ValueError: it is not of ASCII digits alone, or over nine of them without leading zeros.

    >>> whole("0012")
    12
    """
    # not int() alone, which takes signs, underscores and digits of other scripts too
    digits = re.fullmatch("0*([0-9]{1,9})", text)
    if digits is None:
        raise ValueError(f"{text!r} is not a whole number of at most nine digits")
    return int(digits[1])


def inside(path: str, where: str) -> str:
    """The relative path in its shortest form.

    Args:
      path: as an index file gives it, with `/`.
      where: file and line, for the message.

    Raises:
      ValueError: it is empty, absolute, or has a part `..`.

    >>> inside("a//./b.jpg", "list.txt:1")
    'a/b.jpg'
    """
    short = PurePosixPath(path)
    if not short.parts or short.is_absolute() or ".." in short.parts or "\0" in path or "\n" in path:
        raise ValueError(f"{where}: {path!r} is not a path below the data set's folder: correct it")
    return str(short)


def natural(name: str) -> tuple:
    """Sorting key by which numbers in names count as numbers.

    >>> sorted(["10.jpg", "9.jpg", "a2", "a10"], key=natural)
    ['9.jpg', '10.jpg', 'a2', 'a10']
    """
    pieces = re.split(r"([0-9]+)", name)
    # every second piece is a number; the name itself decides between 1 and 01
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def image_names(folder: str) -> list[str]:
    """Names of the images (jpg, jpeg, png, bmp) in a folder, unsorted; hidden files are no images.

    Raises:
      ValueError: the folder cannot be read; the message names it.
    """
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if entry.name.lower().endswith(images.SUFFIXES) and not entry.name.startswith(".")
            ]
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be read ({error.strerror}): check its path and permissions") from None
