"""ICTP against loops over parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.prototypes import aggregate_parts, unit
from tests.reference import mining as naive

aggregate = jax.jit(aggregate_parts, static_argnames="mode")


@pytest.mark.parametrize("mode", ["uniform", "consistency"])
@pytest.mark.parametrize("shape", [(7, 4, 5), (1, 1, 3)])
def test_equals_naive(mode, shape):
    rng = np.random.default_rng(0)
    parts = (rng.normal(size=shape) + 1.0).astype(np.float32)
    mask = rng.uniform(size=shape[:2]) < 0.7
    mask[0] = shape[0] == 1  # a tracklet without any part
    prototypes, reliability = aggregate(parts, mask, mode=mode, temperature=0.2)
    expected, agreement = naive.aggregate_parts(parts, mask, mode, 0.2)
    np.testing.assert_allclose(prototypes, expected, atol=1e-6)
    np.testing.assert_allclose(reliability, agreement, atol=1e-6)


def test_no_tracklets():
    prototypes, reliability = aggregate_parts(jnp.zeros((0, 4, 5)), jnp.zeros((0, 4), bool))
    assert (prototypes.shape, reliability.shape) == ((0, 5), (0,))


@pytest.mark.parametrize("mode", ["uniform", "consistency"])
def test_masked_parts_never_count_and_all_masked_is_zero_without_nan(mode):
    parts = jnp.full((2, 2, 3), jnp.nan).at[0, 0].set(jnp.array([1.0, 0.0, 0.0]))
    mask = jnp.array([[True, False], [False, False]])
    with jax.debug_nans(True):
        prototypes, reliability = aggregate(jnp.where(mask[..., None], parts, 9.0), mask, mode=mode)
    np.testing.assert_allclose(prototypes, [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(reliability, [1.0, 0.0])


def test_consistency_downweights_the_odd_part():
    parts = jnp.array([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
    mask = jnp.ones((1, 3), bool)
    odd = [float(aggregate(parts, mask, mode=mode)[0][0, 1]) for mode in ("uniform", "consistency")]
    assert odd[1] < 0.5 * odd[0]


def test_unit_has_finite_gradient_at_zero():
    assert unit(jnp.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert np.all(np.isfinite(jax.jacobian(unit)(jnp.zeros(3))))
    x = jnp.array([3.0, 4.0])
    slope = (np.eye(2) - np.outer([0.6, 0.8], [0.6, 0.8])) / 5.0
    np.testing.assert_allclose(jax.jacobian(unit)(x), slope, atol=1e-6)


def test_unknown_mode():
    with pytest.raises(ValueError, match="unknown part aggregation 'max'"):
        aggregate_parts(jnp.zeros((1, 1, 1)), jnp.ones((1, 1), bool), mode="max")
