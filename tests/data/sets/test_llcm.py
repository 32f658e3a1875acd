"""LLCM on a made-up tree: who lands in which split, the drawn gallery, bad index files."""

import random

import pytest

from hitpro_jax.data.sets import llcm
from hitpro_jax.data.sets.llcm import LlcmOptions
from hitpro_jax.types import IR, RGB
from tests.data.trees import numbers, opened, write

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


SIDES = {"i2v": ("query", "gallery", "vis", RGB), "v2i": ("gallery", "query", "nir", IR)}


def public_draw(kind, trial):
    """The gallery of a trial as the public loaders draw it."""
    rng = random.Random(trial)
    names = [f"{n}.jpg" for n in range(4)]
    return [f"test_{kind}/cam{cam}/{pid:04d}/{rng.choice(names)}" for pid in (3, 4) for cam in (1, 9)]


@pytest.mark.parametrize(("query", "keys"), [("both", ["i2v", "v2i"]), ("ir", ["i2v"]), ("rgb", ["v2i"])])
def test_llcm_draws_ten_galleries_from_the_other_modality(tmp_path, query, keys):
    dataset, protocol = opened("llcm", write(tmp_path, LLCM), LlcmOptions(query=query))
    assert numbers(dataset)["train"] == {"tracklets": 16, "rgb": 8, "ir": 8, "frames": 16}
    assert (numbers(dataset)["query"], numbers(dataset)["gallery"]) == (
        {"tracklets": 16, "rgb": 0, "ir": 16, "frames": 16},
        {"tracklets": 16, "rgb": 16, "ir": 0, "frames": 16},
    )
    assert {r.camid for r in dataset.train} == {1, 5}
    assert protocol.camera_rule == "same_person"
    assert protocol.name == "llcm trials 0 to 9"
    assert list(protocol.directions) == keys
    for trial, directions in protocol.trials.items():
        for key, (asking, searched) in directions.items():
            ask, search, kind, modality = SIDES[key]
            assert (asking.split, searched.split, len(protocol.rows(dataset, asking))) == (ask, search, 16)
            rows = [getattr(dataset, search)[row] for row in protocol.rows(dataset, searched)]
            assert [record.frames[0] for record in rows] == public_draw(kind, trial)
            assert {record.modality for record in rows} == {modality}


def test_one_trial(tmp_path):
    _, protocol = opened("llcm", write(tmp_path, LLCM), LlcmOptions(trial=3))
    assert (protocol.name, protocol.trials) == ("llcm trial 3", {})
    assert protocol.directions["v2i"][1].first_frames == frozenset(public_draw("nir", 3))


def test_infrared_test_images_of_camera_3_are_left_out_as_by_the_public_loaders(tmp_path):
    third = {f"test_{kind}/cam3/0003/{n}.jpg": "image" for kind in ("vis", "nir") for n in range(2)}
    dataset = llcm.load(write(tmp_path, LLCM | third))
    assert {r.camid for r in dataset.query} == {1, 9}
    assert {r.camid for r in dataset.gallery} == {1, 3, 9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"idx/train_vis.txt": "vis/0001/0001_c12_s1.jpg 0\n"},
            r"train_vis.txt:1: .* names no camera from c01 to c09",
        ),
        ({"idx/train_vis.txt": "vis/0001/1.jpg 0\n"}, r"train_vis.txt:1: .* names no camera"),
        ({"idx/train_vis.txt": "\nvis/0001/1.jpg\t0\n"}, r"train_vis.txt:2: .* names no camera"),
        ({"idx/test_id.txt": "\n\n"}, r"test_id.txt: there is no person number"),
        ({"idx/test_id.txt": "3\n\n1_2"}, r"test_id.txt:3: '1_2' is not a list of person numbers"),
        ({"idx/test_id.txt": "3,x"}, r"test_id.txt:1: '3,x' is not a list of person numbers"),
        ({"idx/test_id.txt": "3,3"}, r"test_id.txt: a person is listed twice"),
    ],
)
def test_bad_llcm_files_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        llcm.load(write(tmp_path, LLCM | changes))
