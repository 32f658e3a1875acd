"""What the mining finds: positives with their weights, and what is built from them.

P prototypes, D features, K positives, A ambiguous, M table columns.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, local_position
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.candidates import Neighbours
from hitpro_jax.types import MODALITIES, Positives


def no_positives(size: int, *, positives: int, ambiguous: int) -> Positives:
    """Empty rows, as before any mining; thresholds of +inf count as "none yet".

    >>> no_positives(1, positives=2, ambiguous=1).index.tolist()
    [[-1, -1]]
    """
    return Positives(
        index=jnp.full((size, positives), -1, jnp.int32),
        weight=jnp.zeros((size, positives), jnp.float32),
        ignore=jnp.full((size, ambiguous), -1, jnp.int32),
        threshold=jnp.full(MODALITIES, jnp.inf, jnp.float32),
    )


def smoothed(prototypes: jax.Array, within: Positives, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Prototypes [P, D] drawn to their stage-1 positives: q_i = unit(p_i + sum_j w_ij p_j).

    Choice: this sum, in which a row without positives stays itself. Cost: O(block K D) memory.

    >>> within = no_positives(2, positives=1, ambiguous=1)._replace(
    ...     index=jnp.array([[1], [-1]]), weight=jnp.array([[1.], [0.]]))
    >>> print(jax.jit(smoothed)(jnp.eye(2), within).round(2))
    [[0.71 0.71]
     [0.   1.  ]]
    """

    def row(total: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        index, weight = anchor
        position, present = local_position(index, offset, part.shape[0])
        return total + jnp.sum(jnp.where(present, weight, 0.0)[:, None] * part[position], axis=0)

    return unit(tiling.fold_rows(row, (within.index, within.weight), prototypes, prototypes))


def cycle_consistent(neighbours: Neighbours, within_index: jax.Array, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Whether going i -> j and back from j to its nearest b leads home: L(i) and L(b) meet.

    L(i) = {i} and i's stage-1 positives.

    Args:
      neighbours: stage-2 table [P, M].
      within_index: [P, K] stage-1 positives, -1 for none.
      tiling: see `banks`.

    Returns:
      [P, M] bool, False for an empty entry.

    Choice: DAL's check, softened: a person's tracklets in one view share stage-1 positives, but never are some.

    >>> table = Neighbours(jnp.array([[2], [2], [0]]), jnp.ones((3, 1)))
    >>> jax.jit(cycle_consistent)(table, jnp.full((3, 1), -1)).tolist()
    [[True], [False], [True]]
    """
    chex.assert_rank([neighbours.index, within_index], 2)
    size = within_index.shape[0]
    links = jnp.concatenate([jnp.arange(size)[:, None], within_index], axis=1)

    def row(meets: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        back, own = anchor
        position, present = local_position(back, offset, part.shape[0])
        common = (part[position][:, :, None] == own) & (own >= 0)  # two empty links are no meeting
        return meets | (present & jnp.any(common, axis=(1, 2)))

    back = tiling.lookup(neighbours.index[:, 0], neighbours.index)
    back = jnp.where(neighbours.index >= 0, back, -1)
    return tiling.fold_rows(row, (back, links), jnp.zeros(back.shape, bool), links)


def propagate(
    matched: Positives,
    within: Positives,
    camera: jax.Array,
    *,
    ban_same_camera: bool = False,
    tiling: Tiling = ONE_DEVICE,
) -> Positives:
    """Adds the stage-1 positives of each match: weight w_ik = w_ik + sum_j w_ij w_jk, top K2, renormalised.

    Args:
      matched: stage-2 matches [P, K2].
      within: stage-1 positives [P, K1].
      camera: [P].
      ban_same_camera: bars k of i's own camera, static.
      tiling: see `banks`.

    Returns:
      Positives [P, K2], heaviest first; ignore and threshold unchanged.

    Choice: a match stands for its person, whose other cameras stage 1 has found. Cost: O(P K1 K2) memory.

    >>> one = no_positives(3, positives=2, ambiguous=1)
    >>> matched = one._replace(index=one.index.at[0, 0].set(1), weight=one.weight.at[0, 0].set(1.))
    >>> within = one._replace(index=one.index.at[1, 0].set(2), weight=one.weight.at[1, 0].set(1.))
    >>> jax.jit(propagate)(matched, within, jnp.arange(3)).weight.tolist()[0]
    [0.5, 0.5]
    """
    chex.assert_equal_shape_prefix([matched.index, within.index, camera], 1)
    count, flat = matched.index.shape[1], (len(matched.index), matched.index.shape[1] * within.index.shape[1])
    onward, share = tiling.lookup((within.index, within.weight), matched.index)
    # a look-up of none is 0, which is a row
    onward = jnp.where((matched.index >= 0)[:, :, None], onward, -1).reshape(flat)
    ids = jnp.concatenate([matched.index, onward], axis=1)
    routes = jnp.concatenate([matched.weight, (matched.weight[:, :, None] * share).reshape(flat)], axis=1)
    allowed = ids >= 0
    if ban_same_camera:
        allowed &= tiling.lookup(camera, ids) != camera[:, None]

    def row(ids: jax.Array, routes: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
        total, first = _summed(ids, routes)
        best, column = jax.lax.top_k(jnp.where(first & allowed, total, 0.0), count)
        norm = jnp.sum(best)
        return jnp.where(best > 0, ids[column], -1), best / jnp.where(norm > 0, norm, 1.0)

    index, weight = tiling.each_row(row, (ids, routes, allowed))
    return matched._replace(index=index, weight=weight)


def _summed(ids: jax.Array, routes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum [N] over all routes to the same id, and [N] bool, which entries are the first of their id."""
    columns = jnp.arange(ids.shape[0])

    def look(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        total, first = carry
        same = ids == ids[k]
        return total + jnp.where(same, routes[k], 0.0), first & ~(same & (k < columns))

    # column by column, which a CPU does four times as fast as a square at once
    return jax.lax.fori_loop(0, ids.shape[0], look, (jnp.zeros_like(routes), jnp.ones_like(ids, bool)))
