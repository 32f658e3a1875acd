"""HCL, Hierarchical Contrastive Learning: three levels of feature-prototype contrast (paper).

B clips or frames. With a static `axis` (see `collectives`) [P] and [B, P] are a device's part; all return the same.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.collectives import (
    bank_size,
    largest,
    log_sum_exp,
    position_of,
    sum_columns,
    take_columns,
    take_rows,
)
from hitpro_jax.kernels.search import candidates


def similarities(features: jax.Array, prototypes: jax.Array) -> jax.Array:
    """<z, p> [B, P] of unit features [B, D] and prototypes [P, D], which are constants.

    Cost: 2 B P D flops forward, the same backward.

    >>> similarities(jnp.ones((1, 1)), jnp.ones((1, 1))).tolist()
    [[1.0]]
    """
    chex.assert_rank([features, prototypes], 2)
    chex.assert_equal_shape_suffix([features, prototypes], 1)
    # at highest precision, as in mining: an error here is divided by tau
    return candidates.similarity(features.astype(jnp.float32), jax.lax.stop_gradient(prototypes))


def intra_camera(
    similarity: jax.Array,
    target: jax.Array,
    view: jax.Array,
    valid: jax.Array,
    ignore: jax.Array,
    *,
    temperature: float | jax.Array = 0.05,
    mode: str = "mask",
    axis: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Level 1: cross-entropy of a clip against the prototypes of its own view (paper).

    l = -log( exp(s_y / tau) / sum_{j: g_j = g_y} exp(s_j / tau) ).
    Ambiguous prototypes leave the sum (mask), share the target equally with y (positive) or are negatives (none).

    Args:
      similarity: [B, P] of `similarities`.
      target: [B] row y of each clip's tracklet.
      view: [P].
      valid: [P] bool.
      ignore: [B, A] ambiguous prototypes of y.
      temperature: tau > 0.
      mode: static.
      axis: see above.

    Returns:
      loss [B], 0 without a term, and has [B] bool.

    Raises:
      ValueError: unknown mode.

    Source: for frames, M3-ReID.

    >>> arguments = jnp.ones((1, 2)), jnp.array([0]), jnp.array([0, 0]), jnp.ones(2, bool)
    >>> intra_camera(*arguments, jnp.array([[1]]))[0].tolist()  # 1 looks like 0
    [0.0]
    """
    if mode not in ("mask", "positive", "none"):
        raise ValueError(f"unknown ambiguity mode {mode!r}; use 'mask', 'positive' or 'none'.")
    _check(similarity, target, ignore)
    size = similarity.shape[1]
    chex.assert_shape([view, valid], (size,))
    has = (target >= 0) & (target < bank_size(size, axis))
    own = members(target[:, None], size, axis)
    rivals = valid & (view == take_rows(view, target, axis)[:, None]) & ~own
    ambiguous = rivals & members(ignore, size, axis)
    # "mask" suits look-alikes by stage 1's rule; "positive" those by `part_threshold`, which are nearly all one
    # person's
    if mode == "mask":
        rivals &= ~ambiguous
    positive = own | ambiguous if mode == "positive" else own

    logits = jnp.where(has[:, None], similarity, 0.0) / temperature  # no term: harmless numbers, no gradient
    log_sum = log_sum_exp(jnp.where(own | rivals | ~has[:, None], logits, -jnp.inf), axis)
    parts = jnp.maximum(sum_columns(positive, axis), 1)
    aim = sum_columns(jnp.where(positive, logits, 0.0), axis) / parts
    return jnp.where(has, log_sum - aim, 0.0), has


