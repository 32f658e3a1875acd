"""From frame features to one tracklet feature; padded frames never count.

An aggregator is a Flax module that maps frame features x [B, T, D] float32 and mask [B, T] bool to [B, D] float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over a clip's valid frames.

    Args:
      x: [B, T, D].
      mask: [B, T] bool.

    Returns:
      [B, D]; zero where a clip has no valid frame.
    """
    weight = mask.astype(jnp.float32)[..., None]
    return (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)


class MeanPool(nn.Module):
    """The mean, as the image methods adapted to video do.

    t = mean_l f_l

    Source: AuxNet, X-ReID.
    """

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The pooled features."""
        return masked_mean(x, mask)


class GeMPool(nn.Module):
    """The generalised mean with a learned p that starts at 3.

    t = (mean_l max(f_l, 1e-6)^p)^(1/p)

    Source: SAADG.
    """

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The pooled features."""
        p = self.param("p", nn.initializers.constant(3.0), (), jnp.float32)
        mean = masked_mean(jnp.maximum(x, 1e-6) ** p, mask)  # a learned power needs positive numbers
        return jnp.maximum(mean, 1e-30) ** (1.0 / p)  # a clip without frames: the root's slope at 0 is infinite


class AttentionPool(nn.Module):
    """One pre-norm self-attention layer over the frames, then attention pooling.

    Attributes:
      heads: of the attention; they divide D.
    """

    heads: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The pooled features."""
        batch, frames, dim = x.shape
        y = nn.LayerNorm(name="norm")(x)
        qkv = nn.Dense(3 * dim, use_bias=False, name="qkv")(y).reshape(batch, frames, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(qkv, 2, 0)
        score = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(key.shape[-1])
        attention = _masked_softmax(score, mask[:, None, None, :])
        y = jnp.einsum("bhqk,bkhd->bqhd", attention, value).reshape(batch, frames, dim)
        # zero, as the scores below: at step 0 the pool equals the mean, and a pretrained space stays as it is
        x = x + nn.Dense(dim, kernel_init=nn.initializers.zeros, name="out")(y)
        score = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="score")(x)[..., 0]
        return jnp.einsum("bt,btd->bd", _masked_softmax(score, mask), x)


def _masked_softmax(score: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax over the last axis in float32; rows without a valid entry give zeros, not NaN."""
    # not -inf: a row of them alone would be NaN, in the gradient too
    score = jnp.where(mask, score.astype(jnp.float32), -1e30)
    return jnp.where(mask, jax.nn.softmax(score, axis=-1), 0.0)


AGGREGATORS: dict[str, Callable[[], nn.Module]] = {"mean": MeanPool, "gem": GeMPool, "attention": AttentionPool}
