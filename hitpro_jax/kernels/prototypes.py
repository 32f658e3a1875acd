"""ICTP, Intra-Camera Tracklet Prototyping: one prototype a tracklet, no clustering (paper)."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.segments import segment_mean


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Vectors x / ||x|| along a static axis, float32; those below 1e-12 stay, with a finite gradient.

    >>> print(unit(jnp.array([[3., 4.], [0., 0.]])))
    [[0.6 0.8]
     [0.  0. ]]
    """
    return x.astype(jnp.float32) * _inverse_length(x, axis)


def direction_from(features: jax.Array, centre: jax.Array) -> jax.Array:
    """Unit directions from centres to rows, both [..., D]; 0 for a row within 1e-6 of its centre.

    >>> direction_from(jnp.array([[3., 1.]]), jnp.array([[1., 1.]])).tolist()
    [[1.0, 0.0]]
    """
    rest = features - centre
    # rounding has no direction: scaled to unit length it would look like a person
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
      mode: "uniform" or "consistency", static.
      temperature: tau > 0.

    Returns:
      prototypes [N, D] and reliability [N], float32; both 0 without any part.

    Raises:
      ValueError: unknown mode.

    Choice: consistency, as an occluded part disagrees with the others.

    >>> parts = jnp.array([[[1., 0.], [0., 2.], [9., 9.]]])
    >>> prototypes, reliability = jax.jit(aggregate_parts)(parts, jnp.array([[True, True, False]]))
    >>> print(prototypes.round(2), reliability.round(2))
    [[0.71 0.71]] [0.71]
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
      centre: [D] of its view (`centring.view_centres`), or zeros.

    Returns:
      [] float32; NaN where a half has no part.

    Choice: known without labels to be of one person in one view.

    >>> parts = jnp.array([[1., 0.], [.8, .6]])
    >>> [f"{halves_similarity(parts, jnp.array([True, late]), jnp.zeros(2)):.2f}" for late in (True, False)]
    ['0.80', 'nan']
    """
    scale = jnp.where(part_mask, _inverse_length(parts, -1)[:, 0], 0.0)
    later = jnp.arange(parts.shape[0]) >= parts.shape[0] // 2
    # as a product: unit parts of all tracklets would be one more array of their size
    halves = jnp.matmul(jnp.stack([~later, later]) * scale, parts, precision=jax.lax.Precision.HIGHEST)
    first, second = direction_from(unit(halves), centre)
    both = jnp.any(part_mask & ~later) & jnp.any(part_mask & later)
    return jnp.where(both, jnp.sum(first * second), jnp.nan)


def _inverse_length(x: jax.Array, axis: int) -> jax.Array:
    """1 / ||x|| with the axis kept, 1 for vectors shorter than 1e-12."""
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return jax.lax.rsqrt(jnp.where(square > 1e-24, square, 1.0))  # inside: sqrt has no slope at 0
