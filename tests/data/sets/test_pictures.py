"""Lists of images and of people, as RegDB and LLCM give them; splits of which no image is there."""

import pytest

from hitpro_jax.data.sets import llcm, regdb, sysu_mm01
from tests.data.sets.test_llcm import LLCM
from tests.data.sets.test_regdb import REGDB
from tests.data.sets.test_sysu_mm01 import SYSU
from tests.data.trees import write


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../a.bmp 1", r"train_visible_1.txt:2: '../a.bmp' is not a path below"),
        ("/a.bmp 1", r"train_visible_1.txt:2: '/a.bmp' is not a path below"),
        ("a.bmp one", r"train_visible_1.txt:2: 'a.bmp one' is not `path label`"),
        ("a.bmp", r"train_visible_1.txt:2: 'a.bmp' is not"),
        ("a.bmp 1_2", r"train_visible_1.txt:2: 'a.bmp 1_2' is not"),
        ("a.bmp 1234567890", r"train_visible_1.txt:2: 'a.bmp 1234567890' is not"),
        ("\n../a.bmp\t1", r"train_visible_1.txt:3: '../a.bmp' is not a path below"),
        ("Visible/0/train0.bmp 1", r"train_visible_1.txt:2: .* is already on line 1"),
    ],
)
def test_bad_rows_of_an_image_list_are_named(tmp_path, line, message):
    rows = REGDB["idx/train_visible_1.txt"].split("\n")
    root = write(tmp_path, REGDB | {"idx/train_visible_1.txt": "\n".join([rows[0], line, *rows[2:]])})
    with pytest.raises(ValueError, match=message):
        regdb.load(root)


def test_blank_lines_and_tabs_in_an_image_list(tmp_path):
    plain = regdb.load(write(tmp_path, REGDB))
    text = REGDB["idx/train_visible_1.txt"].replace("\n", "\r\n \r\n").replace(" 1", " \t1")
    assert regdb.load(write(tmp_path, {"idx/train_visible_1.txt": text})) == plain
    with pytest.raises(ValueError, match="train_visible_1.txt: there is no row"):
        regdb.load(write(tmp_path, {"idx/train_visible_1.txt": "\n\n"}))


def test_blank_lines_in_an_id_list(tmp_path):
    plain = llcm.load(write(tmp_path, LLCM))
    assert llcm.load(write(tmp_path, {"idx/test_id.txt": "\n3,\n\n004\n"})) == plain


@pytest.mark.parametrize(
    ("load", "files", "gone", "split"),
    [
        (sysu_mm01.load, SYSU, ("cam3/", "cam6/"), "query"),
        (sysu_mm01.load, SYSU, ("cam1/", "cam2/", "cam4/", "cam5/"), "gallery"),
        (sysu_mm01.load, SYSU, ("cam",), "train"),
        (llcm.load, LLCM, ("test_nir/",), "query"),
        (llcm.load, LLCM, ("test_vis/",), "gallery"),
    ],
)
def test_a_split_without_an_image_is_refused(tmp_path, load, files, gone, split):
    root = write(tmp_path, {path: content for path, content in files.items() if not path.startswith(gone)})
    with pytest.raises(ValueError, match=f": no {split} image of the listed people is under .*: complete the copy of"):
        load(root)
