"""MARS, SYSU-MM01, RegDB and LLCM on made-up trees: who lands in which split, the drawn galleries, bad index files."""

import random

import numpy as np
import pytest
from scipy import io  # comes with JAX; writes MATLAB files as others do

from configs import base
from hitpro_jax.data import matlab, opening
from hitpro_jax.data.records import SPLITS, count, verify_files
from hitpro_jax.data.sets import image_sets, mars
from hitpro_jax.scoring import scores as scoring
from hitpro_jax.types import IR, RGB


def write(root, files):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return str(root)


def numbers(dataset):
    return {split: count(getattr(dataset, split)) for split in SPLITS}


def opened(name, root, **changes):
    options = {**base.get_config().data.to_dict(), "name": name, "root": root, **changes}
    dataset, protocol = opening.open_dataset(options)
    assert verify_files(dataset, min_frames=12) is dataset
    return dataset, protocol


# ------------------------------------------------------------------------------------------------------- MARS

TRAIN = [f"0001C{c}T0001F{f:03}.jpg" for c in (1, 2) for f in range(1, 5)]
TEST = [f"{p}C{c}T0001F{f:03}.jpg" for p, c in (("0002", 1), ("0002", 3), ("0000", 2), ("00-1", 4)) for f in (1, 2, 3)]


@pytest.fixture
def mars_root(tmp_path):
    def make(
        train=((1, 4, 1, 1), (5, 8, 1, 2)),
        test=((1, 3, 2, 1), (4, 6, 2, 3), (7, 9, 0, 2), (10, 12, -1, 4)),
        query=((1,),),
        **names,
    ):
        files = {
            f"bbox_{half}/{name[:4]}/{name}": "image"
            for half, half_names in (("train", TRAIN), ("test", TEST))
            for name in half_names
        }
        files |= {
            f"info/{half}_name.txt": "\r\n".join(names.get(half + "_name", given)) + "\r\n"
            for half, given in (("train", TRAIN), ("test", TEST))
        }
        root = write(tmp_path, files)
        io.savemat(f"{root}/info/tracks_train_info.mat", {"track_train_info": np.array(train)})
        io.savemat(f"{root}/info/tracks_test_info.mat", {"track_test_info": np.array(test)}, do_compression=True)
        io.savemat(f"{root}/info/query_IDX.mat", {"query_IDX": np.array(query, np.uint16)})
        return root

    return make


def test_mars_keeps_queries_and_distractors_in_the_gallery_and_leaves_junk_out(mars_root):
    dataset, protocol = opened("mars", mars_root())
    assert [(r.frames[0], len(r.frames), r.modality, r.camid, r.pid) for r in dataset.train] == [
        ("bbox_train/0001/0001C1T0001F001.jpg", 4, RGB, 1, 1),
        ("bbox_train/0001/0001C2T0001F001.jpg", 4, RGB, 2, 1),
    ]
    assert [(r.pid, r.camid) for r in dataset.query] == [(2, 1)]
    assert [(r.pid, r.camid) for r in dataset.gallery] == [(2, 1), (2, 3), (0, 2)]
    assert dataset.counts["gallery"] == {"rows": 4, "ids": 2, "tracklets": 3, "rgb": 3, "ir": 0, "frames": 9}
    assert protocol.camera_rule is True
    assert set(protocol.directions) == {"all"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ((1, 9, 1, 1),)}, r"tracks_train_info.mat row 1: 1 to 9 is not a range within the 8 names"),
        ({"train": ((1, 4, 1, 1), (0, 4, 1, 1))}, r"tracks_train_info.mat row 2: 0 to 4"),
        ({"train": ((1, 4, 1, 7),)}, r"row 1: person 1 or camera 7"),
        ({"train": ((1, 4, 1, 1), (1, 4, 1, 1))}, r"row 2: the frames of row 1 once more"),
        ({"train": ((1, 4, 1),)}, r"tracks_train_info.mat: 3 columns"),
        ({"train": ((1, 4, 1, 1.5),)}, r"tracks_train_info.mat holds no table of whole numbers"),
        ({"query": ((1, 5),)}, r"query_IDX.mat: row 5 is beyond the 4"),
        ({"query": ((1, 1),)}, r"query_IDX.mat: row 1 is .*given twice"),
        ({"test_name": ["../x.jpg", *TEST[1:]]}, r"test_name.txt:1: '../x.jpg' is not a frame name"),
        ({"test_name": [TEST[0], "", *TEST[2:]]}, r"test_name.txt:2: ''"),
    ],
)
def test_bad_mars_files_are_named(mars_root, changes, message):
    with pytest.raises(ValueError, match=message):
        mars.load(mars_root(**changes))


