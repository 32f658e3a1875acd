"""k-reciprocal Jaccard distances against a golden of published code, and against dense loops where that has no say."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.jaccard import jaccard_rows, k_reciprocal_encoding
from hitpro_jax.types import TrackletInfo
from tests.reference import jaccard as naive
from tests.reference.worlds import world

rows_of = jax.jit(jaccard_rows)


@cache
def encode(k1: int, k2: int, block: int = 64):
    return jax.jit(partial(k_reciprocal_encoding, k1=k1, k2=k2, block=block))


def distances(features, info: TrackletInfo, k1: int, k2: int, block: int = 64) -> np.ndarray:
    return np.array(rows_of(encode(k1, k2, block)(features, info), jnp.arange(len(features))))


def one_modality(size: int, valid=None) -> TrackletInfo:
    zeros = np.zeros(size, np.int32)
    return TrackletInfo(zeros, zeros, zeros, np.ones(size, bool) if valid is None else valid)


@pytest.mark.parametrize("case", ["small", "default", "odd"])
def test_distances_are_the_published_ones(goldens, case):
    with np.load(goldens / "jaccard__cluster-contrast__faiss_rerank.py-compute_jaccard_distance.npz") as golden:
        features, (k1, k2), expected = (golden[f"{case}_{name}"] for name in ("features", "k", "distance"))
    found = distances(features, one_modality(len(features)), int(k1), int(k2))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert 0.05 < np.mean(expected < 0.6) < 0.2  # what DBSCAN reads of it


def grouped(seed: int, **options):
    w = world(seed, **options)
    return w, TrackletInfo(w.modality, w.camera, w.view, w.valid)


@pytest.mark.parametrize(("k1", "k2"), [(6, 3), (7, 1), (40, 6)])
@pytest.mark.parametrize("options", [{}, {"modalities": 1, "padding": 0}])
def test_distances_equal_naive(k1, k2, options):
    """Two modalities, padding, and lists longer than there are rows."""
    for seed in range(2):
        w, info = grouped(seed, **options)
        dense = naive.encodings(w.prototypes, w.modality, w.valid, k1, k2)
        found = encode(k1, k2)(w.prototypes, info)
        table = np.zeros((len(dense), len(dense) + 1))
        np.add.at(table, (np.arange(len(dense))[:, None], np.asarray(found.index)), found.weight)
        np.testing.assert_allclose(table[:, :-1], dense, atol=1e-5)
        assert int(found.width) == (dense > 0).sum(1).max()
        np.testing.assert_allclose(distances(w.prototypes, info, k1, k2), naive.distances(dense), atol=1e-5)


def test_modalities_and_padding_have_nothing_in_common():
    w, info = grouped(3)
    found = distances(w.prototypes, info, 6, 3)
    strangers = (w.modality[:, None] != w.modality) | ~w.valid[:, None] | ~w.valid
    assert (found[strangers] == 1.0).all()
    assert (found[~strangers] < 1.0).any()
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(found)[w.valid], 0.0, atol=1e-6)


def test_blocks_and_order_of_rows_do_not_matter():
    w, info = grouped(4)
    whole = distances(w.prototypes, info, 6, 3)
    np.testing.assert_allclose(distances(w.prototypes, info, 6, 3, block=5), whole, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(w.valid))
    moved = distances(w.prototypes[order], jax.tree.map(lambda x: x[order], info), 6, 3)
    np.testing.assert_allclose(moved, whole[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize("valid", [[True, False], [False, False]])
def test_next_to_nothing(valid):
    valid = np.array(valid, bool)
    features = np.ones((len(valid), 2), np.float32) / np.sqrt(2)
    with jax.debug_nans(True):
        found = distances(features, one_modality(len(valid), valid), 6, 3)
    np.testing.assert_allclose(found, np.where(valid[:, None] & valid, 0.0, 1.0), atol=1e-6)


def test_no_table_of_all_pairs_is_held():
    rows, shaped = 20_000, jax.ShapeDtypeStruct
    ids = shaped((rows,), np.int32)
    info = TrackletInfo(ids, ids, ids, shaped((rows,), np.bool_))
    bank = shaped((rows, 32), np.float32)
    analysis = encode(30, 6).lower(bank, info).compile().memory_analysis()
    assert analysis.temp_size_in_bytes + analysis.output_size_in_bytes < 0.3 * rows * rows * 4
    found = jax.eval_shape(encode(30, 6), bank, info)
    assert found.index.shape == (rows, 6 * 30 * 6)
    analysis = rows_of.lower(found, shaped((256,), np.int32)).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 0.1 * rows * rows * 4
