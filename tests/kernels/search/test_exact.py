"""The exact search against all pairs, in any block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.banks import Tiling
from hitpro_jax.kernels.search import exact
from hitpro_jax.types import TrackletInfo
from tests.reference import mining as naive
from tests.reference.worlds import world

RELATIONS = ["same_view", "other_camera", "other_modality"]
nearest = jax.jit(exact.nearest, static_argnames=("relation", "count", "ban_same_camera", "tiling"))


@pytest.mark.parametrize("ban", [False, True])
@pytest.mark.parametrize("relation", RELATIONS)
def test_nearest_equals_naive(relation, ban):
    w = world(1)
    table = nearest(w.prototypes, w.info, relation=relation, count=5, tiling=Tiling(7), ban_same_camera=ban)
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
    table = nearest(w.prototypes, w.info, relation="other_modality", count=6, tiling=Tiling(block))
    near = naive.ranked(w, naive.cosines(w.prototypes), "other_modality", 6)
    assert [[j for j in row if j >= 0] for row in table.index.tolist()] == near


@pytest.mark.parametrize("size", [0, 1])
def test_nearest_of_few_rows_is_empty(size):
    w = world(0, size=size, padding=0)
    table = nearest(w.prototypes, w.info, relation="other_camera", count=3)
    assert table.index.shape == (size, 3)
    assert np.all(np.array(table.index) == -1)
    assert np.all(np.array(table.similarity) == -np.inf)


def test_ties_go_to_the_lower_index():
    info = TrackletInfo(jnp.array([0, 1, 1, 1]), jnp.zeros(4, int), jnp.array([0, 1, 1, 1]), jnp.ones(4, bool))
    table = nearest(jnp.ones((4, 2)), info, relation="other_modality", count=3)
    assert table.index[0].tolist() == [1, 2, 3]


def test_an_unknown_relation_is_refused():
    w = world(0)
    with pytest.raises(ValueError, match="unknown relation 'near'"):
        exact.nearest(w.prototypes, w.info, relation="near", count=1)
