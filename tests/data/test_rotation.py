"""The rotation against a replay from the first draw, its coverage, and batches that are filled from it."""

import itertools

import numpy as np
import pytest

from hitpro_jax.data import rotation
from tests.reference import rotation as naive


def drawn(key, views, power, first, count, eligible=None):
    views = np.asarray(views)
    eligible = np.ones(len(views), bool) if eligible is None else eligible
    made = rotation.rotation(key, views, np.arange(len(views)), eligible, power, first)
    return list(itertools.islice(made, count))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_draws_are_those_of_the_replay(power, share):
    rng = np.random.default_rng(2)
    views = rng.permutation(np.repeat([4, 7, 9], [1, 12, 40]))
    eligible = rng.random(len(views)) < share
    everyone = np.arange(len(views))
    for first in (0, 1, 3, 61, 700):
        expected = naive.rotation((5, 1), views, everyone, eligible, power, first, 320)
        assert drawn((5, 1), views, power, first, 320, eligible) == expected


def test_a_draw_far_away_costs_no_more_than_the_first():
    views = np.repeat([0, 1], [30, 50])
    assert len(drawn((0, 0), views, 1.0, 10**12, 100)) == 100


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_views_come_up_by_their_shares(power):
    sizes = np.array([3, 20, 100])
    shares = rotation.view_shares(sizes, power)
    np.testing.assert_allclose(shares, sizes**power / (sizes**power).sum())
    turn, before = rotation.turns((1,), np.arange(3), shares, 1000, 5000)
    assert np.abs(np.bincount(turn) - 5000 * shares).max() < 2
    assert np.abs(before - 1000 * shares).max() < 2
    for part in np.split(turn, 50):  # nor does a view run ahead for a while
        assert np.abs(np.bincount(part, minlength=3) - 100 * shares).max() < 2


def test_views_of_equal_share_come_up_once_a_round_in_changing_order():
    turn, _ = rotation.turns((1,), np.arange(6), np.full(6, 1 / 6), 60, 600)
    rounds = turn.reshape(100, 6)
    assert (np.sort(rounds) == np.arange(6)).all()
    assert len(np.unique(rounds, axis=0)) > 60


def test_a_view_shows_all_its_tracklets_in_every_round_in_changing_order():
    made = drawn((0, 0), np.zeros(9, int), 0.0, 0, 90)
    rounds = np.reshape(made, (10, 9))
    assert (np.sort(rounds) == np.arange(9)).all()
    assert len(np.unique(rounds, axis=0)) == 10


def test_seed_and_use_make_other_rotations():
    views = np.arange(40) % 4
    first = drawn((0, 0), views, 0.0, 5, 40)
    assert drawn((0, 0), views, 0.0, 5, 40) == first
    assert drawn((1, 0), views, 0.0, 5, 40) != first
    assert drawn((0, 1), views, 0.0, 5, 40) != first


def test_batches_repeat_nothing_and_lose_nothing():
    """Where a round ends within a batch, what the batch has already comes in the next one."""
    views = np.zeros(7, int)
    draws = rotation.Draws(iter(drawn((0, 0), views, 0.0, 0, 700)), frozenset(range(7)))
    batches = [draws.fill([], 4) for _ in range(150)]
    assert all(len(set(batch)) == 4 for batch in batches)
    counts = np.bincount(np.concatenate(batches), minlength=7)
    assert counts.max() - counts.min() <= 1  # 600 draws: 85 or 86


def test_what_a_batch_has_already_waits_for_the_next_one():
    draws = rotation.Draws(iter([1, 2, 1, 3, 4, 0]), frozenset(range(5)))
    assert draws.fill([2, 1], 4) == [2, 1, 3, 4]
    assert draws.fill([1], 3) == [1, 2, 0]  # 1 still waits
    assert draws.fill([], 1) == [1]


def test_a_tracklet_is_repeated_only_once_all_are_in():
    draws = rotation.Draws(itertools.cycle([0, 0, 1]), frozenset({0, 1}))
    assert sorted(draws.fill([], 2)) == [0, 1]
    for _ in range(3):
        batch = draws.fill([5], 6)
        assert batch[0] == 5
        assert set(batch[1:3]) == {0, 1}
        assert set(batch[3:]) <= {0, 1}
