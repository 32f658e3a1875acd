"""TFE, the Temporal-aware Feature Encoder of the paper: frames first, then the tracklet.

f_l = backbone(x_l), pooled, t = Agg(f_1 .. f_T), z = unit(BNNeck(t)).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hitpro_jax.models.backbones import make_backbone
from hitpro_jax.models.layers import Backbone
from hitpro_jax.models.norms import BatchNorm, groups_of
from hitpro_jax.models.temporal import make_aggregator
from hitpro_jax.options import EncoderOptions
from hitpro_jax.types import INTERLEAVED, Encoded, Layout

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which every public backbone expects


class Encoder(nn.Module):
    """Clips to unit features.

    Attributes:
      backbone: pixels to pooled frame features.
      aggregator: frame features [B, T, D] and their mask [B, T] to tracklet features [B, D], see `temporal`.
      norm_group: clips over which the neck's BatchNorm takes its statistics, see `norms.groups_of`.
    """

    backbone: Backbone
    aggregator: nn.Module
    norm_group: int = 0

    @nn.compact
    def __call__(self, frames: jax.Array, mask: jax.Array, layout: Layout, train: bool) -> Encoded:
        """Features of clips and of their frames.

        Args:
          frames: [B, T, H, W, 3] uint8, RGB order.
          mask: [B, T] bool, False for a frame that does not count.
          layout: which clips are of which modality; static.
          train: BatchNorm uses the batch's statistics and moves its running ones; static.

        Returns:
          Unit features; rows of masked frames mean nothing.
        """
        batch, length = frames.shape[:2]
        pixels = (frames.astype(jnp.float32) / 255.0 - jnp.array(MEAN)) / jnp.array(STD)
        # a clip's frames share its modality: fold time behind the clip so that layout can split pairs of clips
        frame = self.backbone(pixels.reshape(batch * length, *frames.shape[2:]), layout, length, train)
        frame = frame.reshape(batch, length, -1)
        # a clip without a valid frame takes part in no term, but in the neck's statistics: there a zero would count
        tracklet = self.aggregator(frame, mask | ~mask.any(1, keepdims=True))
        grouped = train and not self.is_initializing()
        groups = groups_of(batch, self.norm_group, layout == INTERLEAVED) if grouped else 1
        neck = BatchNorm(momentum=0.9, epsilon=1e-5, use_bias=False, groups=groups, name="neck")
        tracklet = neck(tracklet, use_running_average=not train)
        # frames pass the neck with its running statistics: they lie in the space of the prototypes, and the statistics
        # stay those of tracklet features alone
        return Encoded(_unit(tracklet), _unit(neck(frame, use_running_average=True)))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.sqrt(jnp.maximum((x * x).sum(-1, keepdims=True), 1e-12))


def make_encoder(options: EncoderOptions) -> Encoder:
    """Makes the encoder that a config asks for.

    Raises:
      ValueError: the backbone or the aggregator is unknown, or the latter does not fit `order`.
    """
    return Encoder(make_backbone(options), make_aggregator(options.aggregator, options.order), options.norm_group)


def shapes_of(encoder: Encoder, image_size: tuple[int, int]) -> dict:
    """Shapes and dtypes of an encoder's parameters and BatchNorm statistics; nothing is computed.

    Args:
      encoder: the module.
      image_size: height and width of the frames.

    Returns:
      `params` and `batch_stats`, pytrees of `jax.ShapeDtypeStruct`.
    """
    frames = jax.ShapeDtypeStruct((2, 2, *image_size, 3), jnp.uint8)
    mask = jax.ShapeDtypeStruct((2, 2), bool)
    init = partial(encoder.init, layout=INTERLEAVED, train=True)
    return jax.eval_shape(init, jax.random.key(0), frames, mask)


def init_variables(encoder: Encoder, image_size: tuple[int, int], seed: int) -> dict:
    """Random parameters and BatchNorm statistics, a pure function of the seed.

    Kernels are He normal over the fan-in, and zero where a layer must start as the identity. A ViT's class token and
    positions are normal with deviation 0.02.

    Args:
      encoder: the module.
      image_size: height and width of the frames.
      seed: of the random numbers.

    Returns:
      `params` and `batch_stats`, pytrees of NumPy arrays.
    """
    rng = np.random.default_rng(seed)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        names = [key.key for key in path]
        if names[-1] == "kernel" and names[-2] not in ("out", "score"):  # these two let attention start as the mean
            # the last axis is the output: all others are the fan-in
            scale = math.sqrt(2.0 / math.prod(leaf.shape[:-1]))
            return (rng.standard_normal(leaf.shape) * scale).astype(leaf.dtype)
        if names[-1] in ("token", "positions"):
            return (0.02 * rng.standard_normal(leaf.shape)).astype(leaf.dtype)
        constant = {"scale": 1.0, "var": 1.0, "p": 3.0}.get(names[-1], 0.0)
        return np.full(leaf.shape, constant, leaf.dtype)

    # Flax gives the shapes alone: compiling its own initialisers takes long on CPUs
    return jax.tree_util.tree_map_with_path(fill, shapes_of(encoder, image_size))
