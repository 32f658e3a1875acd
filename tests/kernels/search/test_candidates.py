"""The table of the best: its entries, and what is kept of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.search import candidates
from tests.reference.worlds import table as random_table


def test_largest_is_top_k_ties_and_all():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 40, (5, 1000)).astype(np.float32)  # many ties
    values[1, :990] = -np.inf
    values[2] = -np.inf
    for count in (1, 9):
        assert 2 * candidates.COLUMN_GROUP * count < 1000
        for ours, theirs in zip(candidates.largest(jnp.asarray(values), count), jax.lax.top_k(values, count)):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("count", [0, 2, 9])
def test_keep_top_equals_naive(count):
    table, rng = random_table(2)
    keep = rng.uniform(size=table.index.shape) < 0.5
    kept = candidates.keep_top(table, keep, count=count)
    for i in range(11):
        expected = [j for j, k in zip(table.index[i], keep[i]) if k and j >= 0][:count]
        assert kept.index[i].tolist() == expected + [-1] * (count - len(expected))
        assert np.isfinite(kept.similarity[i]).sum() == len(expected)
