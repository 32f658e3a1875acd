"""ICTP, Intra-Camera Tracklet Prototyping: one prototype a tracklet, no clustering, no hard label (paper)."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.segments import segment_mean


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Unit vectors: unit(x) = x / ||x||, in float32; a zero vector stays zero with a finite gradient.

    Args:
      x: [..., D], any real dtype.
      axis: the axis of the vectors, static.

    Returns:
      [..., D] float32. Vectors shorter than 1e-12 are returned unscaled.

    >>> print(unit(jnp.array([[3., 4.], [0., 0.]])))
    [[0.6 0.8]
     [0.  0. ]]
    """
    return x.astype(jnp.float32) * _inverse_length(x, axis)


def apart(features: jax.Array, centre: jax.Array) -> jax.Array:
    """Unit directions from centres to rows, both [..., D].

    A row within 1e-6 of its centre becomes 0, as rounding has no direction.

    >>> apart(jnp.array([[3., 1.]]), jnp.array([[1., 1.]])).tolist()
    [[1.0, 0.0]]
    """
    rest = features - centre
    return unit(jnp.where(jnp.sum(rest * rest, axis=-1, keepdims=True) > 1e-12, rest, 0.0))


def aggregate_parts(
    parts: jax.Array, part_mask: jax.Array, *, mode: str = "uniform", temperature: float = 0.1
) -> tuple[jax.Array, jax.Array]:
    """Prototype and reliability of each tracklet from the features of its S temporal parts.

    p_i = unit(sum_s a_is u_is);  r_i = mean_s <u_is, unit(mean_s u_is)>.
    `uniform`: a_is = 1 / (number of parts) (paper: prototypes aggregate temporal sub-tracklets).
    `consistency`: a_is = softmax_s(<u_is, unit(mean_s u_is)> / temperature).
    Choice: `consistency`, because an occluded or contaminated part disagrees with the others and should weigh
    less; the paper does not say how parts are weighed. Choice: r_i, as nothing else tells a clean tracklet.

    Args:
      parts: [N, S, D] part features u_is, any real dtype; scaled to unit length here.
      part_mask: [N, S] bool, False where a short tracklet has no such part.
      mode: "uniform" or "consistency", static.
      temperature: of the consistency softmax, > 0.

    Returns:
      prototypes [N, D] float32 unit rows and reliability [N] float32 in [-1, 1]; both 0 without any part.

    Raises:
      ValueError: unknown mode.

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


def halves_alike(parts: jax.Array, part_mask: jax.Array, centre: jax.Array) -> jax.Array:
    """How alike the first and the second half of a tracklet are.

    <h_1, h_2>, h the direction from the centre to the prototype of the half's sub-tracklets.
    Choice: the one likeness that is known without labels to be that of one person in one view; see
    `thresholds.part_threshold`.

    Args:
      parts: [S, D] part features of one tracklet, any real dtype.
      part_mask: [S] bool.
      centre: [D] what the tracklet's view shares (`centring.view_centres`), or zeros.

    Returns:
      [] float32; NaN where a half has no part, as for S = 1.

    >>> parts = jnp.array([[1., 0.], [.8, .6]])
    >>> [f"{halves_alike(parts, jnp.array([True, there]), jnp.zeros(2)):.2f}" for there in (True, False)]
    ['0.80', 'nan']
    """
    scale = jnp.where(part_mask, _inverse_length(parts, -1)[:, 0], 0.0)
    later = jnp.arange(parts.shape[0]) >= parts.shape[0] // 2
    # as a product: unit parts of all tracklets would be one more array of their size
    halves = jnp.matmul(jnp.stack([~later, later]) * scale, parts, precision=jax.lax.Precision.HIGHEST)
    first, second = apart(unit(halves), centre)
    both = jnp.any(part_mask & ~later) & jnp.any(part_mask & later)
    return jnp.where(both, jnp.sum(first * second), jnp.nan)


def _inverse_length(x: jax.Array, axis: int) -> jax.Array:
    """1 / ||x|| with the axis kept, 1 for vectors shorter than 1e-12."""
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return jax.lax.rsqrt(jnp.where(square > 1e-24, square, 1.0))  # inside: sqrt has no slope at 0
