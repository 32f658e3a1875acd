"""ICTP, Intra-Camera Tracklet Prototyping: one prototype a tracklet, no clustering (paper)."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.segments import segment_mean


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Unit vectors x / ||x|| along a static axis; those below 1e-12 stay.

    >>> print(unit(jnp.array([[3., 4.], [0., 0.]])))
    [[0.6 0.8]
     [0.  0. ]]
    """
    return x.astype(jnp.float32) * _inverse_length(x, axis)


def direction_from(features: jax.Array, centre: jax.Array) -> jax.Array:
    """Unit directions from centres to rows [..., D]; 0 within 1e-6 of the centre.

    >>> direction_from(jnp.array([[3., 1.]]), jnp.array([[1., 1.]])).tolist()
    [[1.0, 0.0]]
    """
    rest = features - centre
    # a rest this small is rounding: at unit length it would count like any other direction
    return unit(jnp.where(jnp.sum(rest * rest, axis=-1, keepdims=True) > 1e-12, rest, 0.0))


def aggregate_parts(
    parts: jax.Array, part_mask: jax.Array, *, mode: str = "uniform", temperature: float = 0.1
) -> tuple[jax.Array, jax.Array]:
    """Prototype and reliability of each tracklet from the features of its S temporal parts.

    p_i = unit(sum_s a_is u_is);  r_i = mean_s <u_is, unit(mean_s u_is)>.
    uniform: a_is = 1 / (number of parts) (paper);  consistency: a_is = softmax_s(<u_is, unit(mean_s u_is)> / tau).

    Args:
      parts: [N, S, D], scaled to unit length here.
      part_mask: [N, S] bool.
      mode: static.
      temperature: tau > 0.

    Returns:
      prototypes [N, D] and reliability [N]; both 0 without any part.

    Raises:
      ValueError: unknown mode.

    >>> print(aggregate_parts(jnp.eye(2)[None], jnp.ones((1, 2), bool))[0].round(2))
    [[0.71 0.71]]
    """
    chex.assert_rank(parts, 3)
    chex.assert_equal_shape_prefix([parts, part_mask], 2)
    count, splits, width = parts.shape
    parts = unit(parts)
    tracklet = jnp.where(part_mask, jnp.arange(count)[:, None], -1).reshape(-1)

    def mean_of_parts(values: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        return segment_mean(values, tracklet, num_segments=count, weights=weights)[0]

    flat = parts.reshape(count * splits, width)
    centre = mean_of_parts(flat)
    agreement = jnp.sum(parts * unit(centre)[:, None], axis=-1)
    # our choice: an occluded part disagrees with the others, and should count less
    if mode == "consistency":
        weights = jax.nn.softmax(agreement / temperature, axis=1, where=part_mask)
        centre = mean_of_parts(flat, weights.reshape(-1))
    elif mode != "uniform":
        raise ValueError(f"unknown part aggregation {mode!r}; use 'uniform' or 'consistency'.")
    return unit(centre), mean_of_parts(agreement.reshape(-1))


def halves_similarity(parts: jax.Array, part_mask: jax.Array, centre: jax.Array) -> jax.Array:
    """<h_1, h_2> of the halves of a tracklet, h the direction from the centre to the half's prototype.

    Args:
      parts: [S, D] of one tracklet.
      part_mask: [S] bool.
      centre: [D] of its view, or zeros.

    Returns:
      []; NaN where a half has no part.

    >>> float(halves_similarity(jnp.eye(2), jnp.ones(2, bool), jnp.zeros(2)))
    0.0
    """
    # two halves are known without labels to be of one person in one view
    scale = jnp.where(part_mask, _inverse_length(parts, -1)[:, 0], 0.0)
    later = jnp.arange(parts.shape[0]) >= parts.shape[0] // 2
    # as a product: unit parts of all tracklets would be one more array of their size
    halves = jnp.matmul(jnp.stack([~later, later]) * scale, parts, precision=jax.lax.Precision.HIGHEST)
    first, second = direction_from(unit(halves), centre)
    both = jnp.any(part_mask & ~later) & jnp.any(part_mask & later)
    return jnp.where(both, jnp.sum(first * second), jnp.nan)


def _inverse_length(x: jax.Array, axis: int) -> jax.Array:
    """1 / ||x|| with the axis kept, 1 below 1e-12."""
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return jax.lax.rsqrt(jnp.where(square > 1e-24, square, 1.0))  # chosen inside, as the root has no slope at 0
