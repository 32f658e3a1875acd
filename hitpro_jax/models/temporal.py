"""From frame features to one tracklet feature; padded frames never count.

An aggregator is a Flax module that maps frame features x [B, T, D] float32 and mask [B, T] bool to [B, D] float32.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
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


class RelativeBias(nn.Module):
    """A learned number for every head and distance in time, added to attention's scores; zero at the start.

    b_h(q, k) = table[h, clip(k - q, -R, R) + R],   R = `reach`

    Attributes:
      heads: of the attention.
      reach: distances from there on share an entry, so that clips of any length pass.

    Source: Shaw et al. (NAACL 2018), in the scalar form of T5.
    """

    heads: int
    reach: int = 8

    @nn.compact
    def __call__(self, frames: int) -> jax.Array:
        """The bias [heads, T, T] of clips of T frames, queries first."""
        table = self.param("bias", nn.initializers.zeros, (self.heads, 2 * self.reach + 1), jnp.float32)
        time = jnp.arange(frames)
        return table[:, jnp.clip(time - time[:, None], -self.reach, self.reach) + self.reach]


class AttentionPool(nn.Module):
    """One pre-norm self-attention layer over the frames, then attention pooling.

    Attributes:
      heads: of the attention; they divide D.
      relative: the attention knows how far apart frames are, see `RelativeBias`.
    """

    heads: int = 4
    relative: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The pooled features."""
        batch, frames, dim = x.shape
        y = nn.LayerNorm(name="norm")(x)
        qkv = nn.Dense(3 * dim, use_bias=False, name="qkv")(y).reshape(batch, frames, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(qkv, 2, 0)
        score = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(key.shape[-1])
        if self.relative:
            score = score + RelativeBias(self.heads, name="distance")(frames)
        attention = _masked_softmax(score, mask[:, None, None, :])
        y = jnp.einsum("bhqk,bkhd->bqhd", attention, value).reshape(batch, frames, dim)
        # zero, as the scores below: at step 0 the pool equals the mean, and a pretrained space stays as it is
        x = x + nn.Dense(dim, kernel_init=nn.initializers.zeros, name="out")(y)
        score = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="score")(x)[..., 0]
        return jnp.einsum("bt,btd->bd", _masked_softmax(score, mask), x)


class Motion(nn.Module):
    """A pool behind a residual convolution over time, which sees each frame beside its neighbours.

    y_l = down(norm(f_l));   f_l + out(relu(sum_{o in -1, 0, 1} w_o * y_{l+o}))

    Attributes:
      pool: any other module of this file.
      reduction: y has D / reduction channels, each with three weights w of its own.

    Choice: where there is no neighbour, or one that does not count, the frame itself stands, so that the ends of a clip
    are no motion.
    Choice: `out` starts at zero, so that at step 0 the features are those of the pool alone.
    Choice: the rectifier. Sums over time of a linear convolution know of the order of frames at the clip's ends alone.
    Source: the bottleneck with a depthwise convolution over time is ST-Adapter's (NeurIPS 2022).
    """

    pool: nn.Module
    reduction: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """The pooled features."""
        dim = x.shape[-1]
        y = nn.Dense(max(dim // self.reduction, 1), name="down")(nn.LayerNorm(name="norm")(x))
        before, after = (_neighbour(y, mask, step) for step in (-1, 1))
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, y.shape[-1]), jnp.float32)
        y = nn.relu(kernel[0] * before + kernel[1] * y + kernel[2] * after)
        return self.pool(x + nn.Dense(dim, kernel_init=nn.initializers.zeros, name="out")(y), mask)


def _neighbour(x: jax.Array, mask: jax.Array, step: int) -> jax.Array:
    """The frames [B, T, D] `step` = -1 or 1 further on; a frame itself where there is no valid one."""
    place = np.clip(np.arange(x.shape[1]) + step, 0, x.shape[1] - 1)
    return jnp.where(mask[:, place][..., None], x[:, place], x)


def _masked_softmax(score: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax over the last axis in float32; rows without a valid entry give zeros, not NaN."""
    # not -inf: a row of them alone would be NaN, in the gradient too
    score = jnp.where(mask, score.astype(jnp.float32), -1e30)
    return jnp.where(mask, jax.nn.softmax(score, axis=-1), 0.0)


AGGREGATORS: dict[str, Callable[[], nn.Module]] = {"mean": MeanPool, "gem": GeMPool, "attention": AttentionPool}


def make_aggregator(name: str, order: str) -> nn.Module:
    """Makes the aggregator that a config asks for.

    Args:
      name: key of `AGGREGATORS`.
      order: `none`, the order of frames is not seen; `relative`, attention knows distances; `motion`, every frame is
        seen beside its neighbours.

    Raises:
      ValueError: the aggregator is unknown, or has no distances to know.
    """
    if name not in AGGREGATORS:
        raise ValueError(f"encoder.aggregator is {name!r}: choose one of {', '.join(AGGREGATORS)}")
    if order == "relative":
        if name != "attention":
            raise ValueError(f"encoder.order=relative needs encoder.aggregator=attention, not {name}: or choose motion")
        return AttentionPool(relative=True)
    pool = AGGREGATORS[name]()
    return Motion(pool) if order == "motion" else pool
