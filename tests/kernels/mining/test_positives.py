"""The cycle check: what leads home."""

import jax.numpy as jnp

from hitpro_jax.kernels.mining.positives import cycle_consistent
from hitpro_jax.kernels.search.candidates import Neighbours


def test_twins_in_one_view_pass_the_cycle_through_a_shared_positive():
    """Rows 0 and 1 are tracklets of one person in one view, 2 theirs in another camera, 3 infrared."""
    links = jnp.array([[2, -1], [2, -1], [0, 1], [-1, -1]])
    table = Neighbours(jnp.array([[3], [3], [3], [1]]), jnp.ones((4, 1)))
    assert cycle_consistent(table, links)[:, 0].tolist() == [True, True, True, True]
    strangers = links.at[0, 0].set(-1)  # 0 shares nothing with 1, to which 3 leads back
    assert cycle_consistent(table, strangers)[:, 0].tolist() == [False, True, True, True]
