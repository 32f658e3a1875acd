"""Camera bias against all pairs, and balanced rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.banks import Tiling
from hitpro_jax.kernels.search import exact
from hitpro_jax.kernels.search.bias import balanced, view_bias
from hitpro_jax.kernels.search.candidates import Neighbours
from tests.reference import mining as naive
from tests.reference.worlds import world


@pytest.mark.parametrize("mode", ["none", "mean", "zscore"])
@pytest.mark.parametrize("cameras", [1, 3])
def test_view_bias_equals_naive(mode, cameras):
    w = world(3, cameras=cameras)
    info = w.info

    def biased(prototypes):
        bias = view_bias(prototypes, info, num_views=6, mode=mode, tiling=Tiling(7))
        return exact.nearest(prototypes, info, relation="other_camera", count=23, bias=bias, tiling=Tiling(7))

    table = jax.jit(biased)(w.prototypes)
    corrected = naive.unbias_cameras(w, naive.cosines(w.prototypes), mode)
    for i, near in enumerate(naive.ranked(w, corrected, "other_camera", 23)):
        assert table.index[i].tolist() == near + [-1] * (23 - len(near))
        np.testing.assert_allclose(table.similarity[i][: len(near)], [corrected[i, j] for j in near], atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "zscore"])
def test_view_bias_leaves_the_mean_of_a_modality_in_place(mode):
    w = world(4)
    info = w.info
    plain = naive.cosines(w.prototypes)
    rows = [i for i in range(23) if w.modality[i] == 0]
    pairs = [(i, j) for i in rows for j in rows if naive.related(w, i, j, "other_camera")]
    bias = jax.jit(lambda x: view_bias(x, info, num_views=6, mode=mode))(w.prototypes)
    offset, scale = (np.array(x)[np.ix_(w.view, w.view)] for x in bias)
    corrected = (plain - offset) * scale
    assert abs(np.mean([corrected[p] for p in pairs]) - np.mean([plain[p] for p in pairs])) < 1e-5


def test_balanced_rows_are_equally_near_to_their_nearest():
    index = jnp.array([[1, 2, 3], [0, -1, -1], [0, 1, -1], [-1, -1, -1]])
    similarity = jnp.array([[0.9, 0.7, 0.1], [0.5, -jnp.inf, -jnp.inf], [0.4, 0.2, -jnp.inf], [-jnp.inf] * 3])
    levels = np.array([0.8, 0.5, 0.3, 0.8 + 0.5 + 0.3]) - np.mean([0.8, 0.5, 0.3])
    levels[3] = 0.0  # it has no candidates
    table = balanced(Neighbours(index, similarity), count=2)
    expected = [
        sorted(((s - (levels[i] + levels[j]) / 2, -j) for j, s in zip(row, values) if j >= 0), reverse=True)
        for i, (row, values) in enumerate(zip(index.tolist(), similarity.tolist()))
    ]
    for found, near, row in zip(table.index.tolist(), table.similarity.tolist(), expected):
        assert found == [-j for _, j in row] + [-1] * (3 - len(row))
        np.testing.assert_allclose(near, [s for s, _ in row] + [-np.inf] * (3 - len(row)), atol=1e-6)


def test_an_unknown_camera_bias_is_refused():
    w = world(0)
    with pytest.raises(ValueError, match="unknown camera bias 'median'"):
        view_bias(w.prototypes, w.info, num_views=6, mode="median")
