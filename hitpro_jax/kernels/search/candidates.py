"""HCPA, what every search is made of: who may be a candidate of whom, how similar the two are, the table of the best.

P prototypes, D features, M table columns, V views; B rows of a block, Q rows of a part of the bank (see `rows`).
`mining.nearest` looks at all candidates, `ivf.nearest` at those in likely cells; both by the functions below.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hitpro_jax.types import TrackletInfo

GROUP = 32  # columns; see `largest`
RELATIONS = ("same_view", "other_camera", "other_modality")


class Neighbours(NamedTuple):
    """Nearest candidates of each row, best first, ties to the lower index."""

    index: jax.Array  # [P, M] int32, -1 for none
    similarity: jax.Array  # [P, M] float32, -inf for none


class ViewBias(NamedTuple):
    """Camera bias of each pair of views: s' = (s - offset) * scale."""

    offset: jax.Array  # [V, V] float32
    scale: jax.Array  # [V, V] float32


class Bank(NamedTuple):
    """What a search reads of its rows, in any order."""

    prototype: jax.Array  # [P, D] float32
    info: TrackletInfo
    position: jax.Array  # [P] int32, the row that it is in the table


def refuse_unknown(relation: str) -> None:
    """Raises ValueError for a relation that is not one of `RELATIONS`."""
    if relation not in RELATIONS:
        raise ValueError(f"unknown relation {relation!r}; use 'same_view', 'other_camera' or 'other_modality'.")


def similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x_i, y_j> [B, Q] of rows [B, D] and [Q, D].

    >>> similarity(jnp.eye(2), jnp.ones((1, 2))).tolist()
    [[1.0], [1.0]]
    """
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def scores(own: Bank, part: Bank, bias: ViewBias | None, *, relation: str, ban_same_camera: bool) -> jax.Array:
    """s'_ij [B, Q] of candidates j of i as `mining.nearest` defines them, -inf elsewhere.

    >>> info = TrackletInfo(*jnp.array([[0, 0, 1], [0, 1, 0], [0, 1, 2]]), jnp.ones(3, bool))
    >>> bank = Bank(jnp.ones((3, 1)), info, jnp.arange(3))
    >>> scores(bank, bank, None, relation="other_camera", ban_same_camera=False).tolist()
    [[-inf, 1.0, -inf], [1.0, -inf, -inf], [-inf, -inf, -inf]]
    """
    values = similarity(own.prototype, part.prototype)
    if bias is not None:
        # by columns first: what is left to do for each row is to copy one
        offset, scale = (table[:, part.info.view][own.info.view] for table in bias)
        values = (values - offset) * scale
    allowed = _related(own.info, part.info, relation, ban_same_camera)
    return jnp.where(allowed & (own.position[:, None] != part.position), values, -jnp.inf)


def _related(own: TrackletInfo, other: TrackletInfo, relation: str, ban_same_camera: bool) -> jax.Array:
    """[B, Q] bool, which rows of `other` stand in the relation to the rows `own`."""
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
    """The best entries of a block's tables [B, M] and of values [B, Q] at positions [Q] or [B, Q]; -inf is no entry.

    Among equal values those that stand first win their place in the table.

    Args:
      first: static; there is nothing in the tables yet.

    >>> none = Neighbours(jnp.full((1, 2), -1), jnp.full((1, 2), -jnp.inf))
    >>> merge(none, jnp.array([[.5, .75, -jnp.inf]]), jnp.array([7, 8, 9]), first=False).index.tolist()
    [[8, 7]]
    """
    reach = best.index.shape[1]
    fresh, place = largest(values, min(reach, values.shape[1]))
    at = position[place] if position.ndim == 1 else jnp.take_along_axis(position, place, axis=1)
    index = jnp.where(fresh > -jnp.inf, at, -1)
    if first and fresh.shape[1] == reach:
        return Neighbours(index, fresh)
    index, fresh = (jnp.concatenate(pair, axis=1) for pair in ((best.index, index), (best.similarity, fresh)))
    # parts come in another order on every device: ties go to the lower index all the same
    falling, index = jax.lax.sort((-fresh, index), num_keys=2)
    return Neighbours(index[:, :reach], -falling[:, :reach])


def largest(values: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` of rows [B, Q], and the same result; faster for long rows.

    The `count` largest entries lie in the `count` groups of neighbouring columns with the largest maxima; so all but
    these groups are passed over once, for their maxima.

    >>> best, place = largest(jnp.arange(256.).reshape(1, -1), 2)
    >>> best.tolist(), place.tolist()
    ([[255.0, 254.0]], [[255, 254]])
    """
    rows, width = values.shape
    if width < 2 * GROUP * count:
        return jax.lax.top_k(values, count)
    values = jnp.pad(values, ((0, 0), (0, -width % GROUP)), constant_values=-jnp.inf).reshape(rows, -1, GROUP)
    _, groups = jax.lax.top_k(jnp.max(values, axis=2), count)
    groups = jnp.sort(groups, axis=1)  # by column again, as ties go to the lower one
    best, place = jax.lax.top_k(jnp.take_along_axis(values, groups[:, :, None], axis=1).reshape(rows, -1), count)
    return best, jnp.take_along_axis(groups, place // GROUP, axis=1) * GROUP + place % GROUP


def empty_table(rows: int, count: int) -> Neighbours:
    """A table without entries.

    >>> empty_table(1, 2).index.tolist()
    [[-1, -1]]
    """
    return Neighbours(jnp.full((rows, count), -1), jnp.full((rows, count), -jnp.inf))


def widened(table: Neighbours, count: int) -> Neighbours:
    """The table with empty columns behind it, up to `count`.

    >>> widened(Neighbours(jnp.array([[3]]), jnp.array([[.5]])), 2).index.tolist()
    [[3, -1]]
    """
    missing = ((0, 0), (0, count - table.index.shape[1]))
    return Neighbours(
        jnp.pad(table.index, missing, constant_values=-1),
        jnp.pad(table.similarity, missing, constant_values=-jnp.inf),
    )
