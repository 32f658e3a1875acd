"""Exact retrieval: the best gallery rows of each query and the ranks of its true matches."""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.search.candidates import largest

BLOCK = 256  # queries that are compared with the gallery at once
# Matches of a query up to which its ranks are counted: one pass over the gallery a match, where a sort costs as much as
# some dozens of them.
COUNTED = 64


class Ranking(NamedTuple):
    """What the gallery holds for each query."""

    ranks: jax.Array  # [Q, M] int32 from 1, in the order of the matches given; 0 for none
    index: jax.Array  # [Q, K] int32 gallery rows, best first; -1 for none
    similarity: jax.Array  # [Q, K] float32 of these rows; -inf for none


@functools.partial(jax.jit, static_argnames=("top", "block"))
def rank_gallery(
    query: jax.Array,
    gallery: jax.Array,
    query_junk: jax.Array,
    gallery_junk: jax.Array,
    matches: jax.Array,
    *,
    top: int = 0,
    block: int = BLOCK,
) -> Ranking:
    """Ranks of the true matches of each query among the gallery rows that it keeps, and the first rows.

        rank(q, j) = 1 + #{g kept : s_qg > s_qj or (s_qg = s_qj and g < j)},   s_qg = <x_q, y_g>
        g is kept  <=>  v_g >= 0 and v_g != u_q

    Q queries, G gallery rows, M >= 1 matches at most.

    Args:
      query: [Q, D] unit rows x; block divides Q.
      gallery: [G, D] unit rows y.
      query_junk: [Q] u, the value of v that leaves this ranking.
      gallery_junk: [G] v; -1 leaves every ranking (padding).
      matches: [Q, M] gallery rows of the true matches, all kept; -1 stands at the end.
      top: first rows that are wanted; may be 0 or exceed G; static.
      block: queries at once, static.

    Returns:
      The `Ranking`. Identical gallery rows tie exactly if G is a multiple of 128.

    Raises:
      AssertionError: shapes do not fit.

    Cost: memory O(block G + Q (top + M)), never Q G; time in proportion to the most matches of each block, so for
    queries of few matches; cut by queries: no communication.

    >>> x, none = jnp.eye(2), jnp.array([-1, -1])
    >>> rank_gallery(x, x, none, jnp.array([0, 1]), jnp.array([[1], [0]]), block=2).ranks.tolist()
    [[2], [2]]
    """
    num_queries, features, num_matches = query.shape[0], query.shape[1], matches.shape[1]
    chex.assert_shape(gallery, (None, features))
    chex.assert_shape([query_junk, gallery_junk], [(num_queries,), (gallery.shape[0],)])
    chex.assert_shape(matches, (num_queries, num_matches))
    chex.assert_axis_dimension_gt(matches, 1, 0)
    chex.assert_is_divisible(num_queries, block)
    blocks = jax.tree.map(lambda rows: rows.reshape(-1, block, *rows.shape[1:]), (query, query_junk, matches))
    ranking = jax.lax.map(lambda rows: _rank_block(*rows, gallery, gallery_junk, top), blocks)
    return jax.tree.map(lambda table: table.reshape(num_queries, table.shape[2]), ranking)


@jax.jit
def similarities(query: jax.Array, gallery: jax.Array, query_junk: jax.Array, gallery_junk: jax.Array) -> jax.Array:
    """Similarities of one block of queries with the gallery rows that each of them keeps, -inf elsewhere.

        s_qg = <x_q, y_g> if v_g >= 0 and v_g != u_q, -inf otherwise

    Args:
      query: [B, D] unit rows x.
      gallery: [G, D] unit rows y.
      query_junk: [B] u, see `rank_gallery`.
      gallery_junk: [G] v.

    Returns:
      float32 [B, G]; zeros are positive ones. Identical gallery rows tie exactly if G is a multiple of 128.

    Cost: memory O(B G).

    >>> similarities(jnp.eye(2), jnp.eye(2), jnp.array([-1, 1]), jnp.array([0, 1])).tolist()
    [[1.0, 0.0], [0.0, -inf]]
    """
    # in whole tiles of 128 the product treats all rows alike, so that identical ones get identical numbers
    similarity = jnp.dot(query, gallery.T, precision=jax.lax.Precision.HIGHEST)
    kept = (gallery_junk >= 0) & (gallery_junk != query_junk[:, None])
    # -0.0 equals 0.0, but whatever sorts puts it behind
    return jnp.where(kept, jnp.where(similarity == 0, 0.0, similarity), -jnp.inf)


def _rank_block(query, query_junk, matches, gallery, gallery_junk, top: int) -> Ranking:
    """The `Ranking` of one block from one product."""
    similarity = similarities(query, gallery, query_junk, gallery_junk)
    return Ranking(_ranks(similarity, matches), *_first_rows(similarity, top))


def _ranks(similarity: jax.Array, matches: jax.Array) -> jax.Array:
    own = jnp.take_along_axis(similarity, jnp.maximum(matches, 0), axis=1)
    position = jnp.arange(similarity.shape[1])

    # counted, not sorted: that is one pass a match; queries of many matches are sorted by `scoring.ranks`
    def rank_column(column, ranks):
        score, index = own[:, column, None], matches[:, column, None]
        ahead = (similarity > score) | ((similarity == score) & (position < index))
        return ranks.at[:, column].set(1 + ahead.sum(axis=1, dtype=jnp.int32))

    # The bound is this block's own, so queries that come sorted by number of matches cost no padding.
    most = (matches >= 0).sum(axis=1).max(initial=0)
    ranks = jax.lax.fori_loop(0, most, rank_column, jnp.zeros_like(matches))
    return jnp.where(matches >= 0, ranks, 0)


def _first_rows(similarity: jax.Array, top: int) -> tuple[jax.Array, jax.Array]:
    count = min(top, similarity.shape[1])
    if not count:
        rows = similarity.shape[0], top
        return jnp.full(rows, -1, jnp.int32), jnp.full(rows, -jnp.inf, similarity.dtype)
    best, index = largest(similarity, count)
    behind = (0, 0), (0, top - count)
    index = jnp.pad(jnp.where(best > -jnp.inf, index, -1), behind, constant_values=-1)
    return index.astype(jnp.int32), jnp.pad(best, behind, constant_values=-jnp.inf)
