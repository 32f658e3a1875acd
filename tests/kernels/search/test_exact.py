"""The neighbour table and the rules that read it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.mining import thresholds
from hitpro_jax.kernels.schedules import ramp, schedule
from hitpro_jax.kernels.search import exact
from hitpro_jax.kernels.search.exact import Neighbours
from hitpro_jax.types import TrackletInfo
from tests.reference import mining as naive
from tests.reference.worlds import world

RELATIONS = ["same_view", "other_camera", "other_modality"]
nearest = jax.jit(exact.nearest, static_argnames=("relation", "count", "block", "ban_same_camera"))


def group_of(w):
    return TrackletInfo(*map(jnp.asarray, (w.modality, w.camera, w.view, w.valid)))


@pytest.mark.parametrize("ban", [False, True])
@pytest.mark.parametrize("relation", RELATIONS)
def test_nearest_equals_naive(relation, ban):
    w = world(1)
    table = nearest(w.prototypes, group_of(w), relation=relation, count=5, block=7, ban_same_camera=ban)
    similarity = naive.cosines(w.prototypes)
    for i, near in enumerate(naive.ranked(w, similarity, relation, 5, ban)):
        missing = 5 - len(near)
        assert table.index[i].tolist() == near + [-1] * missing
        np.testing.assert_allclose(
            table.similarity[i], [similarity[i, j] for j in near] + [-np.inf] * missing, atol=1e-6
        )


@pytest.mark.parametrize("block", [1, 23])
def test_nearest_does_not_depend_on_the_block(block):
    w = world(2)
    table = nearest(w.prototypes, group_of(w), relation="other_modality", count=6, block=block)
    near = naive.ranked(w, naive.cosines(w.prototypes), "other_modality", 6)
    assert [[j for j in row if j >= 0] for row in table.index.tolist()] == near


@pytest.mark.parametrize("size", [0, 1])
def test_nearest_of_few_rows_is_empty(size):
    w = world(0, size=size, padding=0)
    table = nearest(w.prototypes, group_of(w), relation="other_camera", count=3)
    assert table.index.shape == (size, 3)
    assert np.all(np.array(table.index) == -1)
    assert np.all(np.array(table.similarity) == -np.inf)


def test_ties_go_to_the_lower_index():
    info = TrackletInfo(jnp.array([0, 1, 1, 1]), jnp.zeros(4, int), jnp.array([0, 1, 1, 1]), jnp.ones(4, bool))
    table = nearest(jnp.ones((4, 2)), info, relation="other_modality", count=3)
    assert table.index[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("mode", ["none", "mean", "zscore"])
@pytest.mark.parametrize("cameras", [1, 3])
def test_view_bias_equals_naive(mode, cameras):
    w = world(3, cameras=cameras)
    info = group_of(w)

    def biased(prototypes):
        bias = exact.view_bias(prototypes, info, num_views=6, mode=mode, block=7)
        return exact.nearest(prototypes, info, relation="other_camera", count=23, bias=bias, block=7)

    table = jax.jit(biased)(w.prototypes)
    corrected = naive.unbias_cameras(w, naive.cosines(w.prototypes), mode)
    for i, near in enumerate(naive.ranked(w, corrected, "other_camera", 23)):
        assert table.index[i].tolist() == near + [-1] * (23 - len(near))
        np.testing.assert_allclose(table.similarity[i][: len(near)], [corrected[i, j] for j in near], atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "zscore"])
def test_view_bias_leaves_the_mean_of_a_modality_in_place(mode):
    w = world(4)
    info = group_of(w)
    plain = naive.cosines(w.prototypes)
    rows = [i for i in range(23) if w.modality[i] == 0]
    pairs = [(i, j) for i in rows for j in rows if naive.related(w, i, j, "other_camera")]
    bias = jax.jit(lambda x: exact.view_bias(x, info, num_views=6, mode=mode))(w.prototypes)
    offset, scale = (np.array(x)[np.ix_(w.view, w.view)] for x in bias)
    corrected = (plain - offset) * scale
    assert abs(np.mean([corrected[p] for p in pairs]) - np.mean([plain[p] for p in pairs])) < 1e-5


def test_balanced_rows_are_equally_near_to_their_nearest():
    index = jnp.array([[1, 2, 3], [0, -1, -1], [0, 1, -1], [-1, -1, -1]])
    similarity = jnp.array([[0.9, 0.7, 0.1], [0.5, -jnp.inf, -jnp.inf], [0.4, 0.2, -jnp.inf], [-jnp.inf] * 3])
    levels = np.array([0.8, 0.5, 0.3, 0.8 + 0.5 + 0.3]) - np.mean([0.8, 0.5, 0.3])
    levels[3] = 0.0  # it has no candidates
    table = exact.balanced(Neighbours(index, similarity), count=2)
    expected = [
        sorted(((s - (levels[i] + levels[j]) / 2, -j) for j, s in zip(row, values) if j >= 0), reverse=True)
        for i, (row, values) in enumerate(zip(index.tolist(), similarity.tolist()))
    ]
    for found, near, row in zip(table.index.tolist(), table.similarity.tolist(), expected):
        assert found == [-j for _, j in row] + [-1] * (3 - len(row))
        np.testing.assert_allclose(near, [s for s, _ in row] + [-np.inf] * (3 - len(row)), atol=1e-6)


def _table(seed=0, size=11, width=6):
    """A random table in which every row lists distinct others, with some short rows."""
    rng = np.random.default_rng(seed)
    index = np.full((size, width), -1, np.int32)
    similarity = np.full((size, width), -np.inf, np.float32)
    for i in range(size):
        length = rng.integers(0, width + 1)
        index[i, :length] = rng.permutation([j for j in range(size) if j != i])[:length]
        similarity[i, :length] = np.sort(rng.uniform(-0.2, 1.0, length))[::-1]
    return Neighbours(index, similarity), rng


def test_camera_rank_equals_naive():
    table, rng = _table()
    camera = rng.integers(0, 3, 11).astype(np.int32)
    rank = jax.jit(thresholds.camera_rank)(table, camera)
    for i in range(11):
        for m, j in enumerate(table.index[i]):
            nearer = [k for k in table.index[i][:m] if camera[k] == camera[j]]
            assert rank[i, m] == (6 if j < 0 else len(nearer))


@pytest.mark.parametrize("count", [1, 3, 6])
def test_reciprocal_equals_naive(count):
    table, _ = _table(1)
    hit = jax.jit(thresholds.reciprocal, static_argnames="count")(table, count=count)
    expected = [[j >= 0 and i in table.index[j][:count] for j in table.index[i]] for i in range(11)]
    assert hit.tolist() == expected
    assert np.any(expected)
    assert not np.all(expected)


def test_reciprocal_refuses_a_table_that_is_too_narrow():
    with pytest.raises(ValueError, match="over 7 neighbours needs a table at least as wide, got 6"):
        thresholds.reciprocal(_table()[0], count=7)


threshold = jax.jit(thresholds.dynamic_threshold, static_argnames="num_groups")


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


@pytest.mark.parametrize("count", [0, 2, 9])
def test_keep_top_equals_naive(count):
    table, rng = _table(2)
    keep = rng.uniform(size=table.index.shape) < 0.5
    kept = exact.keep_top(table, keep, count=count)
    for i in range(11):
        expected = [j for j, k in zip(table.index[i], keep[i]) if k and j >= 0][:count]
        assert kept.index[i].tolist() == expected + [-1] * (count - len(expected))
        assert np.isfinite(kept.similarity[i]).sum() == len(expected)


def test_unknown_switches_name_the_choices():
    w = world(0)
    with pytest.raises(ValueError, match="unknown relation 'near'"):
        exact.nearest(w.prototypes, group_of(w), relation="near", count=1)
    with pytest.raises(ValueError, match="unknown camera bias 'median'"):
        exact.view_bias(w.prototypes, group_of(w), num_views=6, mode="median")
    with pytest.raises(ValueError, match="unknown threshold rule 'strict'"):
        thresholds.row_threshold(jnp.ones(1), jnp.ones(1), rule="strict", rho=1.0)
    with pytest.raises(ValueError, match="unknown schedule 'step'"):
        schedule(0.5, 0.0, 1.0, kind="step")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.95, 0.925, 0.9, 0.85, 0.85]),
        ("cosine", [0.95, 0.95 - 0.1 * (1 - np.cos(np.pi / 4)) / 2, 0.9, 0.85, 0.85]),
        ("constant", [0.9] * 5),
        ("reverse", [0.85, 0.875, 0.9, 0.95, 0.95]),
    ],
)
def test_schedule(kind, expected):
    values = [float(schedule(x, 0.95, 0.85, kind=kind)) for x in (0.0, 0.25, 0.5, 1.0, 1.5)]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_ramp():
    np.testing.assert_allclose(
        [float(ramp(x, begin=0.2, length=0.4)) for x in (0.0, 0.2, 0.3, 0.6, 1.0)],
        [0, 0, 0.25, 1, 1],
        atol=1e-6,
    )
    assert [float(ramp(x, begin=0.2, length=0.0)) for x in (0.1, 0.2)] == [0.0, 1.0]
