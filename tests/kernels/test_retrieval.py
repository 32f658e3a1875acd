"""Ranks by counting and the first rows of a ranking, block by block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from hitpro_jax.kernels import retrieval


def shape(*sizes, dtype=jnp.int32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def arguments(queries, gallery, matches, width=2048):
    """Shapes of the arguments of `rank_gallery`."""
    tables = (shape(rows, width, dtype=jnp.float32) for rows in (queries, gallery))
    return *tables, shape(queries), shape(gallery), shape(queries, matches)


@pytest.mark.parametrize("block", [1, 2, 8, 32, 64])
def test_ranks_do_not_depend_on_the_block(block):
    rng = np.random.default_rng(7)
    query, gallery = (
        rng.normal(size=(64, 32)).astype(np.float32),
        rng.normal(size=(128, 32)).astype(np.float32),
    )
    keys = rng.integers(0, 5, 64).astype(np.int32), rng.integers(5, 9, 128).astype(np.int32)
    matches = rng.integers(-1, 128, (64, 6)).astype(np.int32)
    matches = -np.sort(-matches, axis=1)
    expected = np.zeros_like(matches)
    similarity = query.astype(np.float64) @ gallery.T.astype(np.float64)
    for q in range(64):
        for m in range(6):
            if matches[q, m] >= 0:
                expected[q, m] = 1 + (similarity[q] > similarity[q, matches[q, m]]).sum()
    found = retrieval.rank_gallery(query, gallery, *keys, matches, block=block).ranks
    np.testing.assert_array_equal(found, expected)


def test_ranks_of_no_match_at_all():
    found = retrieval.rank_gallery(
        jnp.ones((2, 3)), jnp.ones((4, 3)), jnp.zeros(2, int), jnp.ones(4, int), jnp.full((2, 5), -1), block=2
    )
    assert found.ranks.tolist() == [[0] * 5] * 2


@pytest.mark.parametrize(("queries", "width", "matches"), [(3, 3, 1), (2, 4, 1), (2, 3, 0)])
def test_ranks_refuse_shapes_that_do_not_fit(queries, width, matches):
    with pytest.raises(AssertionError):
        retrieval.rank_gallery(
            jnp.ones((queries, 3)),
            jnp.ones((4, width)),
            jnp.zeros(queries, int),
            jnp.ones(4, int),
            jnp.zeros((queries, matches), int),
            block=2,
        )


@pytest.mark.parametrize("top", [0, 20])
def test_nothing_of_queries_times_gallery_is_allocated(top):
    rows = -(-50_000 // retrieval.BLOCK) * retrieval.BLOCK
    compiled = retrieval.rank_gallery.lower(*arguments(rows, rows, 64), top=top).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 4 * retrieval.BLOCK * rows  # a few blocks; N x N is 10 GB
    assert memory.output_size_in_bytes == pytest.approx(4 * (64 + 2 * top) * rows, abs=64)


@pytest.mark.parametrize("top", [0, 20])
def test_no_array_of_the_program_is_larger_than_a_block_of_similarities(top):
    queries, gallery = 64 * retrieval.BLOCK, 64 * retrieval.BLOCK
    sizes = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            sizes.extend(variable.aval.size for variable in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                visit(inner)

    traced = jax.make_jaxpr(lambda *given: retrieval.rank_gallery(*given, top=top))
    visit(traced(*arguments(queries, gallery, 8, width=16)).jaxpr)
    assert max(sizes) == retrieval.BLOCK * gallery


def test_top_changes_no_rank():
    rng = np.random.default_rng(3)
    query, gallery = (rng.integers(-2, 3, (rows, 5)).astype(np.float32) for rows in (64, 256))
    junk = rng.integers(0, 4, 64).astype(np.int32), rng.integers(-1, 4, 256).astype(np.int32)
    kept = (junk[1] >= 0) & (junk[1] != junk[0][:, None])
    matches = np.where(kept[:, :6], np.arange(6, dtype=np.int32), -1)
    matches = -np.sort(-matches, axis=1)
    alone = retrieval.rank_gallery(query, gallery, *junk, matches, block=32)
    found = retrieval.rank_gallery(query, gallery, *junk, matches, top=300, block=32)
    assert alone.index.shape == alone.similarity.shape == (64, 0)
    np.testing.assert_array_equal(found.ranks, alone.ranks)
    # the row at the rank of a match is the match
    rows, columns = np.nonzero(matches >= 0)
    np.testing.assert_array_equal(
        np.asarray(found.index)[rows, np.asarray(found.ranks)[rows, columns] - 1], matches[rows, columns]
    )
    np.testing.assert_array_equal((np.asarray(found.index) >= 0).sum(1), kept.sum(1))


def test_zeros_of_either_sign_tie():
    gallery = jnp.array([[-0.0], [0.0], [-0.0], [0.0]])
    junk = jnp.array([-1]), jnp.zeros(4, int)
    found = retrieval.rank_gallery(jnp.array([[1.0]]), gallery, *junk, jnp.array([[0, 1, 2, 3]]), top=4, block=1)
    assert found.index.tolist() == [[0, 1, 2, 3]]
    assert found.ranks.tolist() == [[1, 2, 3, 4]]


def test_similarities_of_a_block_have_no_negative_zero_and_no_row_that_leaves():
    query, gallery = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [-0.0], [0.0], [-2.0], [3.0]])
    found = np.asarray(retrieval.similarities(query, gallery, jnp.array([7, -1]), jnp.array([7, 0, 1, 1, -1])))
    np.testing.assert_array_equal(found, [[-np.inf, 0.0, 0.0, -2.0, -np.inf], [-1.0, 0.0, 0.0, 2.0, -np.inf]])
    assert not np.signbit(found[found == 0]).any()


def test_similarities_hold_one_block():
    rows, matches = 50_048, 1
    query, gallery, query_junk, gallery_junk, _ = arguments(retrieval.BLOCK, rows, matches)
    memory = retrieval.similarities.lower(query, gallery, query_junk, gallery_junk).compile().memory_analysis()
    assert memory.output_size_in_bytes == 4 * retrieval.BLOCK * rows
    assert memory.temp_size_in_bytes < 4 * 4 * retrieval.BLOCK * rows
