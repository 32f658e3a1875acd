"""Reads one image file, after a look at its header: what is too large or cut short is refused before it is decoded."""

import os
import struct

import cv2
import numpy as np
import simplejpeg

from hitpro_jax.data import transforms

MAX_SIDE = 10_000  # pixels; two such sides take 300 MB decoded, and no video has larger frames
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")

_NO_FRAME_HEADER = (0xC4, 0xC8, 0xCC)  # of the JPEG markers 0xC0 to 0xCF: tables, and one that is reserved


class Unreadable(ValueError):
    """Why an image cannot be read, worded to follow its name: "does not exist"."""


def read(path: str | os.PathLike, image_size: tuple[int, int]) -> np.ndarray:
    """Returns the image as uint8 [H, W, 3] in RGB order, scaled bilinearly to `image_size` (H, W) and not cropped.

    JPEG, PNG and BMP, known by their content; grey files get three equal channels.

    Args:
      path: of the file.
      image_size: (H, W) in pixels.

    Returns:
      uint8 [H, W, 3].

    Raises:
      Unreadable: there is no such file, it cannot be opened, it is none of the three formats, a side is over MAX_SIDE,
        or its end is missing. A JPEG that lacks no more than its end marker counts as cut short. Damage inside a JPEG
        is filled with grey and is not noticed here.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise Unreadable("does not exist") from None
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror})") from None
    return decode(data, image_size)


def decode(data: bytes, image_size: tuple[int, int]) -> np.ndarray:
    """As `read`, from the bytes of a file."""
    width, height, whole = header(data)
    if max(width, height) > MAX_SIDE:
        raise Unreadable(f"is {width:,} x {height:,} pixels, over the limit of {MAX_SIDE:,} a side")
    # looked for, because OpenCV silently fills a JPEG that is cut short with grey
    if not whole:
        raise Unreadable("is cut short")
    image = _pixels(data)
    if image is None:
        raise Unreadable("does not decode as an image")
    return transforms.resize(image, *image_size)


def _pixels(data: bytes) -> np.ndarray | None:
    if data[:2] == b"\xff\xd8":
        try:
            # faster than OpenCV, and to the same pixels
            return simplejpeg.decode_jpeg(data, "RGB")
        except ValueError:  # damaged or unusual
            pass
    return opencv_pixels(data)


def opencv_pixels(data: bytes) -> np.ndarray | None:
    """uint8 [H, W, 3] in RGB order, or None."""
    try:
        # the orientation of EXIF is ignored, as by the public loaders, which read with Pillow
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def header(data: bytes) -> tuple[int, int, bool]:
    """Width and height in pixels, and whether the end of the file is there.

    Raises:
      Unreadable: the bytes are not the beginning of a JPEG, PNG or BMP file.
    """
    if data[:2] == b"\xff\xd8":
        return _jpeg_header(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        # the first chunk is IHDR, and begins with the two
        width, height = struct.unpack_from(">II", data, 16)
        return width, height, data.rfind(b"IEND") > 0
    if data[:2] == b"BM" and len(data) >= 34:
        first, _, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", data, 10)
        # bytes; rows end at multiples of 32 bits
        row = (width * bits + 31) // 32 * 4
        # a negative height means rows from the top; compressed pixels may have any length
        return width, abs(height), compression != 0 or len(data) >= first + row * abs(height)
    raise Unreadable("does not decode as an image")


def _jpeg_header(data):
    """Walks over the segments before the frame header; behind it only the end of image is FF D9."""
    offset = data.find(b"\xff", 2)
    while 0 <= offset <= len(data) - 9:
        marker = data[offset + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER:
            # behind marker (2 bytes), length (2) and bits a sample (1)
            height, width = struct.unpack_from(">HH", data, offset + 5)
            return width, height, data.rfind(b"\xff\xd9", offset) > 0
        # a marker may have any number of FF before it
        step = 1 if marker == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        offset = data.find(b"\xff", offset + step)
    raise Unreadable("is cut short")
