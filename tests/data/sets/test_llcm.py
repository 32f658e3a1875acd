"""LLCM on a made-up tree: who lands in which split, the drawn gallery, bad index files."""

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


@pytest.mark.parametrize(("query", "key"), [("ir", "i2v"), ("rgb", "v2i")])
def test_llcm_draws_its_gallery_from_the_other_modality(tmp_path, query, key):
    dataset, protocol = opened("llcm", write(tmp_path, LLCM), LlcmOptions(query=query))
    assert numbers(dataset)["train"] == {"tracklets": 16, "rgb": 8, "ir": 8, "frames": 16}
    assert {r.modality for r in dataset.query} == {IR if query == "ir" else RGB}
    assert len(dataset.query) == 16
    assert {r.modality for r in dataset.gallery} == {RGB if query == "ir" else IR}
    assert len(dataset.gallery) == 4
    assert {r.camid for r in dataset.train} == {1, 5}
    assert {r.camid for r in dataset.gallery} == {1, 9}
    assert protocol.camera_rule == "same_person"
    assert protocol.name == "llcm trial 1"
    assert set(protocol.directions) == {key}


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
        ({}, {"query": "both"}, r"data.llcm.query 'both' is neither ir nor rgb"),
    ],
)
def test_bad_llcm_files_are_named(tmp_path, changes, options, message):
    with pytest.raises(ValueError, match=message):
        llcm.load(write(tmp_path, LLCM | changes), **options)
