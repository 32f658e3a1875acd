"""Centres of views against loops over rows."""

import jax
import numpy as np
import pytest

from hitpro_jax.kernels import prototypes
from hitpro_jax.kernels.search import centring
from tests.reference import mining as naive
from tests.reference.worlds import WORLDS, world

VIEWS = 6


@pytest.mark.parametrize("name", WORLDS)
def test_centres_of_views_equal_naive(name):
    w = world(**WORLDS[name])
    centre = jax.jit(lambda bank: centring.view_centres(bank, w.info, num_views=VIEWS))(w.prototypes)
    expected = naive.view_centres(w, centring.PRIOR)
    np.testing.assert_allclose(np.array(centre)[w.valid], expected[w.valid], atol=1e-5)
    directions = prototypes.direction_from(w.prototypes, centre)
    np.testing.assert_allclose(
        np.array(directions)[w.valid], naive.direction_from(w.prototypes, expected)[w.valid], atol=1e-5
    )
    assert np.all(np.isfinite(directions))
