"""Columns of similarities without a cut; `test_banks` compares them with four devices."""

import jax
import jax.numpy as jnp
import numpy as np

from hitpro_jax.kernels import collectives


def test_log_sum_exp_is_finite_and_its_gradient_the_softmax():
    logits = jnp.array([[1000.0, 999.0, -jnp.inf]])
    np.testing.assert_allclose(collectives.log_sum_exp(logits, None), [1000.0 + np.log1p(np.exp(-1.0))], rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(collectives.log_sum_exp(x, None)))(logits)
    np.testing.assert_allclose(slope, jax.nn.softmax(logits), atol=1e-6)


def test_largest_of_few_columns_are_all_of_them():
    assert collectives.largest(jnp.array([[1.0, 2.0]]), 5, None).tolist() == [[2.0, 1.0]]
