"""Segment means against loops over rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.segments import segment_mean
from tests.reference import mining as naive


@pytest.mark.parametrize(("rows", "segments"), [(0, 0), (0, 3), (1, 1), (5, 0), (17, 4)])
def test_equals_naive(rows, segments):
    rng = np.random.default_rng(rows + segments)
    features = rng.normal(size=(rows, 2, 3)).astype(np.float32)
    ids = rng.integers(-2, segments + 2, rows).astype(np.int32)  # both ends out of range
    weights = rng.uniform(size=rows).astype(np.float32)
    for chosen in (None, weights):
        means, totals = segment_mean(jnp.array(features), jnp.array(ids), num_segments=segments, weights=chosen)
        expected_means, expected_totals = naive.segment_mean(features, ids, segments, chosen)
        np.testing.assert_allclose(means, expected_means, atol=1e-6)
        np.testing.assert_allclose(totals, expected_totals, atol=1e-6)


def test_ids_outside_are_left_out_even_if_not_finite():
    means, totals = segment_mean(jnp.array([1.0, jnp.nan, jnp.nan]), jnp.array([0, -1, 2]), num_segments=2)
    assert means.tolist() == [1.0, 0.0]
    assert totals.tolist() == [1.0, 0.0]


def test_rows_without_weight_are_left_out_even_if_not_finite():
    weights = jnp.array([1.0, 0.0])
    means, totals = segment_mean(jnp.array([2.0, jnp.nan]), jnp.array([0, 0]), num_segments=1, weights=weights)
    assert (means.tolist(), totals.tolist()) == ([2.0], [1.0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8, jnp.bool_])
def test_sums_in_float32(dtype):
    ones = jnp.ones(300, dtype)  # bfloat16 and int8 cannot count to 300
    means, totals = segment_mean(ones, jnp.zeros(300, int), num_segments=1)
    assert means.dtype == jnp.float32
    assert (float(means[0]), float(totals[0])) == (1.0, 300.0)


def test_gradient_is_the_share_of_each_row():
    weights = jnp.array([1.0, 3.0, 5.0])

    def first_mean(x):
        return segment_mean(x, jnp.array([0, 0, 1]), num_segments=3, weights=weights)[0][0]

    np.testing.assert_allclose(jax.grad(first_mean)(jnp.ones(3)), [0.25, 0.75, 0.0])
