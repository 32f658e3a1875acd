"""The list of backbones: a new one is a file that keeps `layers.Backbone`'s contract, and a line here."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from hitpro_jax.models import resnet, vit
from hitpro_jax.models.layers import Backbone
from hitpro_jax.options import EncoderOptions


class BackboneSpec(NamedTuple):
    """One backbone.

    Attributes:
      make: makes it from `dtype`, `as_product`, `remat` and `norm_group`, all given by keyword; see `EncoderOptions`.
        A backbone without BatchNorm or convolutions accepts the switches of these and ignores them.
      width: D, entries of a frame feature.
    """

    make: Callable[..., Backbone]
    width: int


BACKBONES: dict[str, BackboneSpec] = {
    "resnet_small": BackboneSpec(resnet.resnet_small, 192),  # 0.9 M parameters, for CPUs
    "resnet50": BackboneSpec(resnet.resnet50, 2048),
    "vit_b16": BackboneSpec(vit.vit_b16, 768),
    "vit_b16_clip": BackboneSpec(vit.vit_b16_clip, 768),  # CLIP's form
    "vit_b16_ics": BackboneSpec(vit.vit_b16_ics, 768),  # LUPerson's form, with a convolutional stem
}


def make_backbone(options: EncoderOptions) -> Backbone:
    """Makes the backbone that `options.backbone` names.

    Raises:
      ValueError: the name is not in BACKBONES.
    """
    if options.backbone not in BACKBONES:
        raise ValueError(f"encoder.backbone is {options.backbone!r}: choose one of {', '.join(BACKBONES)}")
    return BACKBONES[options.backbone].make(
        dtype=jnp.dtype(options.dtype),
        as_product=options.as_product,
        remat=options.remat,
        norm_group=options.norm_group,
    )
