"""SWA, Soft Weight Assignment (paper): how much each accepted positive counts."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, local_position


def soft_weights(
    index: jax.Array,
    similarity: jax.Array,
    *,
    kind: str = "softmax",
    temperature: float | jax.Array = 0.1,
    threshold: jax.Array | None = None,
    votes: jax.Array | None = None,
    reliability: jax.Array | None = None,
) -> jax.Array:
    """Weights of a row's positives, which sum to 1.

    softmax: w_ij = softmax_j(s_ij / tau_w);  uniform: 1 / n;  margin: proportional to s_ij - threshold_i;
    vote: proportional to shared neighbours (after N-ULC);  hard: the best positive alone.

    Args:
      index: [P, K] positives.
      similarity: [P, K] s_ij, best first.
      kind: static.
      temperature: tau_w > 0.
      threshold: [P] bars, for "margin".
      votes: [P, K] of `shared_neighbours`, for "vote".
      reliability: [P, K] r_j, factors.

    Returns:
      [P, K]; rows sum to 1, or to 0 without positives.

    Raises:
      ValueError: unknown kind, or its array is missing.

    >>> soft_weights(jnp.array([[3, 1, -1]]), jnp.zeros((1, 3))).tolist()
    [[0.5, 0.5, 0.0]]
    """
    chex.assert_rank(index, 2)
    chex.assert_equal_shape([index, similarity])
    found = index >= 0
    raw = _raw_weights(found, similarity, kind, temperature, threshold, votes)
    if reliability is not None:
        # r_i is common to the row and cancels; the floor keeps a row from losing all its weight
        raw = raw * jnp.maximum(reliability, 1e-6)
    raw = jnp.where(found, raw, 0.0)
    total = jnp.sum(raw, axis=1, keepdims=True)
    return raw / jnp.where(total > 0, total, 1.0)  # an empty row is 0/1, not 0/0


def shared_neighbours(index: jax.Array, own: jax.Array, theirs: jax.Array, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Votes for each positive j of i: v_ij = 1 + |own_i intersect theirs_j|.

    Args:
      index: [P, K] positives j.
      own: [P, A] neighbours of i.
      theirs: [P, C] neighbours of j.
      tiling: `Tiling`.

    Returns:
      [P, K] >= 1; 0 for an empty entry.

    Cost: O(P K + block A K C).

    >>> near = jnp.array([[4], [4]])
    >>> shared_neighbours(jnp.array([[1], [-1]]), near, near).tolist()
    [[2.0], [0.0]]
    """
    chex.assert_rank([index, own, theirs], 2)

    def row(votes: jax.Array, anchor: tuple, part: jax.Array, offset: jax.Array) -> jax.Array:
        index, own = anchor
        position, present = local_position(index, offset, part.shape[0])
        common = (part[position][:, :, None] == own) & (own >= 0)
        return votes + jnp.where(present, jnp.sum(common, axis=(1, 2)), 0)

    # 1 is j's own vote: without it a positive that shares nothing would be dropped after it was accepted
    votes = tiling.fold_rows(row, (index, own), jnp.ones(index.shape, jnp.int32), theirs)
    return jnp.where(index >= 0, votes, 0).astype(jnp.float32)


def _raw_weights(
    found: jax.Array,
    similarity: jax.Array,
    kind: str,
    temperature: float | jax.Array,
    threshold: jax.Array | None,
    votes: jax.Array | None,
) -> jax.Array:
    """[P, K] weights before normalising; empty entries hold anything finite."""
    # our default: the paper gives no form
    if kind == "softmax":
        below_best = similarity - similarity[:, :1]  # best first: exp cannot overflow
        return jnp.exp(jnp.where(found, below_best, 0.0) / temperature)
    if kind == "uniform":
        return jnp.ones_like(similarity)
    if kind == "margin" and threshold is not None:
        # 1e-3 keeps a positive that sits on the bar; an infinite bar has no positives
        return jnp.where(found, jnp.maximum(similarity - threshold[:, None], 0.0), 0.0) + 1e-3
    if kind == "vote" and votes is not None:
        return votes
    if kind == "hard":
        return jnp.broadcast_to(jnp.arange(found.shape[1]) == 0, found.shape).astype(jnp.float32)
    raise ValueError(
        f"weights of kind {kind!r} cannot be had; use 'softmax', 'uniform', 'hard', 'margin' with threshold, "
        "or 'vote' with votes."
    )
