"""Means over segments of rows."""

import chex
import jax
import jax.numpy as jnp


def segment_mean(
    features: jax.Array, segment_ids: jax.Array, *, num_segments: int, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Weighted mean of the rows of each segment.

    mean_s = sum_{i in s} a_i x_i / sum_{i in s} a_i.

    Args:
      features: [N, ...], any real dtype.
      segment_ids: [N] integers; outside [0, S) a row is left out.
      num_segments: S, static.
      weights: [N] a_i >= 0, default 1.

    Returns:
      means [S, ...] and total weights [S]; both 0 for an empty segment.

    Source: jraph and ott-jax.

    >>> segment_mean(jnp.array([1., 3.]), jnp.array([0, 0]), num_segments=2)[0].tolist()
    [2.0, 0.0]
    """
    chex.assert_rank(segment_ids, 1)
    chex.assert_equal_shape_prefix([features, segment_ids], 1)
    weights = jnp.ones(segment_ids.shape, jnp.float32) if weights is None else weights.astype(jnp.float32)
    chex.assert_equal_shape([weights, segment_ids])

    # segment_sum drops ids outside [0, S), negative ones too
    columns = tuple(range(1, features.ndim))
    # float32, as the weights are; a row of no weight counts for nothing, whatever is in it
    weighted = jnp.where(jnp.expand_dims(weights > 0, columns), features * jnp.expand_dims(weights, columns), 0.0)
    sums = jax.ops.segment_sum(weighted, segment_ids, num_segments)
    totals = jax.ops.segment_sum(weights, segment_ids, num_segments)
    safe = jnp.expand_dims(jnp.where(totals > 0, totals, 1.0), columns)  # an empty segment is 0/1, not 0/0
    return jnp.where(jnp.expand_dims(totals > 0, columns), sums / safe, 0.0), totals
