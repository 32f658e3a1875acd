"""SYSU-MM01 on a made-up tree: who lands in which split, the drawn gallery, the rule by which it is scored."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hitpro_jax.data.sets import sysu_mm01
from hitpro_jax.data.sets.sysu_mm01 import SysuMm01Options
from hitpro_jax.scoring import scores as scoring
from tests.data.trees import numbers, opened, write

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
    dataset, protocol = opened("sysu_mm01", root, SysuMm01Options(trial=3))
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
    assert protocol.camera_rule == "same_camera"
    assert protocol.name == "sysu_mm01 all trial 3"
    assert replace(protocol, frames=1, image_size=(288, 144)).setting == (
        "1 frames of 288x144, same-camera gallery left out"
    )
    indoor, _ = opened("sysu_mm01", root, SysuMm01Options(gallery="indoor"))
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


def test_an_unknown_gallery_of_sysu(tmp_path):
    with pytest.raises(ValueError, match="data.sysu_mm01.gallery 'outdoor' is neither all nor indoor"):
        sysu_mm01.load(write(tmp_path, SYSU), gallery="outdoor")


def test_a_listed_person_without_an_image_is_passed_over(tmp_path):
    dataset = sysu_mm01.load(write(tmp_path, SYSU | {"exp/test_id.txt": "4,5,77"}))
    assert {record.pid for record in dataset.query + dataset.gallery} == {4, 5}
