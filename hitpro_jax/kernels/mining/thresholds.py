"""HCPA, the Dynamic Threshold Strategy (DTS, named by the paper): the rules by which a neighbour is accepted.

P prototypes, M table columns. Every rule is a pure function of the table of nearest candidates.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import fold_rows, local_place, lookup
from hitpro_jax.kernels.search.exact import Neighbours
from hitpro_jax.kernels.segments import segment_mean

STAY = 0.1  # share of the tracklets whose halves may be less alike than two tracklets of one stay must be (choice)
BINS = 2000  # in which similarities from -1 to 1 are counted


def dynamic_threshold(
    best: jax.Array,
    group_id: jax.Array,
    *,
    num_groups: int,
    kappa: float | jax.Array,
    ema: float | jax.Array = 0.0,
    previous: jax.Array | None = None,
) -> jax.Array:
    """Statistic threshold of each group: DTS rule (b).

    theta_m = mean_{i in m} b_i + kappa std_{i in m} b_i, then theta <- ema * previous + (1 - ema) * theta.
    Choice: the paper names a Dynamic Threshold Strategy without its formula; statistics of the best
    similarities follow the features as they move, and the EMA keeps one odd refresh from deciding.

    Args:
      best: [P] b_i, the best similarity of each row, -inf for rows without candidates (left out).
      group_id: [P] modality, which is also the direction "from this modality to the other".
      num_groups: static.
      kappa: deviations above the mean, may be traced.
      ema: weight of the previous threshold in [0, 1), may be traced.
      previous: [num_groups] thresholds of the last refresh; an entry that is not finite counts as none.

    Returns:
      [num_groups] float32, never NaN. A group without rows keeps its previous threshold, or is +inf (accept
      nothing) if it has none.

    >>> best, none = jnp.array([.5, .75, -jnp.inf]), jnp.array([jnp.inf, jnp.nan])
    >>> dynamic_threshold(best, jnp.array([0, 0, 1]), num_groups=2, kappa=1., previous=none).tolist()
    [0.75, inf]
    """
    chex.assert_rank(best, 1)
    chex.assert_equal_shape([best, group_id])
    group_id = jnp.where(best > -jnp.inf, group_id, -1)
    best = jnp.where(best > -jnp.inf, best, 0.0)
    mean, rows = segment_mean(best, group_id, num_segments=num_groups)
    variance, _ = segment_mean(jnp.square(best - mean[group_id]), group_id, num_segments=num_groups)
    fresh = mean + kappa * jnp.sqrt(variance)
    if previous is None:
        previous = jnp.full(num_groups, jnp.inf, jnp.float32)
    chex.assert_shape(previous, (num_groups,))
    known = jnp.isfinite(previous)
    smooth = fresh + ema * jnp.where(known, previous - fresh, 0.0)
    return jnp.where(rows > 0, smooth, jnp.where(known, previous, jnp.inf))


def row_threshold(
    best: jax.Array, theta: jax.Array, *, rule: str, rho: float | jax.Array, fixed: float | jax.Array = 0.5
) -> jax.Array:
    """The similarity that a candidate of each row must reach: DTS rules (a) and (b) as one bar.

    relative: rho b_i (from SDCL, made relative to the anchor's own best);  statistic: theta_m;
    both: max of the two;  fixed: a constant, the control.
    Choice: rho b_i has a meaning for b_i > 0 alone. A row whose best candidate is not even positively similar
    has no likeness to build on, so its relative bar is +inf and it accepts nothing.

    Args:
      best: [P] b_i, -inf for rows without candidates.
      theta: [P] the statistic threshold of each row's group.
      rule: "relative", "statistic", "both" or "fixed", static.
      rho: in (0, 1], may be traced.
      fixed: the constant bar.

    Returns:
      [P] float32; +inf accepts nothing.

    Raises:
      ValueError: unknown rule.

    >>> row_threshold(jnp.array([1., .4, -.1]), jnp.full(3, .5), rule="both", rho=.75).tolist()
    [0.75, 0.5, inf]
    """
    chex.assert_rank(best, 1)
    chex.assert_equal_shape([best, theta])
    relative = jnp.where(best > 0, rho * best, jnp.inf)
    if rule == "relative":
        return relative
    if rule == "statistic":
        return theta
    if rule == "both":
        return jnp.maximum(relative, theta)
    if rule == "fixed":
        return jnp.full_like(best, fixed)
    raise ValueError(f"unknown threshold rule {rule!r}; use 'relative', 'statistic', 'both' or 'fixed'.")


def part_threshold(alike: jax.Array, group_id: jax.Array, *, num_groups: int) -> jax.Array:
    """How alike two tracklets of one stay must be: as the halves of most single tracklets are.

    The STAY quantile of each group, to 0.001: similarities are counted in bins of that width, as sorting would gather
    them on every device. Choice: this quantile. On the synthetic world the best match among the strangers of a view
    falls far below it, and nine of ten tracklets of one stay lie above.

    Args:
      alike: [P] of `prototypes.halves_alike`, NaN to leave a row out.
      group_id: [P] modality of each row, -1 to leave it out.
      num_groups: static.

    Returns:
      [num_groups] float32, +inf (nothing is that alike) for a group without rows.

    >>> print(part_threshold(jnp.array([.5, .7, jnp.nan]), jnp.array([0, 0, 1]), num_groups=2).round(2))
    [0.5 inf]
    """
    chex.assert_equal_shape([alike, group_id])
    place = jnp.clip((alike + 1.0) / 2.0 * BINS, 0, BINS - 1).astype(jnp.int32)  # NaN: anything, left out below
    told = (group_id >= 0) & ~jnp.isnan(alike)
    counts = jax.ops.segment_sum(told.astype(jnp.int32), group_id * BINS + place, num_groups * BINS)
    below = jnp.cumsum(counts.reshape(num_groups, BINS), axis=1)
    rows = below[:, -1:]
    quantile = jnp.argmax(below >= STAY * rows, axis=1) * (2.0 / BINS) - 1.0
    return jnp.where(rows[:, 0] > 0, quantile, jnp.inf)


def reaches(neighbours: Neighbours, bar: jax.Array) -> jax.Array:
    """Which entries reach the bar of their row: s_ij >= bar_i.

    Choice: entries up to 1e-6 below it count, as much as float32 products are off; otherwise rounding would
    decide in a group whose best similarities are all alike, such as one of two tracklets.

    Args:
      neighbours: table [P, M].
      bar: [P], +inf for "accept nothing".

    Returns:
      [P, M] bool, False for an empty entry.

    >>> table = Neighbours(jnp.array([[2, 1, -1]]), jnp.array([[.9, .7, -jnp.inf]]))
    >>> reaches(table, jnp.array([.8])).tolist()
    [[True, False, False]]
    """
    chex.assert_equal_shape_prefix([neighbours.similarity, bar], 1)
    return (neighbours.similarity >= bar[:, None] - 1e-6) & (neighbours.index >= 0)


def camera_rank(
    neighbours: Neighbours, camera: jax.Array, *, block: int = 512, mesh: jax.sharding.Mesh | None = None
) -> jax.Array:
    """Rank of each entry among the row's entries of the same camera, from O2CAP's per-camera choice.

    Args:
      neighbours: table [P, M], best first.
      camera: [P] camera of each prototype.
      block, mesh: see `rows.fold_rows`.

    Returns:
      [P, M] int32, 0 for the best of its camera; M for an empty entry.

    Memory: O(P M): one column is compared at a time.

    >>> camera_rank(Neighbours(jnp.array([[1, 2, 0, -1]]), jnp.ones((1, 4))), jnp.array([5, 5, 6])).tolist()
    [[0, 0, 1, 4]]
    """
    chex.assert_rank([neighbours.index, camera], [2, 1])
    width = neighbours.index.shape[1]
    found = neighbours.index >= 0
    cameras = lookup(camera, neighbours.index, block=block, mesh=mesh)  # 0 for none; `found` masks it below
    place = jnp.arange(width)

    def look(column: int, rank: jax.Array) -> jax.Array:
        return rank + ((cameras[:, column][:, None] == cameras) & (column < place))

    rank = jax.lax.fori_loop(0, width, look, jnp.zeros(cameras.shape, jnp.int32))
    return jnp.where(found, rank, width)


def reciprocal(
    neighbours: Neighbours, *, count: int, block: int = 512, mesh: jax.sharding.Mesh | None = None
) -> jax.Array:
    """Whether row i is among the `count` nearest of its neighbour j in the reverse direction.

    DTS rule (d), from k-reciprocal encoding and DAL.

    Args:
      neighbours: table [P, M] of a symmetric relation.
      count: K_r, static, at most M.
      block, mesh: see `rows.fold_rows`.

    Returns:
      [P, M] bool, False for an empty entry.

    Raises:
      ValueError: count above M, as the table could not tell.

    >>> table = Neighbours(jnp.array([[1], [2], [1]]), jnp.ones((3, 1)))
    >>> reciprocal(table, count=1).tolist()
    [[False], [True], [True]]
    """
    chex.assert_rank(neighbours.index, 2)
    if count > neighbours.index.shape[1]:
        raise ValueError(
            f"reciprocity over {count} neighbours needs a table at least as wide, got "
            f"{neighbours.index.shape[1]}; raise the number of neighbours kept."
        )
    index = neighbours.index

    def row(hit: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        own, ids = anchor
        place, here = local_place(ids, offset, part.shape[0])
        return hit | (here & jnp.any(part[place] == own, axis=-1))

    rows, missed = (jnp.arange(index.shape[0]), index), jnp.zeros(index.shape, bool)
    return fold_rows(row, rows, missed, index[:, :count], block=block, mesh=mesh)
