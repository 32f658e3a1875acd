"""The rules that read the table of neighbours."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels import prototypes
from hitpro_jax.kernels.mining import thresholds
from hitpro_jax.kernels.search import centring
from hitpro_jax.kernels.search.candidates import Neighbours
from tests.reference import mining as naive
from tests.reference.worlds import PICTURES, WORLDS, pictures, world
from tests.reference.worlds import table as random_table

ROWS = 23
threshold = jax.jit(thresholds.dynamic_threshold, static_argnames="num_groups")


def test_camera_rank_equals_naive():
    table, rng = random_table()
    camera = rng.integers(0, 3, 11).astype(np.int32)
    rank = jax.jit(thresholds.camera_rank)(table, camera)
    for i in range(11):
        for m, j in enumerate(table.index[i]):
            nearer = [k for k in table.index[i][:m] if camera[k] == camera[j]]
            assert rank[i, m] == (6 if j < 0 else len(nearer))


@pytest.mark.parametrize("count", [1, 3, 6])
def test_reciprocal_equals_naive(count):
    table, _ = random_table(1)
    hit = jax.jit(thresholds.reciprocal, static_argnames="count")(table, count=count)
    expected = [[j >= 0 and i in table.index[j][:count] for j in table.index[i]] for i in range(11)]
    assert hit.tolist() == expected
    assert np.any(expected)
    assert not np.all(expected)


def test_reciprocal_refuses_a_table_that_is_too_narrow():
    with pytest.raises(ValueError, match="over 7 neighbours needs a table at least as wide, got 6"):
        thresholds.reciprocal(random_table()[0], count=7)


def test_threshold_equals_closed_form_and_leaves_out_rows_without_candidates():
    best, modality = jnp.array([0.2, 0.6, 0.5, -jnp.inf]), jnp.array([0, 0, 1, 1])
    theta = threshold(best, modality, num_groups=2, kappa=0.5)
    np.testing.assert_allclose(theta, [0.4 + 0.5 * 0.2, 0.5], atol=1e-6)


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_threshold_memory(unknown):
    best = jnp.array([0.2, 0.6])
    groups = jnp.array([0, 0])
    first = threshold(best, groups, num_groups=2, kappa=0.0, ema=0.3, previous=jnp.array([unknown, unknown]))
    assert first.tolist() == [pytest.approx(0.4), np.inf]
    then = threshold(best, groups, num_groups=2, kappa=0.0, ema=0.3, previous=jnp.array([0.8, 0.7]))
    np.testing.assert_allclose(then, [0.3 * 0.8 + 0.7 * 0.4, 0.7], atol=1e-6)  # the empty group keeps its own


@pytest.mark.parametrize("rows", [0, 3])
def test_threshold_of_nothing_is_infinite_not_nan(rows):
    theta = threshold(jnp.full(rows, -jnp.inf), jnp.zeros(rows, int), num_groups=2, kappa=1.0)
    assert theta.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("rule", ["relative", "statistic", "both", "fixed"])
def test_row_threshold_equals_naive(rule):
    best = jnp.array([0.9, 0.4, 0.0, -0.2, -jnp.inf])
    theta = jnp.array([0.5, 0.6, -0.1, -0.3, 0.4])
    bar = thresholds.row_threshold(best, theta, rule=rule, rho=0.9, fixed=0.3)
    expected = [naive.bar_of(float(b), float(t), rule, 0.9, 0.3) for b, t in zip(best, theta)]
    np.testing.assert_allclose(bar, expected, atol=1e-6)


def test_reaches_forgives_rounding_and_nothing_more():
    table = Neighbours(jnp.array([[0, 1, 2, -1]]), jnp.array([[0.6, 0.5 - 5e-7, 0.5 - 1e-4, -jnp.inf]]))
    assert thresholds.reaches(table, jnp.array([0.5])).tolist() == [[True, True, False, False]]
    assert not np.any(thresholds.reaches(table, jnp.array([jnp.inf])))
    assert thresholds.reaches(table, jnp.array([-jnp.inf])).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("name", WORLDS)
def test_threshold_of_parts_equals_naive(name):
    w, rng = world(**WORLDS[name]), np.random.default_rng(3)
    parts = (w.prototypes[:, None] + 0.2 * rng.normal(size=(ROWS, 4, w.prototypes.shape[1]))).astype(np.float32)
    mask = rng.random((ROWS, 4)) < 0.6
    centre = naive.view_centres(w, centring.PRIOR).astype(np.float32)
    halves = jax.jit(jax.vmap(prototypes.halves_similarity))(parts, mask, centre)
    theta = thresholds.part_threshold(halves, jnp.where(w.valid, w.modality, -1), num_groups=2)
    expected = naive.part_threshold(w, parts, mask, centre, thresholds.HALVES_QUANTILE)
    np.testing.assert_allclose(theta, expected, atol=0.00101)  # the lower end of a bin of 0.001


@pytest.mark.parametrize("name", ["easy", "hard"])
def test_threshold_of_strangers_equals_naive(name):
    w, person, _ = pictures(0, **PICTURES[name] | {"people": 6, "fewest": 2, "most": 6})
    w = w._replace(valid=np.random.default_rng(0).random(len(person)) < 0.9)
    for share in (0.05, 0.2):
        theta = jax.jit(partial(thresholds.stranger_threshold, share=share))(w.prototypes, w.info)
        np.testing.assert_allclose(theta, naive.stranger_threshold(w, thresholds.BINS, share), atol=1e-5)
        assert np.isfinite(theta).all() or name == "hard"


def test_threshold_of_strangers_is_right_for_nineteen_of_twenty_pairs():
    """Without knowing the number of persons or pictures."""
    for name, values in PICTURES.items():
        w, person, _ = pictures(1, **values)
        w = w._replace(prototypes=naive.direction_from(w.prototypes, means_of_views(w)).astype(np.float32))
        theta = jax.jit(thresholds.stranger_threshold)(w.prototypes, w.info)
        near = w.prototypes @ w.prototypes.T >= np.asarray(theta)[w.modality][:, None]
        near &= (w.view[:, None] == w.view) & ~np.eye(len(person), dtype=bool)
        assert 0.9 < (person[:, None] == person)[near].mean() <= 1, name


def means_of_views(w):
    return np.stack([w.prototypes[w.view == view].mean(0) for view in range(w.view.max() + 1)])[w.view]


def test_threshold_of_strangers_is_infinite_where_nothing_stands_out():
    """Persons of one picture each: the most similar of them are no one's look-alikes."""
    w, _, _ = pictures(0, noise=0.5, fewest=1, most=1, people=200)
    assert np.isinf(thresholds.stranger_threshold(w.prototypes, w.info)).all()


def test_threshold_of_strangers_counts_some_rows_of_a_large_bank(monkeypatch):
    """And the same ones however many padding rows there are."""
    w, _, _ = pictures(0, noise=0.5)
    whole = thresholds.stranger_threshold(w.prototypes, w.info)
    monkeypatch.setattr(thresholds, "ANCHORS", 200)
    some = thresholds.stranger_threshold(w.prototypes, w.info)
    np.testing.assert_allclose(some, whole, atol=0.05)
    assert (np.asarray(some) != np.asarray(whole)).any()
    padded = jax.tree.map(lambda x: np.pad(x, [(0, 77)] + [(0, 0)] * (x.ndim - 1)), (w.prototypes, w.info))
    assert thresholds.stranger_threshold(*padded).tolist() == some.tolist()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown threshold rule 'strict'"):
        thresholds.row_threshold(jnp.ones(1), jnp.ones(1), rule="strict", rho=1.0)
