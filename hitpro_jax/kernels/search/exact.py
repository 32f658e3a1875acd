"""The exact search: one blockwise pass makes a sorted table of nearest candidates. Nothing of size P x P is held."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, padded
from hitpro_jax.kernels.search.candidates import (
    COLUMN_GROUP,
    Bank,
    Neighbours,
    ViewBias,
    check_relation,
    empty_table,
    merge,
    scores,
    widened,
)
from hitpro_jax.types import TrackletInfo

COLUMNS = 8192  # of the bank that are multiplied at once: enough for full speed
CHUNKS = 8  # a small bank is cut into so many, or half of it could not be left out


def nearest(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    relation: str,
    count: int,
    bias: ViewBias | None = None,
    ban_same_camera: bool = False,
    tiling: Tiling = ONE_DEVICE,
) -> Neighbours:
    """The `count` most similar candidates of every prototype.

    s_ij = <p_i, p_j> over C_i, which by relation is  same_view: {j: g_j = g_i, j != i};
    other_camera: {j: m_j = m_i, c_j != c_i} (paper);  other_modality: {j: m_j != m_i} (paper).

    Args:
      prototypes: [P, D] unit rows.
      info: of the rows.
      relation: static.
      count: M >= 1, static.
      bias: of `bias.view_bias`.
      ban_same_camera: other_modality without c_j = c_i, static.
      tiling: `Tiling`.

    Returns:
      Neighbours [P, M].

    Raises:
      ValueError: unknown relation.

    Cost: O(block P + P M + P D) memory; 2 D flops a candidate pair.

    >>> info = TrackletInfo(*jnp.array([[0, 0], [1, 2], [0, 1]]), jnp.ones(2, bool))
    >>> nearest(jnp.eye(2), info, relation="other_camera", count=1).index.tolist()
    [[1], [0]]
    """
    chex.assert_rank(prototypes, 2)
    chex.assert_equal_shape([info.modality, info.camera, info.view, info.valid])
    chex.assert_equal_shape_prefix([prototypes, info.valid], 1)
    check_relation(relation)
    size = prototypes.shape[0]

    def look(best: Neighbours, own: Bank, part: Bank, offset: jax.Array, bias: ViewBias | None) -> Neighbours:
        values = _all_scores(own, part, bias, relation, ban_same_camera)
        return merge(best, values, part.position, first=tiling.mesh is None)

    prototypes, info = padded((prototypes, info), tiling.devices)
    bank = _sorted(Bank(prototypes, info, jnp.arange(info.valid.shape[0])), relation, tiling)
    none = empty_table(bank.position.shape[0], min(count, size))
    table = tiling.fold_blocks(look, bank, none, bank, bias)
    table = tiling.each_part(_in_bank_order, (bank.position, *table))
    return widened(jax.tree.map(lambda column: column[:size], table), count)


def _sorted(bank: Bank, relation: str, tiling: Tiling) -> Bank:
    """Every device's rows by view, or modality; invalid ones last."""

    def sort(*columns: Any) -> Bank:
        bank = Bank(*columns)
        info = bank.info
        # by what decides of a pair: most columns can then be left out of a block's product
        key = info.view if relation == "same_view" else info.modality
        order = jnp.argsort(jnp.where(info.valid, key, jnp.iinfo(jnp.int32).max))  # stable: ties stay in order
        return jax.tree.map(lambda column: column[order], bank)

    return tiling.each_part(sort, bank)


def _in_bank_order(position: jax.Array, *table: jax.Array) -> Neighbours:
    """A device's rows of the table in the bank's order again."""
    order = jnp.argsort(position)
    return Neighbours(*(column[order] for column in table))


def _all_scores(own: Bank, part: Bank, bias: ViewBias | None, relation: str, ban_same_camera: bool) -> jax.Array:
    """`scores` [B, Q], and empty columns behind them."""
    total = part.position.shape[0]
    width = min(COLUMNS, -(-total // CHUNKS))
    possible = _possible_columns(own.info, part.info, relation)
    first, last = jnp.argmax(possible), total - 1 - jnp.argmax(possible[::-1])

    def chunk(k: jax.Array, values: jax.Array) -> jax.Array:
        start = jnp.minimum(k * width, total - width)  # the last chunk begins within the one before it
        columns = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, width), part)
        fresh = scores(own, columns, bias, relation=relation, ban_same_camera=ban_same_camera)
        return jax.lax.dynamic_update_slice_in_dim(values, fresh, start, axis=1)

    # whole groups of columns, or `largest` would copy everything to pad it
    nothing = jnp.full_like(own.prototype, -jnp.inf, shape=(own.prototype.shape[0], total + -total % COLUMN_GROUP))
    end = jnp.where(jnp.any(possible), last // width + 1, 0)
    # chunks before and behind cannot hold a candidate
    return jax.lax.fori_loop(first // width, end, chunk, nothing)


def _possible_columns(own: TrackletInfo, part: TrackletInfo, relation: str) -> jax.Array:
    """[Q] bool, False where a column is no candidate of any row."""
    key, keys = (own.view, part.view) if relation == "same_view" else (own.modality, part.modality)
    low = jnp.min(jnp.where(own.valid, key, jnp.iinfo(jnp.int32).max))
    high = jnp.max(jnp.where(own.valid, key, -1))
    # rows are sorted, so that most blocks have one key; a block without valid rows has low > high
    near = (keys != low) | (keys != high) if relation == "other_modality" else (keys >= low) & (keys <= high)
    return near & part.valid & (low <= high)
