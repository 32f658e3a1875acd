"""Exact ranks of the true matches of each query, by counting instead of sorting."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp

BLOCK = 256
"""Rows of queries that are compared with the gallery at once."""


@functools.partial(jax.jit, static_argnames="block")
def match_ranks(
    query: jax.Array,
    gallery: jax.Array,
    query_junk: jax.Array,
    gallery_junk: jax.Array,
    matches: jax.Array,
    *,
    block: int = BLOCK,
) -> jax.Array:
    """Rank of each true match of each query among the gallery rows that the query keeps.

        rank(q, j) = 1 + #{g kept : s_qg > s_qj or (s_qg = s_qj and g < j)},   s_qg = <x_q, y_g>
        g is kept  <=>  v_g >= 0 and v_g != u_q

    so no row is ever sorted, and entries of equal similarity stand in the order of the gallery.

    Shapes: Q queries (a multiple of block), G gallery rows, D features, M >= 1 matches at most.

    Args:
      query: [Q, D] float32 unit rows x.
      gallery: [G, D] float32 unit rows y.
      query_junk: [Q] int32 u, the value of v that leaves this query's ranking; -1 for none.
      gallery_junk: [G] int32 v; -1 leaves every ranking (padding).
      matches: [Q, M] int32 gallery indices of the true matches, all of them kept; -1, at the end, for none.
      block: static; queries compared with the gallery at once.

    Returns:
      [Q, M] int32 ranks from 1 in the order of `matches`; 0 for none.

    Numerics: products in float32 at the highest precision. Identical gallery rows tie exactly where the
    product treats all rows alike: pad the gallery to a multiple of 128.
    Memory: O(block G + Q M), never Q G. Sharded by queries: no communication.

    Raises:
      AssertionError: shapes that do not fit together, M = 0, or Q not a multiple of block.

    >>> x = jnp.eye(2)
    >>> junk, matches = jnp.array([-1, 0]), jnp.array([[0, 1], [1, -1]])
    >>> match_ranks(x, x, junk, jnp.array([0, 1]), matches, block=2).tolist()
    [[1, 2], [1, 0]]

    Choice: counting, because it costs one product and one pass a match where a sort costs far more.
    """
    num_queries, features, num_matches = query.shape[0], query.shape[1], matches.shape[1]
    chex.assert_shape(gallery, (None, features))
    chex.assert_shape([query_junk, gallery_junk], [(num_queries,), (gallery.shape[0],)])
    chex.assert_shape(matches, (num_queries, num_matches))
    chex.assert_axis_dimension_gt(matches, 1, 0)
    chex.assert_is_divisible(num_queries, block)
    num_blocks = num_queries // block
    blocks = (
        query.reshape(num_blocks, block, features),
        query_junk.reshape(num_blocks, block),
        matches.reshape(num_blocks, block, num_matches),
    )
    ranks = jax.lax.map(lambda rows: _block_ranks(*rows, gallery, gallery_junk), blocks)
    return ranks.reshape(num_queries, num_matches)


def _block_ranks(query, query_junk, matches, gallery, gallery_junk):
    """The ranks of one block of queries: [block, M] int32."""
    similarity = jnp.dot(query, gallery.T, precision=jax.lax.Precision.HIGHEST)
    kept = (gallery_junk >= 0) & (gallery_junk != query_junk[:, None])
    similarity = jnp.where(kept, similarity, -jnp.inf)
    own = jnp.take_along_axis(similarity, jnp.maximum(matches, 0), axis=1)
    position = jnp.arange(gallery.shape[0])

    def rank_column(column, ranks):
        score, index = own[:, column, None], matches[:, column, None]
        ahead = (similarity > score) | ((similarity == score) & (position < index))
        return ranks.at[:, column].set(1 + ahead.sum(axis=1, dtype=jnp.int32))

    # The bound is this block's own, so queries that come sorted by number of matches cost no padding.
    most = (matches >= 0).sum(axis=1).max(initial=0)
    ranks = jax.lax.fori_loop(0, most, rank_column, jnp.zeros_like(matches))
    return jnp.where(matches >= 0, ranks, 0)