def test_matlab_tables_are_read_as_scipy_wrote_them_and_every_cut_is_noticed(tmp_path):
    path = str(tmp_path / "t.mat")
    for dtype in ("u1", "i2", "u2", "i4", "f4", "f8", "i8"):
        for packed in (False, True):
            table = np.arange(12, dtype=dtype).reshape(3, 4)
            io.savemat(path, {"x": table}, do_compression=packed)
            np.testing.assert_array_equal(matlab.read_table(path), table)
    data = (tmp_path / "t.mat").read_bytes()
    for length in range(0, len(data), 3):
        (tmp_path / "t.mat").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"t.mat holds no table"):
            matlab.read_table(path)
    io.savemat(path, {"x": table, "y": table})
    with pytest.raises(ValueError, match="2 variables instead of one"):
        matlab.read_table(path)


# -------------------------------------------------------------------------------------------------- SYSU-MM01

SYSU = {"exp/train_id.txt": "1,2", "exp/val_id.txt": "3\r\n", "exp/test_id.txt": "5,4\n"}
SYSU |= {
    f"cam{cam}/{pid:04d}/{n:04d}.jpg": "image"
    for cam in range(1, 7)
    for pid in range(1, 6)
    for n in range(1, 6)
    if (cam, pid) != (4, 5)
}


def test_sysu_draws_one_image_a_camera_as_the_public_loaders_do(tmp_path):
    root = write(tmp_path, SYSU)
    dataset, protocol = opened("sysu_mm01", root, trial=3)
    assert numbers(dataset) == {
        "train": {"tracklets": 90, "rgb": 60, "ir": 30, "frames": 90},
        "query": {"tracklets": 20, "rgb": 0, "ir": 20, "frames": 20},
        "gallery": {"tracklets": 7, "rgb": 7, "ir": 0, "frames": 7},
    }
    rng = random.Random(3)
    names = [f"{n:04d}.jpg" for n in range(1, 6)]
    seen = ((4, (1, 2, 4, 5)), (5, (1, 2, 5)))
    expected = [f"cam{cam}/{pid:04d}/{rng.choice(names)}" for pid, cameras in seen for cam in cameras]
    assert [r.frames[0] for r in dataset.gallery] == expected
    assert {r.camid for r in dataset.train} == set(range(1, 7))
    assert {r.camid for r in dataset.query} == {2, 6}
    assert set(protocol.directions) == {"i2v"}
    assert protocol.camera_rule == "place"
    indoor, _ = opened("sysu_mm01", root, gallery="indoor")
    assert {r.camid for r in indoor.gallery} == {1, 2}


def test_the_place_rule_takes_a_camera_out_of_the_ranking_whoever_it_shows():
    """By hand: query 0 of camera 2 loses gallery rows 0 (another person) and 1 (its own), so row 2 is its first."""
    query = np.array([[1.0, 0.0], [1.0, 0.0]])
    angle = np.array([0.0, 0.1, 0.2, 0.3])
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1)
    given = (query, gallery, np.array([7, 7]), np.array([8, 7, 7, 9]), np.array([2, 6]), np.array([2, 2, 1, 1]))
    scores = scoring.score(*given, camera_rule="place")
    assert scores["first_hit"].tolist() == [1, 2]
    np.testing.assert_allclose(scores["ap"], [1.0, (1 / 2 + 2 / 3) / 2])
    assert scoring.score(*given, camera_rule=True)["first_hit"].tolist() == [2, 2]
    ranking = np.tile(np.arange(4), (2, 1))
    assert scoring.score(*given, camera_rule="place", ranking=ranking)["first_hit"].tolist() == [1, 2]


# ------------------------------------------------------------------------------------------------ RegDB, LLCM

REGDB = {
    f"{kind}/{pid}/{half}{n}.bmp": "image"
    for kind in ("Visible", "Thermal")
    for pid in range(2)
    for n in range(3)
    for half in ("train", "test")
}
REGDB |= {
    f"idx/{half}_{kind.lower()}_{trial}.txt": "".join(
        f"{kind}/{pid}/{half}{n}.bmp {pid}\n" for pid in range(2) for n in range(3)
    )
    for half in ("train", "test")
    for kind in ("Visible", "Thermal")
    for trial in (1, 2)
}


def test_regdb(tmp_path):
    dataset, protocol = opened("regdb", write(tmp_path, REGDB), trial=2)
    assert numbers(dataset) == {
        "train": {"tracklets": 12, "rgb": 6, "ir": 6, "frames": 12},
        "query": {"tracklets": 6, "rgb": 0, "ir": 6, "frames": 6},
        "gallery": {"tracklets": 6, "rgb": 6, "ir": 0, "frames": 6},
    }
    assert dataset.query[4].frames == ("Thermal/1/test1.bmp",)
    assert dataset.query[4].pid == 1
    assert set(protocol.directions) == {"i2v", "v2i"}
    assert protocol.name == "regdb trial 2"


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
        image_sets.load_regdb(root)


def test_blank_lines_and_tabs_in_an_image_list(tmp_path):
    plain = image_sets.load_regdb(write(tmp_path, REGDB))
    text = REGDB["idx/train_visible_1.txt"].replace("\n", "\r\n \r\n").replace(" 1", " \t1")
    assert image_sets.load_regdb(write(tmp_path, {"idx/train_visible_1.txt": text})) == plain
    with pytest.raises(ValueError, match="train_visible_1.txt: there is no row"):
        image_sets.load_regdb(write(tmp_path, {"idx/train_visible_1.txt": "\n\n"}))


