"""Residual frame encoders with one stem per modality: a small one for CPUs and ResNet-50.

Two stems, shared residual stages and a last stride of 1 are the common form of visible-infrared re-ID (AGW, ADCA, PGM).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hitpro_jax.models.norms import backbone_norm, groups_of
from hitpro_jax.models.remat import remat
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY

Dtype = Any


class Conv(nn.Module):
    """A bias-free, symmetrically padded convolution, [B, H, W, C] to [B, H/s, W/s, features].

    as_product: write it as shifted slices and one matrix product. Choice: XLA's CPU backend is slow in the backward
      pass of convolutions on small maps; the product gives the same numbers (to rounding) several times faster. On
      GPUs and TPUs leave it off.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    as_product: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, s = self.kernel, self.stride
        shape = (k, k, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        pad = (k - 1) // 2
        if not self.as_product:
            return jax.lax.conv_general_dilated(
                x, kernel, (s, s), ((pad, pad), (pad, pad)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        height, width = -(-x.shape[1] // s), -(-x.shape[2] // s)
        x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        taps = [
            x[:, i : i + s * (height - 1) + 1 : s, j : j + s * (width - 1) + 1 : s] for i in range(k) for j in range(k)
        ]
        return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, self.features)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016)."""

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(self.norm(name="bn1")(self.conv(self.width, 3, self.stride, name="conv1")(x)))
        y = self.norm(name="bn2")(self.conv(self.width, 3, name="conv2")(y))
        if x.shape != y.shape:
            x = self.norm(name="bn_short")(self.conv(self.width, 1, self.stride, name="conv_short")(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (which strides), 1 x 1 with four times the width: torchvision's form of ResNet-50."""

    width: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(self.norm(name="bn1")(self.conv(self.width, 1, name="conv1")(x)))
        y = nn.relu(self.norm(name="bn2")(self.conv(self.width, 3, self.stride, name="conv2")(y)))
        y = self.norm(name="bn3")(self.conv(4 * self.width, 1, name="conv3")(y))
        if x.shape != y.shape:
            x = self.norm(name="bn_short")(self.conv(4 * self.width, 1, self.stride, name="conv_short")(x))
        return nn.relu(x + y)


class Stem(nn.Module):
    """conv-bn-relu(-maxpool) of one modality; the only weights that the modalities do not share."""

    width: int
    kernel: int
    pool: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(self.norm(name="bn1")(self.conv(self.width, self.kernel, 2, name="conv1")(x)))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.pool else x


class ResNet(nn.Module):
    """Frames [B * T, H, W, 3] float, clip by clip, to frame features [B * T, D] float32, GeM-pooled maps.

    `layout` tells (statically) which clips are which modality: all `rgb`, all `ir`, or `interleaved` (rgb, ir, ..);
    `length` is T. Interleaving keeps every stem's BatchNorm statistics pure, and splitting it costs no communication
    when the batch is sharded over devices, since pairs stay together. norm_group: see `norms.groups_of`.
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
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, layout: str, length: int, train: bool) -> jax.Array:
        starts = self.is_initializing()
        grouped = train and not starts
        groups = groups_of(len(x) // length, self.norm_group, layout == INTERLEAVED) if grouped else 1
        conv = partial(Conv, as_product=self.as_product, dtype=self.dtype)
        norm = backbone_norm(train, self.dtype, groups)
        stem = partial(Stem, self.stem_width, self.stem_kernel, self.stem_pool, conv, norm)
        x = through_stems(stem(name="stem_rgb"), stem(name="stem_ir"), x, layout, length, starts)
        block = remat(self.block) if self.remat else self.block
        for stage, (depth, width, stride) in enumerate(zip(self.depths, self.widths, self.strides, strict=True), 1):
            for index in range(depth):
                x = block(width, stride if index == 0 else 1, conv, norm, name=f"layer{stage}_{index}")(x)
        return gem(x)


def gem(maps: jax.Array, p: float = 3.0) -> jax.Array:
    """GeM pooling of [B, h, w, C] with a fixed p = 3 in float32 (from AGW)."""
    maps = jnp.maximum(maps.astype(jnp.float32), 1e-6)
    return jnp.mean(maps**p, axis=(1, 2)) ** (1.0 / p)


def through_stems(
    rgb: nn.Module, ir: nn.Module, x: jax.Array, layout: str, length: int, initializing: bool
) -> jax.Array:
    """Sends every clip's frames [B * T, ..] through the stem of its modality, see ResNet."""
    if initializing:  # both stems must exist whatever the first batch holds
        return rgb(x) + ir(x)
    if layout == RGB_ONLY:
        return rgb(x)
    if layout == IR_ONLY:
        return ir(x)
    pairs = x.reshape(-1, 2, length, *x.shape[1:])
    split = [stem(pairs[:, i].reshape(-1, *x.shape[1:])) for i, stem in enumerate((rgb, ir))]
    split = [y.reshape(-1, length, *y.shape[1:]) for y in split]
    return jnp.stack(split, axis=1).reshape(-1, *split[0].shape[2:])


resnet_small = partial(ResNet, BasicBlock, (1, 1, 1, 1), (32, 64, 128, 192), (2, 2, 2, 1), 32, 3, False)
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), (1, 2, 2, 1), 64, 7, True)
