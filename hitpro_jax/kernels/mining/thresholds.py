"""The Dynamic Threshold Strategy (DTS, named by the paper)."""

import dataclasses

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, local_position
from hitpro_jax.kernels.search.candidates import Neighbours, similarity
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import MODALITIES, TrackletInfo

HALVES_QUANTILE = 0.1  # share of the tracklets whose halves may fall below `part_threshold` (choice)
ANCHORS = 4096  # rows whose pairs it counts, where there are more (choice)
BINS = 2000  # in which similarities from -1 to 1 are counted: 0.001 wide


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

    Args:
      best: [P] b_i, the best similarity of each row; -inf leaves it out.
      group_id: [P] modality.
      num_groups: static.
      kappa: deviations.
      ema: in [0, 1).
      previous: [num_groups] of the last refresh; not finite: none.

    Returns:
      [num_groups], never NaN; a group without rows keeps its previous threshold, or +inf.

    >>> dynamic_threshold(jnp.array([.5, .75]), jnp.array([0, 0]), num_groups=2, kappa=1.).tolist()
    [0.75, inf]
    """
    chex.assert_rank(best, 1)
    chex.assert_equal_shape([best, group_id])
    group_id = jnp.where(best > -jnp.inf, group_id, -1)
    best = jnp.where(best > -jnp.inf, best, 0.0)
    mean, rows = segment_mean(best, group_id, num_segments=num_groups)
    variance, _ = segment_mean(jnp.square(best - mean[group_id]), group_id, num_segments=num_groups)
    # statistics follow the features as they move, where a constant would not
    fresh = mean + kappa * jnp.sqrt(variance)
    if previous is None:
        previous = jnp.full(num_groups, jnp.inf, jnp.float32)
    chex.assert_shape(previous, (num_groups,))
    known = jnp.isfinite(previous)
    # so that one odd refresh does not decide alone
    smooth = fresh + ema * jnp.where(known, previous - fresh, 0.0)
    return jnp.where(rows > 0, smooth, jnp.where(known, previous, jnp.inf))


def row_threshold(
    best: jax.Array, theta: jax.Array, *, rule: str, rho: float | jax.Array, fixed: float | jax.Array = 0.5
) -> jax.Array:
    """The similarity that a candidate of each row must reach: DTS rules (a) and (b) as one bar.

    relative: rho b_i (from SDCL);  statistic: theta_m;  both: max of the two;  fixed: a constant, the control.

    Args:
      best: [P] b_i, -inf for none.
      theta: [P] of each row's group.
      rule: static.
      rho: in (0, 1].
      fixed: the constant.

    Returns:
      [P]; +inf accepts nothing.

    Raises:
      ValueError: unknown rule.

    >>> row_threshold(jnp.array([1., -1.]), jnp.zeros(2), rule="both", rho=.75).tolist()
    [0.75, inf]
    """
    chex.assert_rank(best, 1)
    chex.assert_equal_shape([best, theta])
    # a share of b_i has a meaning above 0 alone: a row that resembles nothing accepts nothing
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


def part_threshold(halves: jax.Array, group_id: jax.Array, *, num_groups: int) -> jax.Array:
    """The `HALVES_QUANTILE` of the halves' similarities in each group, to 0.001.

    Args:
      halves: [P] of `prototypes.halves_similarity`; NaN leaves a row out.
      group_id: [P] modality.
      num_groups: static.

    Returns:
      [num_groups], +inf for a group without rows.

    >>> print(part_threshold(jnp.array([.5, .7]), jnp.array([0, 0]), num_groups=2).round(2))
    [0.5 inf]
    """
    chex.assert_equal_shape([halves, group_id])
    slot = _bin(halves)  # NaN: any bin, left out below
    known = (group_id >= 0) & ~jnp.isnan(halves)
    # counted and not sorted: sorting would gather all rows on every device
    counts = jax.ops.segment_sum(known.astype(jnp.int32), group_id * BINS + slot, num_groups * BINS)
    below = jnp.cumsum(counts.reshape(num_groups, BINS), axis=1)
    rows = below[:, -1:]
    # a person's tracklets in one view are about as similar as the halves of most single ones
    quantile = _lower_end(jnp.argmax(below >= HALVES_QUANTILE * rows, axis=1))
    return jnp.where(rows[:, 0] > 0, quantile, jnp.inf)


def stranger_threshold(
    prototypes: jax.Array, info: TrackletInfo, *, share: float = 0.05, tiling: Tiling = ONE_DEVICE
) -> jax.Array:
    """The similarity in each modality from which pairs of one view are nearly all one person's, to 0.001.

        theta = min {t > m: #{s <= 2 m - t} + 1 <= share #{s >= t}},   s of pairs of one view, m their median

    Nearly all pairs of a view are strangers, and those lie alike on both sides of their median: as many strangers lie
    above t as below 2 m - t.

    Args:
      prototypes: [P, D] unit rows.
      info: of the rows.
      share: of strangers among the pairs that reach the threshold.
      tiling: `Tiling`.

    Returns:
      [2], +inf for a modality in which nothing stands out.

    Choice: it asks for no halves, so that it serves single pictures, and for no number of persons or of their pictures.
    Source: the empirical null of Efron, with the correction by 1 of knockoffs (Barber and Candes).
    Cost: O(block P + ANCHORS BINS) memory; 2 ANCHORS P D flops.

    >>> info = TrackletInfo(*jnp.zeros((3, 40), int), jnp.ones(40, bool))
    >>> stranger_threshold(jnp.repeat(jnp.eye(8), 5, axis=0), info).round(2).tolist()
    [0.0, inf]
    """
    chex.assert_rank(prototypes, 2)
    chex.assert_equal_shape_prefix([prototypes, info.view], 1)
    size = prototypes.shape[0]

    def row(counts: jax.Array, anchor: tuple, part: tuple, offset: jax.Array) -> jax.Array:
        (own, prototype, view), (prototypes, views) = anchor, part
        peer = (views == view) & (view > 0) & (jnp.arange(len(views)) + offset != own)
        slot = jnp.where(peer, _bin(similarity(prototype, prototypes)), BINS)
        return counts.at[slot].add(1, mode="drop")  # BINS lies outside

    view = jnp.where(info.valid, info.view + 1, 0)  # 0 is no view, as in the rows that fill up the last part
    chosen = _spread(info.valid, min(size, ANCHORS))
    table = jnp.asarray(prototypes), view, jnp.asarray(info.modality)
    anchors = tiling.lookup(table, chosen[:, None])  # indexing would gather the bank
    own, own_view, modality = (column[:, 0] for column in anchors)
    counts = jnp.zeros((len(chosen), BINS), jnp.int32)
    # fewer rows at once than a search has, as each needs its similarities, its bins and their counts
    narrow = dataclasses.replace(tiling, block=max(1, tiling.block // 8))
    counts = narrow.fold_rows(row, (chosen, own, own_view), counts, (prototypes, view))
    counts = jax.ops.segment_sum(counts, modality, MODALITIES)
    below = jnp.cumsum(counts, axis=1)
    total = below[:, -1:]
    median = jnp.argmax(2 * below >= total, axis=1)[:, None]
    mirrored = 2 * median - jnp.arange(BINS)
    strangers = jnp.where(mirrored >= 0, jnp.take_along_axis(below, jnp.maximum(mirrored, 0), axis=1), 0)
    # + 1: where no pair lies below, too few above say nothing
    stands_out = (jnp.arange(BINS) > median) & (strangers + 1 <= share * (total - below + counts))
    return jnp.where(jnp.any(stands_out, axis=1), _lower_end(jnp.argmax(stands_out, axis=1)), jnp.inf)


def _spread(valid: jax.Array, count: int) -> jax.Array:
    """`count` positions, evenly over those of [P] up to the last valid row; padding behind changes none of them."""
    rows = jnp.max(jnp.where(valid, jnp.arange(1, len(valid) + 1), 0))
    step = jnp.arange(count)
    return step * (rows // count) + step * (rows % count) // count  # step * rows may exceed an int32


def _bin(similarity: jax.Array) -> jax.Array:
    return jnp.clip((similarity + 1.0) / 2.0 * BINS, 0, BINS - 1).astype(jnp.int32)


def _lower_end(slot: jax.Array) -> jax.Array:
    return slot * (2.0 / BINS) - 1.0


def reaches(neighbours: Neighbours, bar: jax.Array) -> jax.Array:
    """[P, M] bool: s_ij >= bar_i [P]; False for an empty entry.

    >>> reaches(Neighbours(jnp.array([[2, 1]]), jnp.array([[.9, .7]])), jnp.array([.8])).tolist()
    [[True, False]]
    """
    chex.assert_equal_shape_prefix([neighbours.similarity, bar], 1)
    # 1e-6: as much as float32 products are off. Without it rounding decides where all best similarities are equal, as
    # in a group of two tracklets
    return (neighbours.similarity >= bar[:, None] - 1e-6) & (neighbours.index >= 0)


def camera_rank(neighbours: Neighbours, camera: jax.Array, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Rank [P, M], from 0, of each entry among the row's of the same camera [P]; M for none (from O2CAP).

    >>> camera_rank(Neighbours(jnp.array([[1, 2, 0]]), jnp.ones((1, 3))), jnp.array([5, 5, 6])).tolist()
    [[0, 0, 1]]
    """
    chex.assert_rank([neighbours.index, camera], [2, 1])
    width = neighbours.index.shape[1]
    found = neighbours.index >= 0
    cameras = tiling.lookup(camera, neighbours.index)  # 0 for none; `found` masks it below
    columns = jnp.arange(width)

    # one column at a time: O(P M) memory, not O(P M^2)
    def look(column: int, rank: jax.Array) -> jax.Array:
        return rank + ((cameras[:, column][:, None] == cameras) & (column < columns))

    rank = jax.lax.fori_loop(0, width, look, jnp.zeros(cameras.shape, jnp.int32))
    return jnp.where(found, rank, width)


def reciprocal(neighbours: Neighbours, *, count: int, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """[P, M] bool, whether row i is among the `count` nearest of its neighbour j: DTS rule (d).

    Args:
      neighbours: table [P, M] of a symmetric relation.
      count: K_r <= M, static.
      tiling: `Tiling`.

    Raises:
      ValueError: count above M.

    >>> reciprocal(Neighbours(jnp.array([[1], [2], [1]]), jnp.ones((3, 1))), count=1).tolist()
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
        position, present = local_position(ids, offset, part.shape[0])
        return hit | (present & jnp.any(part[position] == own, axis=-1))

    rows, missed = (jnp.arange(index.shape[0]), index), jnp.zeros(index.shape, bool)
    return tiling.fold_rows(row, rows, missed, index[:, :count])
