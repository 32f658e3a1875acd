"""ViT-B/16 with one patch embedding per modality; the blocks are shared (Dosovitskiy et al. 2021).

The counterpart of the two-stem ResNet: the patch embedding takes the stem's part, and a frame's feature is the final
norm of the class token (as in TransReID and CLIP-ReID).
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from hitpro_jax.models.norms import backbone_norm, groups_of
from hitpro_jax.models.remat import remat
from hitpro_jax.models.resnet import Conv, Dtype, through_stems
from hitpro_jax.types import INTERLEAVED


class Patches(nn.Module):
    """Pixels [N, H, W, C] to patch tokens [N, h * w, width], row by row: a convolution whose stride is its size.

    Written as one matrix product on every device.
    """

    width: int
    patch: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
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
    """IBN-a: the first half of the channels per picture, the second half over the batch (Pan et al. 2018)."""

    norm: partial

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = jnp.split(x, 2, axis=-1)
        alone = nn.InstanceNorm(epsilon=1e-5, dtype=self.norm.keywords["dtype"], name="instance")
        return jnp.concatenate([alone(first), self.norm(name="batch")(second)], axis=-1)


class ConvPatches(nn.Module):
    """Three convolutions at half the resolution before the patches: the "ICS" stem of TransReID-SSL's LUPerson ViTs."""

    width: int
    patch: int
    conv: partial
    norm: partial
    hidden: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(InstanceBatchNorm(self.norm, name="norm1")(self.conv(self.hidden, 7, 2, name="conv1")(x)))
        x = nn.relu(InstanceBatchNorm(self.norm, name="norm2")(self.conv(self.hidden, 3, name="conv2")(x)))
        x = nn.relu(self.norm(name="norm3")(self.conv(self.hidden, 3, name="conv3")(x)))
        return Patches(self.width, self.patch // 2, self.norm.keywords["dtype"], name="patches")(x)


class Block(nn.Module):
    """Pre-norm self-attention and MLP on [N, tokens, D] float32.

    The residual stream, LayerNorm and softmax are float32; only the products are in `dtype` (as torch's autocast).
    """

    heads: int
    epsilon: float
    quick_gelu: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = partial(nn.Dense, dtype=self.dtype)
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=jnp.float32)
        n, tokens, dim = x.shape
        qkv = dense(3 * dim, name="qkv")(norm(name="norm1")(x)).reshape(n, tokens, 3, self.heads, -1)
        y = jax.nn.dot_product_attention(*jnp.moveaxis(qkv, 2, 0)).reshape(n, tokens, dim)
        x = x + dense(dim, name="proj")(y)
        y = dense(4 * dim, name="fc1")(norm(name="norm2")(x))
        y = y * jax.nn.sigmoid(1.702 * y) if self.quick_gelu else jax.nn.gelu(y, approximate=False)
        return x + dense(dim, name="fc2")(y)


class ViT(nn.Module):
    """Frames [B * T, H, W, 3] float, clip by clip, to frame features [B * T, width] float32: the class token.

    layout, length: as in ResNet. H and W are multiples of the patch; positions belong to one image size
    (`models/convert.py` resizes pretrained ones).
    ln_pre, quick_gelu: CLIP's norm before the blocks and its approximate GELU. Choice: CLIP's final projection is left
    out, and features are those before it, as CLIP-ReID keeps them beside the projected ones: they are wider (768
    against 512) and no text is compared with them here.
    conv_stem: the ICS stem, which has BatchNorm (norm_group: see `norms.groups_of`) and convolutions (`as_product`);
    the plain stem has neither, so that both switches change nothing there.
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
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, layout: str, length: int, train: bool) -> jax.Array:
        starts = self.is_initializing()
        stem = self._stem(len(x) // length, layout, train and not starts, train)
        x = through_stems(stem(name="stem_rgb"), stem(name="stem_ir"), x, layout, length, starts)
        token = self.param("token", nn.initializers.normal(0.02), (self.width,), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x.astype(jnp.float32)], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:], jnp.float32)
        norm = partial(nn.LayerNorm, epsilon=self.epsilon, dtype=jnp.float32)
        if self.ln_pre:
            x = norm(name="norm_pre")(x)
        block = remat(Block) if self.remat else Block
        for index in range(self.depth):
            x = block(self.heads, self.epsilon, self.quick_gelu, self.dtype, name=f"layer{index}")(x)
        return norm(name="norm")(x[:, 0])

    def _stem(self, clips: int, layout: str, grouped: bool, train: bool) -> partial:
        if not self.conv_stem:
            return partial(Patches, self.width, self.patch, self.dtype)
        groups = groups_of(clips, self.norm_group, layout == INTERLEAVED) if grouped else 1
        conv = partial(Conv, as_product=self.as_product, dtype=self.dtype)
        return partial(ConvPatches, self.width, self.patch, conv, backbone_norm(train, self.dtype, groups))


vit_b16 = partial(ViT, 768, 12, 12)
vit_b16_clip = partial(vit_b16, epsilon=1e-5, ln_pre=True, quick_gelu=True)
vit_b16_ics = partial(vit_b16, conv_stem=True)
