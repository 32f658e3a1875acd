"""Losses of the baselines: precision here, values against naive twins in tests/methods/baselines."""

import jax.numpy as jnp
import pytest

from hitpro_jax.kernels import pseudo_labels
from tests.reference.losses import assert_highest_precision


@pytest.mark.parametrize(
    "function",
    [
        lambda z, bank: pseudo_labels.identity_entropy(z, bank, jnp.arange(3), temperature=0.05),
        lambda z, bank: pseudo_labels.batch_hard_triplet(z, jnp.arange(3), margin=0.2),
    ],
)
def test_products_are_at_highest_precision_forward_and_backward(function):
    assert_highest_precision(function)
