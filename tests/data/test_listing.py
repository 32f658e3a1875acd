"""Index files: lines, numbers, paths that stay below their root, names in the order of their numbers."""

import pytest

from hitpro_jax.data import listing


def test_lines_are_stripped_and_empty_ones_at_the_end_do_not_count(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa \r\n\r\n b\r\n\r\n \r\n".encode())
    assert listing.lines(str(path)) == ["a", "", "b"]
    assert listing.filled(str(path)) == [(1, "a"), (3, "b")]
    with pytest.raises(FileNotFoundError, match=r"index file .*none.txt does not exist: complete the copy"):
        listing.lines(str(tmp_path / "none.txt"))


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0012", 12), ("999999999", 999_999_999)])
def test_whole_numbers(text, number):
    assert listing.whole(text) == number


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1_2", "١", "1000000000", " 1"])
def test_other_texts_are_no_whole_numbers(text):
    with pytest.raises(ValueError, match="is not a whole number of at most nine digits"):
        listing.whole(text)


@pytest.mark.parametrize("path", ["", ".", "/a", "../a", "a/../../b", "a/..", "a\0b", "a\nb"])
def test_paths_that_leave_the_root_are_refused(path):
    with pytest.raises(ValueError, match=r"^list.txt:3: .* is not a path below the data set's folder: correct it"):
        listing.inside(path, "list.txt:3")


def test_paths_are_shortened():
    assert listing.inside("./a//b/./c.jpg", "list.txt:1") == "a/b/c.jpg"


def test_image_names(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.Png", "d.bmp", ".hidden.jpg", "notes.txt", "jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert sorted(listing.image_names(str(tmp_path))) == ["a.jpg", "b.JPEG", "c.Png", "d.bmp"]
    with pytest.raises(ValueError, match=r"folder .*nowhere cannot be read \(No such file or directory\): check"):
        listing.image_names(str(tmp_path / "nowhere"))
