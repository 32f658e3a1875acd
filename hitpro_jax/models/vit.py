"""ViT-B/16 with one patch embedding per modality; the blocks are shared.

The counterpart of the two-stem ResNet: the patch embedding takes the stem's part, and a frame's feature is the final
norm of the class token.

Source: Dosovitskiy et al. 2021; the feature as in TransReID and CLIP-ReID.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from hitpro_jax.models.layers import STEM_IR, STEM_RGB, Conv, through_stems
from hitpro_jax.models.norms import BatchNorm, backbone_norm, groups_of
from hitpro_jax.models.remat import remat
from hitpro_jax.types import INTERLEAVED, Layout


class Patches(nn.Module):
    """Pixels to patch tokens: a convolution whose stride is its size, as one matrix product on every device.

    Attributes:
      width: D, entries of a token.
      patch: height and width of a patch in pixels.
      dtype: of the product.
    """

    width: int
    patch: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, h * w, D], row by row.

        Raises:
          ValueError: H or W is no multiple of the patch.
        """
        n, height, width, channels = x.shape
        p = self.patch
        if height % p or width % p:
            raise ValueError(
                f"pictures of {height} x {width} do not fall into patches of {p} x {p}: choose a "
                "data.image_size that does"
            )
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (p, p, channels, self.width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32)
        x = x.astype(self.dtype).reshape(n, height // p, p, width // p, p, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, p * p * channels)
        return x @ kernel.astype(self.dtype).reshape(-1, self.width) + bias


class InstanceBatchNorm(nn.Module):
    """IBN-a: the first half of the channels is normalised per picture, the second half over the batch.

    Attributes:
      norm: makes a BatchNorm.

    Source: Pan et al. 2018.
    """

    norm: partial[BatchNorm]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to the same shape."""
        first, second = jnp.split(x, 2, axis=-1)
        alone = nn.InstanceNorm(epsilon=1e-5, dtype=self.norm.keywords["dtype"], name="instance")
        return jnp.concatenate([alone(first), self.norm(name="batch")(second)], axis=-1)


class ConvPatches(nn.Module):
    """Three convolutions at half the resolution before the patches: the "ICS" stem of TransReID-SSL's LUPerson ViTs.

    Attributes:
      width: D, entries of a token.
      patch: height and width of a patch in pixels; even.
      conv: makes a convolution of (features, kernel, stride).
      norm: makes a BatchNorm.
      hidden: channels of the convolutions.
    """

    width: int
    patch: int
    conv: partial[Conv]
    norm: partial[BatchNorm]
    hidden: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, 3] to [N, h * w, D], row by row."""
        x = nn.relu(InstanceBatchNorm(self.norm, name="norm1")(self.conv(self.hidden, 7, 2, name="conv1")(x)))
        x = nn.relu(InstanceBatchNorm(self.norm, name="norm2")(self.conv(self.hidden, 3, name="conv2")(x)))
        x = nn.relu(self.norm(name="norm3")(self.conv(self.hidden, 3, name="conv3")(x)))
        return Patches(self.width, self.patch // 2, self.norm.keywords["dtype"], name="patches")(x)


class Block(nn.Module):
    """Pre-norm self-attention and MLP.

    Attributes:
      heads: of the attention.
      epsilon: of LayerNorm.
      quick_gelu: CLIP's approximate GELU.
      dtype: of the products alone, as with torch's autocast; LayerNorm, softmax and residual stream are float32.
    """

    heads: int
    epsilon: float
    quick_gelu: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, tokens, D] float32 to the same."""
        dense = partial(nn.Dense, dtype=self.dtype)
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=jnp.float32)
        n, tokens, dim = x.shape
        qkv = dense(3 * dim, name="qkv")(norm(name="norm1")(x)).reshape(n, tokens, 3, self.heads, -1)
        y = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0)).reshape(n, tokens, dim)
        x = x + dense(dim, name="proj")(y)
        y = dense(4 * dim, name="fc1")(norm(name="norm2")(x))
        # 1.702 is CLIP's constant; torch's GELU is the exact one, JAX's default is not
        y = y * jax.nn.sigmoid(1.702 * y) if self.quick_gelu else jax.nn.gelu(y, approximate=False)
        return x + dense(dim, name="fc2")(y)


class ViT(nn.Module):
    """Frames to their class tokens; a `layers.Backbone`, of which H and W are multiples of the patch.

    Position embeddings belong to one image size; `pretrained.convert` resizes public ones.

    Attributes:
      width: D, entries of a token and of a feature.
      depth: number of blocks.
      heads: of each block's attention.
      patch: height and width of a patch in pixels.
      epsilon: of LayerNorm.
      ln_pre: CLIP's norm before the blocks.
      quick_gelu: CLIP's approximate GELU.
      conv_stem: the ICS stem instead of plain patches.
      as_product: the ICS stem's convolutions as matrix products; the plain stem has none.
      remat: recompute every block's activations in the backward pass.
      norm_group: clips over which the ICS stem's BatchNorm takes its statistics; the plain stem has none.
      dtype: of the products; the residual stream is float32.

    Choice: CLIP's final projection is left out, as CLIP-ReID keeps the features before it. They are wider (768 against
    512), and no text is compared with them here.
    """

    width: int
    depth: int
    heads: int
    patch: int = 16
    epsilon: float = 1e-6
    ln_pre: bool = False
    quick_gelu: bool = False
    conv_stem: bool = False
    as_product: bool = False
    remat: bool = False
    norm_group: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, layout: Layout, length: int, train: bool) -> jax.Array:
        """Frame features, see `layers.Backbone`."""
        starts = self.is_initializing()
        stem = self._stem(len(x) // length, layout, train and not starts, train)
        x = through_stems(stem(name=STEM_RGB), stem(name=STEM_IR), x, layout, length, starts)
        token = self.param("token", nn.initializers.normal(0.02), (self.width,), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x.astype(jnp.float32)], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:], jnp.float32)
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=jnp.float32)
        if self.ln_pre:
            x = norm(name="norm_pre")(x)
        block = remat(Block) if self.remat else Block
        for index in range(self.depth):
            x = block(self.heads, self.epsilon, self.quick_gelu, self.dtype, name=f"layer{index}")(x)
        return norm(name="norm")(x[:, 0])  # the class token alone

    def _stem(self, clips: int, layout: Layout, grouped: bool, train: bool) -> partial:
        if not self.conv_stem:
            return partial(Patches, self.width, self.patch, self.dtype)
        groups = groups_of(clips, self.norm_group, layout == INTERLEAVED) if grouped else 1
        conv = partial(Conv, as_product=self.as_product, dtype=self.dtype)
        return partial(ConvPatches, self.width, self.patch, conv, backbone_norm(train, self.dtype, groups))


vit_b16 = partial(ViT, width=768, depth=12, heads=12)
vit_b16_clip = partial(vit_b16, epsilon=1e-5, ln_pre=True, quick_gelu=True)
vit_b16_ics = partial(vit_b16, conv_stem=True)
