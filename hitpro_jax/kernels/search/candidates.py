"""What every search is made of: which rows are candidates, how similar they are, the table of the best.

B rows of a block, Q of a part.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling
from hitpro_jax.types import TrackletInfo

COLUMN_GROUP = 32  # neighbouring columns of which `largest` takes the maximum first
RELATIONS = ("same_view", "other_camera", "other_modality")


class Neighbours(NamedTuple):
    """Nearest candidates, best first, ties to the lower index."""

    index: jax.Array  # [P, M] int32, -1 for none
    similarity: jax.Array  # [P, M] float32, -inf for none


class ViewBias(NamedTuple):
    """Camera bias of each pair of views: s' = (s - offset) * scale."""

    offset: jax.Array  # [V, V] float32
    scale: jax.Array  # [V, V] float32


class Bank(NamedTuple):
    """What a search reads of rows."""

    prototype: jax.Array  # [P, D] float32
    info: TrackletInfo
    position: jax.Array  # [P] int32, row of the table


def check_relation(relation: str) -> None:
    """Raises ValueError for an unknown relation."""
    if relation not in RELATIONS:
        raise ValueError(f"unknown relation {relation!r}; use 'same_view', 'other_camera' or 'other_modality'.")


def similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x_i, y_j> [B, Q] of rows [B, D] and [Q, D].

    >>> similarity(jnp.eye(2), jnp.ones((1, 2))).tolist()
    [[1.0], [1.0]]
    """
    # accelerators otherwise round the factors to bfloat16 or TF32, and thresholds would move with the hardware
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def scores(own: Bank, part: Bank, bias: ViewBias | None, *, relation: str, ban_same_camera: bool) -> jax.Array:
    """s'_ij [B, Q] of the candidates j of i (see `exact.nearest`), -inf elsewhere.

    >>> bank = Bank(jnp.ones((2, 1)), TrackletInfo(*jnp.zeros((3, 2), int), jnp.ones(2, bool)), jnp.arange(2))
    >>> scores(bank, bank, None, relation="same_view", ban_same_camera=False).tolist()
    [[-inf, 1.0], [1.0, -inf]]
    """
    values = similarity(own.prototype, part.prototype)
    if bias is not None:
        # by columns first, so that each row is then copied whole
        offset, scale = (table[:, part.info.view][own.info.view] for table in bias)
        values = (values - offset) * scale
    allowed = _related(own.info, part.info, relation, ban_same_camera)
    # no row is a candidate of itself, which matters for same_view alone
    return jnp.where(allowed & (own.position[:, None] != part.position), values, -jnp.inf)


def _related(own: TrackletInfo, other: TrackletInfo, relation: str, ban_same_camera: bool) -> jax.Array:
    """[B, Q] bool, which rows of `other` are candidates of the rows `own`."""
    own = jax.tree.map(lambda column: column[:, None], own)
    other_camera = own.camera != other.camera
    if relation == "same_view":
        related = own.view == other.view
    elif relation == "other_camera":
        related = (own.modality == other.modality) & other_camera
    else:
        related = own.modality != other.modality
        related = related & other_camera if ban_same_camera else related
    return related & own.valid & other.valid


def merge(best: Neighbours, values: jax.Array, position: jax.Array, *, first: bool) -> Neighbours:
    """The best of tables [B, M] and of values [B, Q] at positions [Q] or [B, Q]; -inf is no entry.

    Args:
      best: tables.
      values: similarities.
      position: rows of the bank.
      first: the tables are empty; static.

    >>> merge(empty_table(1, 2), jnp.array([[.5, .75]]), jnp.array([7, 8]), first=False).index.tolist()
    [[8, 7]]
    """
    width = best.index.shape[1]
    fresh, column = largest(values, min(width, values.shape[1]))
    found = position[column] if position.ndim == 1 else jnp.take_along_axis(position, column, axis=1)
    index = jnp.where(fresh > -jnp.inf, found, -1)
    if first and fresh.shape[1] == width:
        return Neighbours(index, fresh)
    index, fresh = (jnp.concatenate(pair, axis=1) for pair in ((best.index, index), (best.similarity, fresh)))
    # parts come in another order on every device: ties go to the lower index all the same
    falling, index = jax.lax.sort((-fresh, index), num_keys=2)
    return Neighbours(index[:, :width], -falling[:, :width])


def largest(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` of rows [B, Q]; faster for long rows.

    >>> largest(jnp.arange(256.)[None], 2)[1].tolist()
    [[255, 254]]
    """
    rows, width = values.shape
    if width < 2 * COLUMN_GROUP * count:  # too few groups to leave any out
        return jax.lax.top_k(values, count)
    missing = -width % COLUMN_GROUP
    values = jnp.pad(values, ((0, 0), (0, missing)), constant_values=-jnp.inf).reshape(rows, -1, COLUMN_GROUP)
    # the largest `count` entries lie in the `count` groups with the largest maxima: the rest is read once
    _, groups = jax.lax.top_k(jnp.max(values, axis=2), count)
    groups = jnp.sort(groups, axis=1)  # by column again, as ties go to the lower one
    best, slot = jax.lax.top_k(jnp.take_along_axis(values, groups[:, :, None], axis=1).reshape(rows, -1), count)
    group = jnp.take_along_axis(groups, slot // COLUMN_GROUP, axis=1)
    return best, group * COLUMN_GROUP + slot % COLUMN_GROUP


def keep_top(neighbours: Neighbours, keep: jax.Array, *, count: int, tiling: Tiling = ONE_DEVICE) -> Neighbours:
    """The first `count` kept entries of each row, moved to the front.

    Args:
      neighbours: table [P, M].
      keep: [P, M] bool.
      count: K, static.
      tiling: `Tiling`.

    Returns:
      Neighbours [P, K].

    >>> table = Neighbours(jnp.array([[4, 2]]), jnp.ones((1, 2)))
    >>> keep_top(table, table.index < 3, count=1).index.tolist()
    [[2]]
    """
    chex.assert_rank(neighbours.index, 2)
    chex.assert_equal_shape([neighbours.index, neighbours.similarity, keep])
    width = min(count, neighbours.index.shape[1])

    def front(index: jax.Array, similarity: jax.Array, keep: jax.Array) -> Neighbours:
        masked = jnp.where(keep & (index >= 0), similarity, -jnp.inf)
        best, column = jax.lax.top_k(masked, width)  # ties go to the lower column: the order stays
        return Neighbours(jnp.where(best > -jnp.inf, jnp.take_along_axis(index, column, axis=1), -1), best)

    return widened(tiling.each_part(front, (*neighbours, keep)), count)


def empty_table(rows: int, count: int) -> Neighbours:
    """A table without entries.

    >>> empty_table(1, 2).index.tolist()
    [[-1, -1]]
    """
    return Neighbours(jnp.full((rows, count), -1), jnp.full((rows, count), -jnp.inf))


def widened(table: Neighbours, count: int) -> Neighbours:
    """The table with empty columns behind it, up to `count`.

    >>> widened(empty_table(1, 1), 2).index.tolist()
    [[-1, -1]]
    """
    missing = ((0, 0), (0, count - table.index.shape[1]))
    return Neighbours(
        jnp.pad(table.index, missing, constant_values=-1),
        jnp.pad(table.similarity, missing, constant_values=-jnp.inf),
    )
