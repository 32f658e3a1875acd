"""SYSU-MM01 on a made-up tree: who lands in which split, the drawn gallery, the rule by which it is scored."""

import random
from collections import Counter
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


NAMES = [f"{n:04d}.jpg" for n in range(1, 6)]
SEEN = ((4, (1, 2, 4, 5)), (5, (1, 2, 5)))  # test people and their visible cameras


def public_draw(trial, cameras):
    """The gallery of a trial as the public loaders draw it."""
    rng = random.Random(trial)
    return [f"cam{cam}/{pid:04d}/{rng.choice(NAMES)}" for pid, seen in SEEN for cam in seen if cam in cameras]


def galleries(dataset, protocol, directions):
    """First frames of the rows that each direction searches, in their order."""
    return {
        key: [dataset.gallery[row].frames[0] for row in protocol.rows(dataset, searched)]
        for key, (_, searched) in directions.items()
    }


def test_query_and_gallery_are_all_test_images_of_their_modality(tmp_path):
    dataset, protocol = opened("sysu_mm01", write(tmp_path, SYSU))
    assert numbers(dataset) == {
        "train": {"tracklets": 90, "rgb": 60, "ir": 30, "frames": 90},
        "query": {"tracklets": 20, "rgb": 0, "ir": 20, "frames": 20},
        "gallery": {"tracklets": 35, "rgb": 35, "ir": 0, "frames": 35},
    }
    assert {r.camid for r in dataset.train} == set(range(1, 7))
    assert {r.camid for r in dataset.query} == {2, 6}
    assert protocol.camera_rule == "same_camera"


def test_ten_trials_of_both_searches_are_drawn_as_the_public_loaders_do(tmp_path):
    dataset, protocol = opened("sysu_mm01", write(tmp_path, SYSU))
    assert protocol.name == "sysu_mm01 trials 0 to 9"
    assert list(protocol.trials) == list(range(10))
    assert protocol.directions == protocol.trials[0]
    for trial, directions in protocol.trials.items():
        expected = {"i2v": public_draw(trial, (1, 2, 4, 5)), "i2v_indoor": public_draw(trial, (1, 2))}
        assert galleries(dataset, protocol, directions) == expected
    assert len({tuple(public_draw(trial, (1, 2, 4, 5))) for trial in range(10)}) > 1
    assert replace(protocol, frames=1, image_size=(288, 144)).setting == (
        "1 frame of 288x144, same-camera gallery left out, mean and std over 10 trials"
    )


@pytest.mark.parametrize(("gallery", "keys"), [("all", ["i2v"]), ("indoor", ["i2v_indoor"])])
def test_one_trial_and_one_search(tmp_path, gallery, keys):
    dataset, protocol = opened("sysu_mm01", write(tmp_path, SYSU), SysuMm01Options(trial=3, gallery=gallery))
    assert protocol.trials == {}
    assert protocol.name == f"sysu_mm01 {gallery} trial 3"
    cameras = (1, 2, 4, 5) if gallery == "all" else (1, 2)
    assert galleries(dataset, protocol, protocol.directions) == {keys[0]: public_draw(3, cameras)}


def test_multi_shot_draws_up_to_ten_images_of_a_person_and_camera(tmp_path):
    more = SYSU | {f"cam1/0004/{n:04d}.jpg": "image" for n in range(1, 15)}
    dataset, protocol = opened("sysu_mm01", write(tmp_path, more), SysuMm01Options(shots="multi"))
    assert protocol.name == "sysu_mm01 multi-shot trials 0 to 9"
    found = [galleries(dataset, protocol, directions)["i2v_indoor"] for directions in protocol.trials.values()]
    expected = {"cam1/0004": 10, "cam2/0004": 5, "cam1/0005": 5, "cam2/0005": 5}
    assert [Counter(frame[:9] for frame in gallery) for gallery in found] == [expected] * 10
    assert found[0] != found[1]


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


def test_a_listed_person_without_an_image_is_passed_over(tmp_path):
    dataset = sysu_mm01.load(write(tmp_path, SYSU | {"exp/test_id.txt": "4,5,77"}))
    assert {record.pid for record in dataset.query + dataset.gallery} == {4, 5}
