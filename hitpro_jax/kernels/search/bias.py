"""Corrections of similarities: camera bias, rows near to everything."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling
from hitpro_jax.kernels.search.candidates import Neighbours, ViewBias, similarity
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import TrackletInfo


def view_bias(
    prototypes: jax.Array, info: TrackletInfo, *, num_views: int, mode: str, tiling: Tiling = ONE_DEVICE
) -> ViewBias | None:
    """Camera bias of the stage-1 similarities.

    mean: s' = s - mu_ab + mu;  zscore: s' = (s - mu_ab) sigma / sigma_ab + mu;  mu_ab and sigma_ab are mean and
    deviation of s between views a and b, mu and sigma those of all pairs a != b of the modality.

    Args:
      prototypes: [P, D].
      info: of the rows; view ids in [0, V).
      num_views: V, static.
      mode: "none", "mean" or "zscore", static.
      tiling: `Tiling`.

    Returns:
      ViewBias, finite; None for "none".

    Raises:
      ValueError: unknown mode.

    Cost: O(V D + V^2) memory; zscore visits every pair, with O(block P) more.

    >>> info = TrackletInfo(jnp.zeros(2, int), jnp.arange(2), jnp.arange(2), jnp.ones(2, bool))
    >>> view_bias(jnp.eye(2), info, num_views=2, mode="mean").offset.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if mode == "none":
        return None
    if mode not in ("mean", "zscore"):
        raise ValueError(f"unknown camera bias {mode!r}; use 'none', 'mean' or 'zscore'.")
    view = jnp.where(info.valid, info.view, -1)
    centre, sizes = segment_mean(prototypes, view, num_segments=num_views)
    mean = similarity(centre, centre)  # mu_ab = <mean_a, mean_b>: no pair of rows is visited
    modality, _ = segment_mean(info.modality, view, num_segments=num_views)
    same = (modality[:, None] == modality[None, :]).astype(jnp.float32)
    pairs = sizes[:, None] * sizes[None, :] * same * (1.0 - jnp.eye(num_views))
    scale = jnp.ones((num_views, num_views), jnp.float32)
    if mode == "zscore":
        variance = _pair_variance(prototypes, view, mean, sizes, tiling)
        spread = variance > 1e-12  # below this sigma_ab is rounding, and dividing by it would make noise
        scale = jnp.where(spread, jnp.sqrt(_pooled(variance, pairs, same) / jnp.where(spread, variance, 1.0)), 1.0)
        scale = jnp.where(scale > 0, scale, 1.0)  # views of the own modality may have no pair to pool
    # (s - mean) * scale + mu as one offset; mu is added back, so that bars relative to a row's best keep their meaning
    return ViewBias(mean - _pooled(mean, pairs, same) / scale, scale)


def _pooled(values: jax.Array, pairs: jax.Array, same: jax.Array) -> jax.Array:
    """Mean [V, 1] of values [V, V] over the stage-1 pairs of each modality."""
    total, sums = (same * jnp.sum(x, axis=1) for x in (pairs, pairs * values))
    return jnp.sum(sums, axis=1, keepdims=True) / jnp.maximum(jnp.sum(total, axis=1, keepdims=True), 1.0)


def _pair_variance(
    prototypes: jax.Array, view: jax.Array, mean: jax.Array, sizes: jax.Array, tiling: Tiling
) -> jax.Array:
    """[V, V] variance of the similarities between views."""
    member = jax.nn.one_hot(view, mean.shape[0], dtype=jnp.float32)  # no view, no member: padding drops out

    def row(total: jax.Array, anchor: tuple, part: tuple, offset: jax.Array, mean: jax.Array) -> jax.Array:
        (prototype, own), (prototypes, other, member) = anchor, part
        # squares of deviations: mean of squares minus square of the mean would cancel in float32
        deviation = similarity(prototype, prototypes) - mean[own][other]
        return total + jnp.matmul(jnp.square(deviation), member, precision=jax.lax.Precision.HIGHEST)

    bank = (prototypes, view, member)
    per_row = tiling.fold_rows(row, (prototypes, view), jnp.zeros_like(member), bank, mean)
    total, _ = segment_mean(per_row, view, num_segments=mean.shape[0])
    return total / jnp.maximum(sizes, 1.0)[None, :]


def balanced(neighbours: Neighbours, *, count: int, tiling: Tiling = ONE_DEVICE) -> Neighbours:
    """The table with all rows equally near to their nearest candidates.

    s'_ij = s_ij - (l_i + l_j) / 2,  l_i = mean of the first `count` s_ij - mean over rows of the same.

    Args:
      neighbours: [P, M].
      count: neighbours averaged, static.
      tiling: `Tiling`.

    Returns:
      Neighbours [P, M] by s'.

    Source: after BMIL, in the form of CSLS.

    >>> table = Neighbours(jnp.array([[1], [0], [0]]), jnp.array([[1.], [1.], [.25]]))
    >>> balanced(table, count=1).similarity.tolist()
    [[0.75], [0.75], [0.375]]
    """
    chex.assert_equal_shape(neighbours)
    near = neighbours.similarity[:, :count]
    found = near > -jnp.inf
    mean = jnp.sum(jnp.where(found, near, 0.0), axis=1) / jnp.maximum(jnp.sum(found, axis=1), 1)
    some = jnp.any(found, axis=1)
    overall = jnp.sum(mean) / jnp.maximum(jnp.sum(some), 1)  # rows without candidates add 0
    # minus the overall mean, so that relative thresholds keep their meaning
    level = jnp.where(some, mean - overall, 0.0)
    theirs = tiling.lookup(level, neighbours.index)

    def ordered(index: jax.Array, similarity: jax.Array, own: jax.Array, theirs: jax.Array) -> Neighbours:
        # entries change places and none comes in: that would take a second search over all candidates
        falling, index = jax.lax.sort(((own[:, None] + theirs) / 2.0 - similarity, index), num_keys=2)
        return Neighbours(index, -falling)

    return tiling.each_part(ordered, (*neighbours, level, theirs))
