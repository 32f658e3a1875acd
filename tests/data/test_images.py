"""Images: header, size and end are looked at before anything is decoded."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from hitpro_jax.data import images, pipeline
from hitpro_jax.data.records import FrameError

SIZE = (16, 8)
PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8), (50, 60))
PROGRESSIVE = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]


def encoded(suffix: str, *options) -> bytes:
    return cv2.imencode(suffix, PICTURE, *options)[1].tobytes()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few kB that would fill `width` x `height` pixels when decoded."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(1 + width // 8) * 10)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "data",
    [encoded(".jpg"), encoded(".jpg", PROGRESSIVE), encoded(".png"), encoded(".bmp")],
    ids=["jpeg", "progressive", "png", "bmp"],
)
def test_header_and_pixels_are_opencvs(data):
    assert images.header(data) == (50, 60, True)
    expected = cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), SIZE[::-1])
    np.testing.assert_array_equal(images.decode(data, SIZE), expected[..., ::-1])


@pytest.mark.parametrize("by_opencv", [False, True])
def test_the_orientation_of_exif_is_ignored(monkeypatch, by_opencv):
    """Tag 0x0112 = 6 asks for a quarter turn; the readers of the field show the pixels as they are stored."""
    if by_opencv:
        monkeypatch.setattr(images, "_pixels", images.opencv_pixels)
    tag = b"Exif\0\0MM\0\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    plain = encoded(".jpg")
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + plain[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (50, 60, 3)
    np.testing.assert_array_equal(images.decode(turned, SIZE), images.decode(plain, SIZE))


def test_simplejpeg_gives_opencvs_pixels_also_of_damaged_files():
    """Chroma at every resolution, odd sizes, progressive, grey; then one byte wrong anywhere."""
    rng = np.random.default_rng(0)
    options = [
        [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{chroma}"), *progressive]
        for chroma in (444, 422, 420)
        for progressive in ([], PROGRESSIVE)
    ]
    files = [
        cv2.imencode(".jpg", PICTURE[:h, :w], given)[1].tobytes() for given in options for h, w in ((60, 50), (33, 17))
    ]
    files.append(cv2.imencode(".jpg", PICTURE[..., 0])[1].tobytes())
    for position in rng.integers(2, len(files[0]) - 2, 100):
        files.append(files[0][:position] + rng.bytes(1) + files[0][position + 1 :])

    for data in files:
        np.testing.assert_array_equal(images._pixels(data), images.opencv_pixels(data))


def test_a_thumbnail_in_the_header_is_not_taken_for_the_picture():
    """The thumbnail has a frame header and an end of its own, inside the segment APP1."""
    thumbnail = cv2.imencode(".jpg", PICTURE[:8, :8])[1].tobytes()
    plain = encoded(".jpg")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + plain[2:]
    assert images.header(data) == (50, 60, True)
    assert images.header(data[:-2]) == (50, 60, False)


def test_bytes_behind_the_end_do_no_harm():
    data = encoded(".jpg")
    np.testing.assert_array_equal(images.decode(data + bytes(40), SIZE), images.decode(data, SIZE))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
def test_every_cut_is_noticed(suffix):
    data = encoded(suffix)
    for length in [*range(60), *range(60, len(data) - 12, 97), len(data) - 12, len(data) - 1]:
        with pytest.raises(images.Unreadable, match="is cut short|does not decode"):
            images.decode(data[:length], SIZE)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (huge_png(20_000, 20_000), "20,000 x 20,000"),
        (huge_png(20_000, 10), "20,000 x 10"),
        (encoded(".jpg").replace(struct.pack(">HH", 60, 50), struct.pack(">HH", 20_000, 50), 1), "50 x 20,000"),
    ],
    ids=["area", "width", "jpeg"],
)
def test_a_huge_picture_is_refused_by_its_header(data, size, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(images.Unreadable, match=f"is {size} pixels, over the limit of 10,000 a side"):
        images.decode(data, SIZE)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (encoded(".jpg")[:-40], "is cut short"),
        (huge_png(20_000, 20_000), "is 20,000 x 20,000 pixels"),
        (b"GIF89a", "does not decode as an image"),
        (None, "cannot be read .Is a directory."),
    ],
)
def test_the_reader_names_file_and_fault(tmp_path, content, fault):
    if content is None:
        (tmp_path / "a.jpg").mkdir()
    else:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(FrameError, match=rf"frame .*a\.jpg {fault}.*: restore it, or set data.allow_missing") as error:
        pipeline.FrameReader(str(tmp_path), SIZE)("a.jpg")
    assert error.value.paths == ("a.jpg",)
    reader = pipeline.FrameReader(str(tmp_path), SIZE, allow_missing=True)
    assert reader("a.jpg") is None
    assert reader.unreadable == {"a.jpg"}
