"""Residual frame encoders with one stem per modality: a small one for CPUs and ResNet-50.

Two stems, shared residual stages and a last stride of 1 are the common form of visible-infrared re-ID (AGW, ADCA, PGM).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from hitpro_jax.models.layers import STEM_IR, STEM_RGB, Conv, through_stems
from hitpro_jax.models.norms import backbone_norm, groups_of
from hitpro_jax.models.remat import remat
from hitpro_jax.types import INTERLEAVED, Layout


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut.

    Attributes:
      width: channels of the output.
      stride: of the first convolution.
      conv: makes a convolution of (features, kernel, stride).
      norm: makes a BatchNorm.

    Source: He et al. 2016.
    """

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H / stride, W / stride, width]."""
        y = nn.relu(self.norm(name="bn1")(self.conv(self.width, 3, self.stride, name="conv1")(x)))
        y = self.norm(name="bn2")(self.conv(self.width, 3, name="conv2")(y))
        if x.shape != y.shape:
            x = self.norm(name="bn_short")(self.conv(self.width, 1, self.stride, name="conv_short")(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with four times the width, and a shortcut.

    Attributes:
      width: channels of the first two convolutions.
      stride: of the 3 x 3 convolution, as in torchvision's ResNet-50.
      conv: makes a convolution of (features, kernel, stride).
      norm: makes a BatchNorm.
    """

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] to [N, H / stride, W / stride, 4 * width]."""
        y = nn.relu(self.norm(name="bn1")(self.conv(self.width, 1, name="conv1")(x)))
        y = nn.relu(self.norm(name="bn2")(self.conv(self.width, 3, self.stride, name="conv2")(y)))
        y = self.norm(name="bn3")(self.conv(4 * self.width, 1, name="conv3")(y))
        if x.shape != y.shape:
            x = self.norm(name="bn_short")(self.conv(4 * self.width, 1, self.stride, name="conv_short")(x))
        return nn.relu(x + y)


class Stem(nn.Module):
    """conv-bn-relu(-maxpool) of one modality; the only weights that the modalities do not share.

    Attributes:
      width: channels of the output.
      kernel: size of the convolution.
      pool: whether a max-pool halves the map again.
      conv: makes a convolution of (features, kernel, stride).
      norm: makes a BatchNorm.
    """

    width: int
    kernel: int
    pool: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, 3] to [N, H / 2, W / 2, width], or a quarter of the size with `pool`."""
        x = nn.relu(self.norm(name="bn1")(self.conv(self.width, self.kernel, 2, name="conv1")(x)))
        # torch's padding: SAME would put all of it behind
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.pool else x


class ResNet(nn.Module):
    """Frames to GeM-pooled maps of the last stage; a `layers.Backbone`.

    Attributes:
      block: BasicBlock or Bottleneck.
      depths: blocks of each stage.
      widths: width of each stage's blocks.
      strides: of each stage's first block.
      stem_width: channels behind the stem.
      stem_kernel: size of the stem's convolution.
      stem_pool: whether the stem ends with a max-pool.
      as_product: convolutions as matrix products, see `layers.Conv`.
      remat: recompute every block's activations in the backward pass.
      norm_group: clips over which BatchNorm takes its statistics, see `norms.groups_of`.
      dtype: of the products, and of what passes from layer to layer, the residual stream too.
    """

    block: type[nn.Module]
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    stem_width: int
    stem_kernel: int
    stem_pool: bool
    as_product: bool = False
    remat: bool = False
    norm_group: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, layout: Layout, length: int, train: bool) -> jax.Array:
        """Frame features, see `layers.Backbone`."""
        starts = self.is_initializing()
        grouped = train and not starts
        groups = groups_of(len(x) // length, self.norm_group, layout == INTERLEAVED) if grouped else 1
        conv = partial(Conv, as_product=self.as_product, dtype=self.dtype)
        norm = backbone_norm(train, self.dtype, groups)
        stem = partial(Stem, self.stem_width, self.stem_kernel, self.stem_pool, conv, norm)
        x = through_stems(stem(name=STEM_RGB), stem(name=STEM_IR), x, layout, length, starts)
        block = remat(self.block) if self.remat else self.block
        for stage, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True), 1):
            for index in range(depth):
                x = block(width, stride if index == 0 else 1, conv, norm, name=f"layer{stage}_{index}")(x)
        return gem(x)


def gem(maps: jax.Array, p: float = 3.0) -> jax.Array:
    """GeM pooling over the positions of a map, in float32.

    y = (mean_positions max(x, 1e-6)^p)^(1/p)

    Args:
      maps: [N, h, w, C].
      p: exponent; fixed.

    Returns:
      [N, C] float32.

    Source: AGW.
    """
    # float32, as bfloat16 has too few digits for cubes; 1e-6, as the root's slope at 0 is infinite
    maps = jnp.maximum(maps.astype(jnp.float32), 1e-6)
    return jnp.mean(maps**p, axis=(1, 2)) ** (1.0 / p)


resnet_small = partial(
    ResNet,
    block=BasicBlock,
    depths=(1, 1, 1, 1),
    widths=(32, 64, 128, 192),
    strides=(2, 2, 2, 1),
    stem_width=32,
    stem_kernel=3,
    stem_pool=False,
)
resnet50 = partial(
    ResNet,
    block=Bottleneck,
    depths=(3, 4, 6, 3),
    widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 1),  # torchvision's last stride is 2
    stem_width=64,
    stem_kernel=7,
    stem_pool=True,
)
