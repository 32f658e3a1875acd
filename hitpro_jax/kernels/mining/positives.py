"""What the mining finds: positives with their weights."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, local_position
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.candidates import Neighbours
from hitpro_jax.types import MODALITIES, Positives


def no_positives(size: int, *, positives: int, ambiguous: int) -> Positives:
    """Empty rows, as before any mining.

    >>> no_positives(1, positives=1, ambiguous=1).index.tolist()
    [[-1]]
    """
    return Positives(
        index=jnp.full((size, positives), -1, jnp.int32),
        weight=jnp.zeros((size, positives), jnp.float32),
        ignore=jnp.full((size, ambiguous), -1, jnp.int32),
        threshold=jnp.full(MODALITIES, jnp.inf, jnp.float32),  # none yet
    )


def smoothed(prototypes: jax.Array, within: Positives, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Prototypes drawn to their stage-1 positives: q_i = unit(p_i + sum_j w_ij p_j).

    Cost: O(block K D) memory.

    >>> within = Positives(jnp.array([[1], [0]]), jnp.ones((2, 1)), None, None)
    >>> print(smoothed(jnp.eye(2), within)[0].round(2))
    [0.71 0.71]
    """

    def row(total: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        index, weight = anchor
        position, present = local_position(index, offset, part.shape[0])
        return total + jnp.sum(jnp.where(present, weight, 0.0)[:, None] * part[position], axis=0)

    # the sums begin with the prototypes, so that a row without positives stays itself
    return unit(tiling.fold_rows(row, (within.index, within.weight), prototypes, prototypes))


def cycle_consistent(neighbours: Neighbours, within_index: jax.Array, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Whether j's nearest candidate b in i's modality belongs to i: the sets L(i) and L(b) have an element in common.

    L(i) = {i} and i's stage-1 positives.

    Args:
      neighbours: stage-2 table [P, M].
      within_index: [P, K] stage-1 positives.
      tiling: `Tiling`.

    Returns:
      [P, M] bool, False for an empty entry.

    Source: DAL's check, softened.

    >>> table = Neighbours(jnp.array([[1], [2], [1]]), jnp.ones((3, 1)))
    >>> cycle_consistent(table, jnp.full((3, 1), -1)).tolist()
    [[False], [True], [True]]
    """
    chex.assert_rank([neighbours.index, within_index], 2)
    size = within_index.shape[0]
    # softened, because a person's tracklets in one view share stage-1 positives but never are each other's
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
    """Adds the stage-1 positives of each match: w_ik = w_ik + sum_j w_ij w_jk, top K2, renormalised.

    Args:
      matched: stage-2 matches [P, K2].
      within: stage-1 positives [P, K1].
      camera: [P].
      ban_same_camera: bars k of i's own camera, static.
      tiling: `Tiling`.

    Returns:
      Positives [P, K2], heaviest first; ignore and threshold unchanged.

    Cost: O(P K1 K2) memory.

    >>> index = jnp.array([[1, -1], [2, -1], [-1, -1]])
    >>> one = Positives(index, (index > 0) * 1., None, None)
    >>> propagate(one, one, jnp.arange(3)).weight[0].tolist()
    [0.5, 0.5]
    """
    chex.assert_equal_shape_prefix([matched.index, within.index, camera], 1)
    count, flat = matched.index.shape[1], (len(matched.index), matched.index.shape[1] * within.index.shape[1])
    # with a match come the other cameras of its person, which stage 1 has found already
    onward, share = tiling.lookup((within.index, within.weight), matched.index)
    # the look-up of an absent entry gives 0, which is a valid row
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
    """Sum [N] over all routes to the same id, and which entries are the first of their id."""
    columns = jnp.arange(ids.shape[0])

    def look(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        total, first = carry
        same = ids == ids[k]
        return total + jnp.where(same, routes[k], 0.0), first & ~(same & (k < columns))

    # column by column, which a CPU does four times as fast as a square at once
    return jax.lax.fori_loop(0, ids.shape[0], look, (jnp.zeros_like(routes), jnp.ones_like(ids, bool)))
