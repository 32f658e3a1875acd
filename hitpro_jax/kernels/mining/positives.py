"""HCPA, what the mining finds: positives with their weights, and what is built from them.

P prototypes, D features, K positives, A ambiguous, M neighbours kept in the table.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import each_row, fold_rows, local_place, lookup
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.exact import Neighbours
from hitpro_jax.types import MODALITIES, Positives


def no_positives(size: int, *, positives: int, ambiguous: int) -> Positives:
    """What there is before any mining: empty rows, and thresholds of +inf that count as "none yet".

    >>> no_positives(1, positives=2, ambiguous=1).index.tolist()
    [[-1, -1]]
    """
    return Positives(
        index=jnp.full((size, positives), -1, jnp.int32),
        weight=jnp.zeros((size, positives), jnp.float32),
        ignore=jnp.full((size, ambiguous), -1, jnp.int32),
        threshold=jnp.full(MODALITIES, jnp.inf, jnp.float32),
    )


def smoothed(
    prototypes: jax.Array, within: Positives, *, block: int = 512, mesh: jax.sharding.Mesh | None = None
) -> jax.Array:
    """Prototypes drawn to their stage-1 positives: q_i = unit(p_i + sum_j w_ij p_j).

    Stage 2 builds on stage 1 (paper). Choice: this sum, in which a row without positives stays itself.
    Memory: O(block K D).

    Args:
      prototypes: [P, D] float32.
      within: positives [P, K].
      block, mesh: see `rows.fold_rows`.

    Returns:
      [P, D] float32 unit rows.

    >>> within = no_positives(2, positives=1, ambiguous=1)._replace(
    ...     index=jnp.array([[1], [-1]]), weight=jnp.array([[1.], [0.]]))
    >>> print(jax.jit(smoothed)(jnp.eye(2), within).round(2))
    [[0.71 0.71]
     [0.   1.  ]]
    """

    def row(total: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        index, weight = anchor
        place, here = local_place(index, offset, part.shape[0])
        return total + jnp.sum(jnp.where(here, weight, 0.0)[:, None] * part[place], axis=0)

    return unit(fold_rows(row, (within.index, within.weight), prototypes, prototypes, block=block, mesh=mesh))


def cycle_consistent(
    neighbours: Neighbours,
    within_index: jax.Array,
    *,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
) -> jax.Array:
    """Whether going i -> j and back from j to its best match leads home.

    With L(i) = {i} and i's stage-1 positives, and b the nearest of j: accept if L(i) and L(b) meet: b is i,
    or either is a stage-1 positive of the other, or the two share one.
    Choice: a cycle check from DAL, softened by "share one", because a person can own several tracklets in one
    view; these never are stage-1 positives of each other, but they share those of other cameras.

    Args:
      neighbours: stage-2 table [P, M].
      within_index: [P, K] stage-1 positives, -1 for none.
      block, mesh: see `rows.fold_rows`.

    Returns:
      [P, M] bool, False for an empty entry.

    >>> table = Neighbours(jnp.array([[2], [2], [0]]), jnp.ones((3, 1)))
    >>> jax.jit(cycle_consistent)(table, jnp.full((3, 1), -1)).tolist()
    [[True], [False], [True]]
    """
    chex.assert_rank([neighbours.index, within_index], 2)
    size = within_index.shape[0]
    links = jnp.concatenate([jnp.arange(size)[:, None], within_index], axis=1)

    def row(meets: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        home, own = anchor
        place, here = local_place(home, offset, part.shape[0])
        common = (part[place][:, :, None] == own) & (own >= 0)
        return meets | (here & jnp.any(common, axis=(1, 2)))

    home = lookup(neighbours.index[:, 0], neighbours.index, block=block, mesh=mesh)
    home = jnp.where(neighbours.index >= 0, home, -1)
    apart = jnp.zeros(home.shape, bool)
    return fold_rows(row, (home, links), apart, links, block=block, mesh=mesh)


def propagate(
    matched: Positives,
    within: Positives,
    camera: jax.Array,
    *,
    ban_same_camera: bool = False,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
) -> Positives:
    """Adds the stage-1 positives of each match: weight w_ik = w_ik + sum_j w_ij w_jk, top K2, renormalised.

    Choice: a match j stands for its person, whose other cameras stage 1 has found already.

    Args:
      matched: stage-2 matches [P, K2].
      within: stage-1 positives [P, K1].
      camera: [P], read with `ban_same_camera`, which bars k of i's own physical camera here too.
      block, mesh: see `rows.fold_rows`.

    Returns:
      Positives [P, K2], heaviest first (ties: a match before its positives); ignore and threshold unchanged.

    Memory: O(P K1 K2).

    >>> one = no_positives(3, positives=2, ambiguous=1)
    >>> matched = one._replace(index=one.index.at[0, 0].set(1), weight=one.weight.at[0, 0].set(1.))
    >>> within = one._replace(index=one.index.at[1, 0].set(2), weight=one.weight.at[1, 0].set(1.))
    >>> jax.jit(propagate)(matched, within, jnp.arange(3)).weight.tolist()[0]
    [0.5, 0.5]
    """
    chex.assert_equal_shape_prefix([matched.index, within.index, camera], 1)
    count, flat = matched.index.shape[1], (len(matched.index), matched.index.shape[1] * within.index.shape[1])
    there = matched.index >= 0
    onward, share = lookup((within.index, within.weight), matched.index, block=block, mesh=mesh)
    onward = jnp.where(there[:, :, None], onward, -1).reshape(flat)
    ids = jnp.concatenate([matched.index, onward], axis=1)
    routes = jnp.concatenate([matched.weight, (matched.weight[:, :, None] * share).reshape(flat)], axis=1)
    allowed = ids >= 0
    if ban_same_camera:
        allowed &= lookup(camera, ids, block=block, mesh=mesh) != camera[:, None]

    def row(ids: jax.Array, routes: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
        column = jnp.arange(ids.shape[0])

        def look(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            total, first = carry
            same = ids == ids[k]
            return total + jnp.where(same, routes[k], 0.0), first & ~(same & (k < column))

        # one entry a prototype, the first; column by column, which a CPU does four times as fast as a square at once
        start = jnp.zeros_like(routes), jnp.ones_like(allowed)
        total, first = jax.lax.fori_loop(0, ids.shape[0], look, start)
        best, place = jax.lax.top_k(jnp.where(first & allowed, total, 0.0), count)
        norm = jnp.sum(best)
        return jnp.where(best > 0, ids[place], -1), best / jnp.where(norm > 0, norm, 1.0)

    index, weight = each_row(row, (ids, routes, allowed), block=block, mesh=mesh)
    return matched._replace(index=index, weight=weight)
