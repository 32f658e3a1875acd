"""k-reciprocal Jaccard distances (Zhong et al. 2017), on which clustering baselines are built."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import Tiling
from hitpro_jax.kernels.search.exact import nearest
from hitpro_jax.types import TrackletInfo


class Encoding(NamedTuple):
    """k-reciprocal encoding of each row, by ascending index."""

    index: jax.Array  # [P, M] int32, P for none
    weight: jax.Array  # [P, M] float32, rows sum to 1 or are 0
    width: jax.Array  # [] int32, entries of the longest row


def k_reciprocal_encoding(
    prototypes: jax.Array, info: TrackletInfo, *, k1: int = 30, k2: int = 6, block: int = 64
) -> Encoding:
    """Sparse k-reciprocal encoding of every row among the rows of its modality.

    With N(i, k) the k nearest rows of i, i among them, R(i, k) = {j in N(i, k): i in N(j, k)}, h about k1 / 2:
      R*(i) = R(i, k1) + all R(c, h) of c in R(i, k1) of which more than 2/3 lie in R(i, k1);
      v_i = softmax over j in R*(i) of -||p_i - p_j||^2;   V_i = mean of v_j over j in N(i, k2).

    Args:
      prototypes: [P, D] unit rows, P >= 1.
      info: of the rows.
      k1: length of reciprocal lists, >= 2, static.
      k2: neighbours averaged, <= k1, static.
      block: rows at once, static.

    Returns:
      Encoding [P, M], M = k2 k1 ceil(h / 3); invalid rows are empty.

    Cost: O(P M + block (k1 (k1 + h) h + D k1 h / 3)) memory; 2 P^2 D flops.

    >>> info = TrackletInfo(*jnp.zeros((3, 2), int), jnp.ones(2, bool))
    >>> k_reciprocal_encoding(jnp.ones((2, 1)), info, k1=2, k2=1).weight[0, :2].tolist()
    [0.5, 0.5]
    """
    chex.assert_rank(prototypes, 2)
    chex.assert_equal_shape_prefix([prototypes, info.valid], 1)
    # + 1: released code (Cluster Contrast, ADCA, PGM) counts i among the k1 but not among the k1 / 2; see the goldens
    size, half = prototypes.shape[0], round(k1 / 2) + 1
    ranked = _ranked(prototypes, info, max(k1, half), block)
    full, short = (_reciprocal(ranked[:, :count], block) for count in (k1, half))
    reach = k1 * math.ceil(half / 3)  # no row exceeds it: each candidate adds less than a third of its list

    def own(row: jax.Array) -> tuple[jax.Array, jax.Array]:
        index = _expanded(full[row], short)[:reach]
        near = prototypes.at[index].get(mode="fill", fill_value=0)
        # -||p_i - p_j||^2 of unit rows, except for a constant that the softmax cancels
        exponent = 2.0 * jnp.matmul(near, prototypes[row], precision=jax.lax.Precision.HIGHEST)
        return index, jax.nn.softmax(exponent, where=index < size)

    index, weight = _by_row(own, size, block)

    def averaged(row: jax.Array) -> tuple[jax.Array, jax.Array]:
        near = ranked[row, :k2]
        ids = index.at[near].get(mode="fill", fill_value=size).reshape(-1)
        parts = weight.at[near].get(mode="fill", fill_value=0).reshape(-1)
        return _summed(ids, parts / jnp.maximum(jnp.sum(near < size), 1), size)

    index, weight = _by_row(averaged, size, block)
    return Encoding(index, weight, jnp.max(jnp.sum(index < size, axis=1), initial=0))


def jaccard_rows(encoding: Encoding, rows: jax.Array) -> jax.Array:
    """Jaccard distances of some rows to all rows.

    d_ij = 1 - sum_k min(V_ik, V_jk) / sum_k max(V_ik, V_jk).

    Args:
      encoding: of `k_reciprocal_encoding`.
      rows: [B]; P stands for an empty row.

    Returns:
      [B, P] in [0, 1]; 1 where nothing is common.

    Cost: O(B P) memory, O(B P width) time.

    >>> encoding = Encoding(jnp.array([[0], [1]]), jnp.ones((2, 1)), 1)
    >>> jaccard_rows(encoding, jnp.array([0])).tolist()
    [[0.0, 1.0]]
    """
    size, count = encoding.index.shape[0], rows.shape[0]
    own = encoding.index.at[rows].get(mode="fill", fill_value=size)
    # rows of the table are entries, columns the anchors: one gather of a whole line serves all of them
    anchors = jnp.zeros((size + 1, count), jnp.float32)
    anchors = (
        anchors.at[own, jnp.arange(count)[:, None]]
        .add(encoding.weight.at[rows].get(mode="fill", fill_value=0))
        .at[size]
        .set(0.0)
    )

    def add(column: jax.Array, common: jax.Array) -> jax.Array:
        return common + jnp.minimum(anchors[encoding.index[:, column]], encoding.weight[:, column][:, None])

    common = jax.lax.fori_loop(0, encoding.width, add, jnp.zeros((size, count), jnp.float32))
    return jnp.clip(
        1.0 - common / (2.0 - common), 0.0, 1.0
    ).T  # both sets weigh 1: the maxima sum to 2 minus the minima


def _ranked(prototypes: jax.Array, info: TrackletInfo, count: int, block: int) -> jax.Array:
    """N(i, count) [P, count], nearest first, i at the front."""
    size = prototypes.shape[0]
    by_modality = info._replace(view=info.modality)  # any camera of the modality
    others = nearest(prototypes, by_modality, relation="same_view", count=count - 1, tiling=Tiling(block)).index
    ids = jnp.concatenate([jnp.where(info.valid, jnp.arange(size), -1)[:, None], others], axis=1)
    return jnp.where(ids >= 0, ids, size)


def _reciprocal(ranked: jax.Array, block: int) -> jax.Array:
    """R(i, k) from N(i, k): P for those that lack i."""
    size = ranked.shape[0]

    def row(i: jax.Array) -> jax.Array:
        back = jnp.any(ranked.at[ranked[i]].get(mode="fill", fill_value=size) == i, axis=1)
        return jnp.where(back, ranked[i], size)

    return _by_row(row, size, block)


def _expanded(own: jax.Array, short: jax.Array) -> jax.Array:
    """R*(i), ascending, from R(i, k1) and all R(c, h)."""
    size = short.shape[0]
    # an id of P is no row: it reads an empty list
    lists = short.at[own].get(mode="fill", fill_value=size)
    found = lists < size
    inside = jnp.any(lists[:, :, None] == own, axis=2) & found
    enough = 3 * jnp.sum(inside, axis=1) > 2 * jnp.sum(found, axis=1)  # more than 2/3, in whole numbers
    ids = jnp.sort(jnp.concatenate([own, jnp.where(enough[:, None], lists, size).reshape(-1)]))
    return jnp.sort(jnp.where(_first(ids), ids, size))


def _summed(ids: jax.Array, weights: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """One entry an id, ascending, with the sum of its weights."""
    # equal ids stand together, in one order on every machine: so their weights add up alike
    order = jnp.argsort(ids, stable=True)
    ids, weights = ids[order], weights[order]
    first = _first(ids)
    slot = jnp.cumsum(first) - 1
    total = jax.ops.segment_sum(jnp.where(ids < size, weights, 0.0), slot, ids.shape[0], indices_are_sorted=True)
    index = jnp.full(ids.shape, size, ids.dtype).at[slot].set(ids)
    return index, total


def _first(ids: jax.Array) -> jax.Array:
    """Which ascending ids differ from the one before."""
    return jnp.concatenate([jnp.ones(1, bool), ids[1:] != ids[:-1]])


def _by_row(function: Callable, size: int, block: int) -> Any:
    return jax.lax.map(function, jnp.arange(size), batch_size=block)
