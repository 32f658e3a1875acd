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
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square > 1e-24, square, 1.0))  # inside: sqrt has no slope at 0


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
    """How alike the first and the second half of each tracklet are.

    <h_1, h_2>, h the direction from the centre to the prototype of the half's sub-tracklets.
    Choice: the one likeness that is known without labels to be that of one person in one view; see
    `thresholds.part_threshold`.

    Args:
      parts: [N, S, D] part features, any real dtype.
      part_mask: [N, S] bool.
      centre: [N, D] what the tracklet's view shares (`centring.view_centres`), or zeros.

    Returns:
      [N] float32; NaN where a half has no part, everywhere for S = 1.

    >>> parts = jnp.array([[[1., 0.], [.8, .6]], [[1., 0.], [0., 1.]]])
    >>> print(halves_alike(parts, jnp.array([[True, True], [True, False]]), jnp.zeros((2, 2))).round(2))
    [0.8 nan]
    """
    half = parts.shape[1] // 2
    first, second = (aggregate_parts(parts[:, cut], part_mask[:, cut])[0] for cut in (slice(half), slice(half, None)))
    both = part_mask[:, :half].any(axis=1) & part_mask[:, half:].any(axis=1)
    return jnp.where(both, jnp.sum(apart(first, centre) * apart(second, centre), axis=1), jnp.nan)
