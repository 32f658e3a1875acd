"""TFE, the Temporal-aware Feature Encoder: frames first, then the tracklet (paper).

f_l = backbone(x_l), pooled, t = Agg(f_1 .. f_T), z = unit(BNNeck(t)).
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hitpro_jax.models import resnet, vit
from hitpro_jax.models.norms import BatchNorm, groups_of
from hitpro_jax.models.temporal import AGGREGATORS
from hitpro_jax.types import INTERLEAVED, Encoded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which every public backbone expects
BACKBONES = {
    "resnet_small": resnet.resnet_small,
    "resnet50": resnet.resnet50,
    "vit_b16": vit.vit_b16,
    "vit_b16_clip": vit.vit_b16_clip,
    "vit_b16_ics": vit.vit_b16_ics,
}


class Encoder(nn.Module):
    """Clips to unit features.

    frames: uint8 [B, T, H, W, 3]; mask: bool [B, T]; layout: `rgb`, `ir` or `interleaved` (static, see ResNet).
    backbone: maps ([B * T, H, W, 3], layout, T, train) to [B * T, D] float32, pooled.
    norm_group: clips over which the neck's BatchNorm takes its statistics, see `norms.groups_of`.
    Choice: frame features pass the same BNNeck with its running statistics, so that they live in the prototypes' space
    while the neck's statistics are those of tracklet features alone.
    """

    backbone: nn.Module
    aggregator: nn.Module
    norm_group: int = 0

    @nn.compact
    def __call__(self, frames: jax.Array, mask: jax.Array, layout: str, train: bool) -> Encoded:
        batch, length = frames.shape[:2]
        pixels = (frames.astype(jnp.float32) / 255.0 - jnp.array(MEAN)) / jnp.array(STD)
        # a clip's frames share its modality: fold time behind the clip so that layout can split pairs of clips
        frame = self.backbone(pixels.reshape(batch * length, *frames.shape[2:]), layout, length, train)
        frame = frame.reshape(batch, length, -1)
        tracklet = self.aggregator(frame, mask)
        grouped = train and not self.is_initializing()
        groups = groups_of(batch, self.norm_group, layout == INTERLEAVED) if grouped else 1
        neck = BatchNorm(momentum=0.9, epsilon=1e-5, use_bias=False, groups=groups, name="neck")
        tracklet = neck(tracklet, use_running_average=not train)
        return Encoded(_unit(tracklet), _unit(neck(frame, use_running_average=True)))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def make_encoder(
    backbone: str, aggregator: str, dtype: str = "float32", norm_group: int = 0, **options: Any
) -> Encoder:
    """Builds an encoder by name.

    backbone: `resnet_small` (0.9 M parameters, D = 192, for CPUs), `resnet50` (D = 2048), or ViT-B/16 (D = 768) as
      `vit_b16`, in CLIP's form as `vit_b16_clip`, with LUPerson's convolutional stem as `vit_b16_ics`.
    aggregator: `attention`, `mean` or `gem`.
    dtype: of the backbone's products, which accelerators sum in float32; parameters, the arithmetic of norms, softmax
      and pooling are float32. What passes from layer to layer of a ResNet (and of the ICS stem), its residual stream
      too, is rounded to dtype; a ViT's residual stream is float32.
    norm_group: clips over which BatchNorm takes its statistics, 0 for the whole batch.
    options: `as_product`, `remat` of the backbone.

    Raises:
      ValueError: an unknown name.
    """
    for name, table in ((backbone, BACKBONES), (aggregator, AGGREGATORS)):
        if name not in table:
            raise ValueError(f"unknown part {name!r} of the encoder; choose one of {sorted(table)}.")
    frames = BACKBONES[backbone](dtype=jnp.dtype(dtype), norm_group=norm_group, **options)
    return Encoder(frames, AGGREGATORS[aggregator](), norm_group)


def shapes_of(encoder: Encoder, image_size: tuple[int, int]) -> dict:
    """Shapes and dtypes of an encoder's parameters and BatchNorm statistics; nothing is computed."""
    frames = jax.ShapeDtypeStruct((2, 2, *image_size, 3), jnp.uint8)
    mask = jax.ShapeDtypeStruct((2, 2), bool)
    init = partial(encoder.init, layout=INTERLEAVED, train=True)
    return jax.eval_shape(init, jax.random.key(0), frames, mask)


def init_variables(encoder: Encoder, image_size: tuple[int, int], seed: int) -> dict:
    """Random parameters and BatchNorm statistics as NumPy arrays, a pure function of the seed.

    Choice: only shapes come from Flax (`jax.eval_shape`); NumPy fills them, because compiling Flax's own initialisers
    takes up to a minute on CPUs. Kernels: He normal over the fan-in; zero where a layer must start as the identity.
    A ViT's class token and positions: normal with deviation 0.02.
    """
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        names = [key.key for key in path]
        if names[-1] == "kernel" and names[-2] not in ("out", "score"):
            scale = math.sqrt(2.0 / math.prod(leaf.shape[:-1]))
            return (rng.standard_normal(leaf.shape) * scale).astype(leaf.dtype)
        if names[-1] in ("token", "positions"):
            return (0.02 * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        constant = {"scale": 1.0, "var": 1.0, "p": 3.0}.get(names[-1], 0.0)
        return np.full(leaf.shape, constant, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes_of(encoder, image_size))