def test_a_trial_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="train_visible_11.txt does not exist"):
        image_sets.load_regdb(write(tmp_path, REGDB), trial=11)


LLCM = {
    f"{kind}/{pid:04d}/{pid:04d}_c0{cam}_s1_f{n}_{kind}.jpg": "image"
    for kind in ("vis", "nir")
    for pid in (1, 2)
    for cam in (1, 5)
    for n in range(2)
}
LLCM |= {
    f"idx/train_{kind}.txt": "".join(f"{path} {int(path[4:8]) - 1}\n" for path in LLCM if path.startswith(kind))
    for kind in ("vis", "nir")
}
LLCM |= {
    f"test_{kind}/cam{cam}/{pid:04d}/{n}.jpg": "image"
    for kind in ("vis", "nir")
    for pid in (3, 4)
    for cam in (1, 9)
    for n in range(4)
}
LLCM["idx/test_id.txt"] = "3,4"


@pytest.mark.parametrize(("query", "key"), [("ir", "i2v"), ("rgb", "v2i")])
def test_llcm_draws_its_gallery_from_the_other_modality(tmp_path, query, key):
    dataset, protocol = opened("llcm", write(tmp_path, LLCM), query=query)
    assert numbers(dataset)["train"] == {"tracklets": 16, "rgb": 8, "ir": 8, "frames": 16}
    assert {r.modality for r in dataset.query} == {IR if query == "ir" else RGB}
    assert len(dataset.query) == 16
    assert {r.modality for r in dataset.gallery} == {RGB if query == "ir" else IR}
    assert len(dataset.gallery) == 4
    assert {r.camid for r in dataset.train} == {1, 5}
    assert {r.camid for r in dataset.gallery} == {1, 9}
    assert protocol.camera_rule is True
    assert set(protocol.directions) == {key}


def test_blank_lines_in_an_id_list(tmp_path):
    plain = image_sets.load_llcm(write(tmp_path, LLCM))
    assert image_sets.load_llcm(write(tmp_path, {"idx/test_id.txt": "\n3,\n\n004\n"})) == plain


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (
            {"idx/train_vis.txt": "vis/0001/0001_c12_s1.jpg 0\n"},
            {},
            r"train_vis.txt:1: .* names no camera from c01 to c09",
        ),
        ({"idx/train_vis.txt": "vis/0001/1.jpg 0\n"}, {}, r"train_vis.txt:1: .* names no camera"),
        ({"idx/train_vis.txt": "\nvis/0001/1.jpg\t0\n"}, {}, r"train_vis.txt:2: .* names no camera"),
        ({"idx/test_id.txt": "\n\n"}, {}, r"test_id.txt: there is no person number"),
        ({"idx/test_id.txt": "3\n\n1_2"}, {}, r"test_id.txt:3: '1_2' is not a list of person numbers"),
        ({"idx/test_id.txt": "3,x"}, {}, r"test_id.txt:1: '3,x' is not a list of person numbers"),
        ({"idx/test_id.txt": "3,3"}, {}, r"test_id.txt: a person is listed twice"),
        ({}, {"query": "both"}, r"data.query 'both' is neither ir nor rgb"),
    ],
)
def test_bad_llcm_files_are_named(tmp_path, changes, options, message):
    with pytest.raises(ValueError, match=message):
        image_sets.load_llcm(write(tmp_path, LLCM | changes), **options)


def test_an_unknown_gallery_of_sysu(tmp_path):
    with pytest.raises(ValueError, match="data.gallery 'outdoor' is neither all nor indoor"):
        image_sets.load_sysu_mm01(write(tmp_path, SYSU), gallery="outdoor")


def test_a_listed_person_without_an_image_is_passed_over(tmp_path):
    dataset = image_sets.load_sysu_mm01(write(tmp_path, SYSU | {"exp/test_id.txt": "4,5,77"}))
    assert {record.pid for record in dataset.query + dataset.gallery} == {4, 5}


@pytest.mark.parametrize(
    ("load", "files", "gone", "split"),
    [
        (image_sets.load_sysu_mm01, SYSU, ("cam3/", "cam6/"), "query"),
        (image_sets.load_sysu_mm01, SYSU, ("cam1/", "cam2/", "cam4/", "cam5/"), "gallery"),
        (image_sets.load_sysu_mm01, SYSU, ("cam",), "train"),
        (image_sets.load_llcm, LLCM, ("test_nir/",), "query"),
        (image_sets.load_llcm, LLCM, ("test_vis/",), "gallery"),
    ],
)
def test_a_split_without_an_image_is_refused(tmp_path, load, files, gone, split):
    root = write(tmp_path, {path: content for path, content in files.items() if not path.startswith(gone)})
    with pytest.raises(ValueError, match=f": no {split} image of the listed people is under .*: complete the copy of"):
        load(root)
