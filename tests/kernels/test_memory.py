"""The momentum update against loops over tracklets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.memory import momentum_update
from tests.reference import mining as naive

update = jax.jit(momentum_update)


def _batch(rows, clips, seed=0):
    rng = np.random.default_rng(seed)
    prototypes, features = (rng.normal(size=(n, 5)).astype(np.float32) for n in (rows, clips))
    unit_rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (prototypes, features)]
    return *unit_rows, rng.integers(-1, rows, clips).astype(np.int32)


@pytest.mark.parametrize(("rows", "clips"), [(6, 9), (1, 1), (4, 0)])
def test_equals_naive(rows, clips):
    prototypes, features, index = _batch(rows, clips)
    expected = naive.momentum_update(prototypes, features, index, 0.2)
    np.testing.assert_allclose(update(prototypes, features, index, momentum=0.2), expected, atol=1e-6)


def test_clips_of_one_tracklet_are_averaged_in_any_order():
    prototypes, features, index = _batch(3, 8)
    order = np.random.default_rng(1).permutation(8)
    once = update(prototypes, features, index, momentum=0.5)
    again = update(prototypes, features[order], index[order], momentum=0.5)
    np.testing.assert_allclose(once, again, atol=1e-6)


def test_untouched_rows_stay_bit_for_bit_and_ids_outside_are_ignored():
    prototypes, features, _ = _batch(4, 3)
    moved = update(prototypes, features, np.array([1, -1, 4], np.int32), momentum=0.5)
    kept = np.array([0, 2, 3])
    np.testing.assert_array_equal(moved[kept], prototypes[kept])
    assert np.abs(moved[1] - prototypes[1]).max() > 0.01


def test_momentum_one_keeps_and_zero_replaces():
    prototypes, features, _ = _batch(2, 1)
    index = np.array([1], np.int32)
    np.testing.assert_allclose(update(prototypes, features, index, momentum=1.0), prototypes, atol=1e-6)
    np.testing.assert_allclose(update(prototypes, features, index, momentum=0.0)[1], features[0], atol=1e-6)


def test_no_gradient():
    prototypes, features, index = _batch(6, 9)
    for argument in (0, 1):
        slope = jax.grad(lambda *x: jnp.sum(update(*x, index, momentum=0.2) ** 3), argument)(prototypes, features)
        assert not np.any(slope)
