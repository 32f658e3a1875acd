"""TFE, the Temporal-aware Feature Encoder: frames first, then the tracklet (paper).

f_l = backbone(x_l), t = Agg(f_1 .. f_T), z = unit(BNNeck(t)).
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hitpro_jax.models import resnet
from hitpro_jax.models.temporal import AGGREGATORS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which every public backbone expects
BACKBONES = {"resnet_small": resnet.resnet_small, "resnet50": resnet.resnet50}


class Encoded(NamedTuple):
    """tracklet [B, D] and frame [B, T, D], float32 unit vectors in one space; rows of padded frames mean nothing."""

    tracklet: jax.Array
    frame: jax.Array


class Encoder(nn.Module):
    """Clips to unit features.

    frames: uint8 [B, T, H, W, 3]; mask: bool [B, T]; layout: `rgb`, `ir` or `interleaved` (static, see ResNet).
    Choice: frame features pass the same BNNeck with its running statistics, so that they live in the prototypes' space
    while the neck's statistics are those of tracklet features alone.
    """

    backbone: nn.Module
    aggregator: nn.Module

    @nn.compact
    def __call__(self, frames: jax.Array, mask: jax.Array, layout: str, train: bool) -> Encoded:
        batch, length = frames.shape[:2]
        pixels = (frames.astype(jnp.float32) / 255.0 - jnp.array(MEAN)) / jnp.array(STD)
        # a clip's frames share its modality: fold time behind the clip so that layout can split pairs of clips
        maps = self.backbone(pixels.reshape(batch * length, *frames.shape[2:]), layout, length, train)
        frame = _gem(maps).reshape(batch, length, -1)
        tracklet = self.aggregator(frame, mask)
        neck = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_bias=False, name="neck")
        tracklet = neck(tracklet, use_running_average=not train)
        return Encoded(_unit(tracklet), _unit(neck(frame, use_running_average=True)))


def _gem(maps: jax.Array, p: float = 3.0) -> jax.Array:
    """GeM pooling of [B, h, w, C] with a fixed p = 3 in float32 (from AGW)."""
    maps = jnp.maximum(maps.astype(jnp.float32), 1e-6)
    return jnp.mean(maps ** p, axis=(1, 2)) ** (1.0 / p)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def make_encoder(backbone: str, aggregator: str, dtype: str = "float32", **options: Any) -> Encoder:
    """Builds an encoder by name.

    backbone: `resnet_small` (0.9 M parameters, D=192, for CPUs) or `resnet50` (D=2048).
    aggregator: `attention`, `mean` or `gem`. options: `as_product`, `remat` of the backbone.
    Raises:
      ValueError: an unknown name.
    """
    for name, table in ((backbone, BACKBONES), (aggregator, AGGREGATORS)):
        if name not in table:
            raise ValueError(f"unknown part {name!r} of the encoder; choose one of {sorted(table)}.")
    return Encoder(BACKBONES[backbone](dtype=jnp.dtype(dtype), **options), AGGREGATORS[aggregator]())


def init_variables(encoder: Encoder, image_size: tuple[int, int], seed: int) -> dict:
    """Random parameters and BatchNorm statistics as NumPy arrays, a pure function of the seed.

    Choice: only shapes come from Flax (`jax.eval_shape`); NumPy fills them, because compiling Flax's own initialisers
    takes up to a minute on CPUs. Kernels: He normal over the fan-in; zero where a layer must start as the identity.
    """
    frames = jax.ShapeDtypeStruct((2, 2, *image_size, 3), jnp.uint8)
    mask = jax.ShapeDtypeStruct((2, 2), bool)
    init = partial(encoder.init, layout=resnet.INTERLEAVED, train=True)
    shapes = jax.eval_shape(init, jax.random.key(0), frames, mask)
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        names = [key.key for key in path]
        if names[-1] == "kernel" and names[-2] not in ("out", "score"):
            scale = math.sqrt(2.0 / math.prod(leaf.shape[:-1]))
            return (rng.standard_normal(leaf.shape) * scale).astype(leaf.dtype)
        constant = {"scale": 1.0, "var": 1.0, "p": 3.0}.get(names[-1], 0.0)
        return np.full(leaf.shape, constant, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)