def soft_target(
    similarity: jax.Array,
    target: jax.Array,
    positive_index: jax.Array,
    positive_weight: jax.Array,
    candidate: jax.Array,
    ignore: jax.Array,
    *,
    temperature: float | jax.Array = 0.05,
    alpha: float | jax.Array = 0.5,
    hard_negatives: int = 50,
    axis: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Levels 2 and 3: soft-target cross-entropy over y and its mined positives (paper).

    l = -sum_j t_j log( exp(s_j / tau) / sum_{k in S} exp(s_k / tau) ),  t_y = alpha, t_j = (1 - alpha) w_yj,
    S = {y} + positives + hardest negatives; alpha = 0 leaves y out.

    Args:
      similarity: [B, P] of `similarities`.
      target: [B] row y of each clip's tracklet.
      positive_index: [B, K] positives of y without y, each once.
      positive_weight: [B, K] w, rows sum to 1.
      candidate: [B, P] bool, possible negatives.
      ignore: [B, A] ambiguous prototypes; a positive stays one.
      temperature: tau > 0.
      alpha: in [0, 1].
      hard_negatives: H, static.
      axis: see above.

    Returns:
      loss [B], 0 without positives, and has [B] bool.

    Source: hardest negatives as in CAP.
    Cost: O(B P) memory, one top-k over [B, P], O(B (K + H)) communication.

    >>> one, zero = jnp.ones((1, 1)), jnp.array([[0]])
    >>> arguments = jnp.array([[1., 1.]]), zero[0], zero + 1, one, jnp.ones((1, 2), bool)
    >>> soft_target(*arguments, zero - 1, alpha=0.)[0].tolist()
    [0.0]
    """
    _check(similarity, target, ignore)
    chex.assert_equal_shape([similarity, candidate])
    chex.assert_equal_shape([positive_index, positive_weight])
    chex.assert_equal_shape_prefix([similarity, positive_index], 1)
    size = similarity.shape[1]
    positive = (positive_index >= 0) & (positive_weight > 0)
    has = (target >= 0) & (target < bank_size(size, axis)) & jnp.any(positive, axis=1)
    # ambiguous ones are no negatives: mining could not distinguish them from positives
    taken = members(jnp.concatenate([target[:, None], positive_index, ignore], axis=1), size, axis)

    logits = jnp.where(has[:, None], similarity, 0.0) / temperature  # no term: harmless numbers, no gradient
    own = take_columns(logits, target[:, None], axis)
    aims = take_columns(logits, positive_index, axis)
    hardest = largest(jnp.where(candidate & ~taken, logits, -jnp.inf), hard_negatives, axis)
    in_sum = jnp.concatenate([(jnp.asarray(alpha) > 0) & jnp.ones_like(has)[:, None], positive], axis=1)
    # a sum over nothing would be log 0, whose gradient is NaN even behind a `where`
    in_sum |= ~has[:, None]
    entries = jnp.where(in_sum, jnp.concatenate([own, aims], axis=1), -jnp.inf)
    log_sum = jax.nn.logsumexp(jnp.concatenate([entries, hardest], axis=1), axis=1)
    weighted = jnp.sum(jnp.where(positive, positive_weight * aims, 0.0), axis=1)
    loss = jnp.where(has, log_sum - alpha * own[:, 0] - (1.0 - alpha) * weighted, 0.0)
    # equal on all devices, but by type it varies over them since `all_gather`
    return (loss if axis is None else jax.lax.pmean(loss, axis)), has


def mean_over(loss: jax.Array, has: jax.Array) -> jax.Array:
    """Mean of loss [B] over the clips that have [B] bool the term, or 0.

    >>> float(mean_over(jnp.array([2., 9.]), jnp.array([True, False])))
    2.0
    """
    chex.assert_equal_shape([loss, has])
    return jnp.sum(jnp.where(has, loss, 0.0)) / jnp.maximum(jnp.sum(has), 1)


def members(index: jax.Array, size: int, axis: str | None = None) -> jax.Array:
    """Ids [B, K] as masks [B, size]; ids of other devices are left out.

    >>> members(jnp.array([[2, -1]]), 3).tolist()
    [[False, False, True]]
    """
    rows = jnp.arange(index.shape[0])[:, None]
    position, present = position_of(index, size, axis)
    # size is out of range, so that "drop" leaves absent ids out; -1 would be the last column
    return jnp.zeros((index.shape[0], size), bool).at[rows, jnp.where(present, position, size)].set(True, mode="drop")


def _check(similarity: jax.Array, target: jax.Array, ignore: jax.Array) -> None:
    chex.assert_rank([similarity, target, ignore], [2, 1, 2])
    chex.assert_equal_shape_prefix([similarity, target, ignore], 1)
