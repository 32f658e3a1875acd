"""SWA against per-row loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.mining.weights import shared_neighbours, soft_weights
from tests.reference import mining as naive

KINDS = ["softmax", "uniform", "margin", "vote", "hard"]
weigh = jax.jit(soft_weights, static_argnames="kind")


def _rows(seed, size=9, width=4):
    rng = np.random.default_rng(seed)
    index = np.full((size, width), -1, np.int32)
    similarity = np.full((size, width), -np.inf, np.float32)
    for i in range(1, size):  # row 0 has no positive
        length = rng.integers(0, width + 1)
        index[i, :length] = rng.permutation([j for j in range(size) if j != i])[:length]
        similarity[i, :length] = np.sort(rng.uniform(0.2, 1.0, length))[::-1]
    return index, similarity, rng


@pytest.mark.parametrize("with_reliability", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_naive(kind, with_reliability):
    index, similarity, rng = _rows(0)
    threshold = rng.uniform(0.0, 0.2, 9).astype(np.float32)
    votes = np.where(index >= 0, rng.integers(1, 6, index.shape), 0).astype(np.float32)
    reliability = rng.uniform(0.3, 1.0, 9).astype(np.float32) if with_reliability else None
    weight = weigh(
        index,
        similarity,
        kind=kind,
        threshold=threshold,
        votes=votes,
        reliability=None if reliability is None else reliability[index],
    )
    for i in range(9):
        columns = {int(j): k for k, j in enumerate(index[i]) if j >= 0}
        dense = {(i, j): float(similarity[i, k]) for j, k in columns.items()}
        shared = {(i, j): votes[i, k] - 1 for j, k in columns.items()}
        found = naive.weigh(i, list(columns), dense, kind, 0.1, threshold[i], shared, reliability)
        expected = dict(found)
        np.testing.assert_allclose(weight[i], [expected.get(int(j), 0.0) for j in index[i]], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 3)])
def test_empty_rows_weigh_nothing(kind, shape):
    none = jnp.full(shape, -1), jnp.full(shape, -jnp.inf)
    bar = jnp.full(shape[0], jnp.inf)
    with jax.debug_nans(True):
        weight = weigh(*none, kind=kind, threshold=bar, votes=jnp.zeros(shape), reliability=jnp.ones(shape))
    assert weight.shape == shape
    assert not np.any(weight)


def test_unreliable_positives_weigh_less_but_never_vanish_together():
    index, similarity = (
        jnp.array([[1, 2], [0, -1], [0, -1]]),
        jnp.array([[0.5, 0.5], [0.5, -jnp.inf], [0.5, -jnp.inf]]),
    )
    weight = weigh(index, similarity, reliability=jnp.array([0.0, 0.2, 0.6])[index])
    np.testing.assert_allclose(weight, [[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]], atol=1e-6)


def test_small_temperature_stays_finite():
    weight = weigh(jnp.array([[1, 2]]), jnp.array([[1.0, -1.0]]), temperature=1e-4)
    np.testing.assert_array_equal(weight, [[1.0, 0.0]])


def test_shared_neighbours_equals_naive():
    rng = np.random.default_rng(1)
    near = np.stack([rng.permutation(9)[:4] for _ in range(9)]).astype(np.int32)
    near[rng.uniform(size=near.shape) < 0.2] = -1
    index = _rows(2)[0]
    votes = jax.jit(shared_neighbours)(index, near, near)
    for i in range(9):
        for k, j in enumerate(index[i]):
            shared = (set(near[i]) & set(near[j])) - {-1}
            assert votes[i, k] == (1 + len(shared) if j >= 0 else 0)


@pytest.mark.parametrize("kind", ["margin", "vote", "soft"])
def test_missing_ingredient_or_unknown_kind(kind):
    with pytest.raises(ValueError, match=f"'{kind}' cannot be had"):
        soft_weights(jnp.zeros((1, 1), int), jnp.ones((1, 1)), kind=kind)
