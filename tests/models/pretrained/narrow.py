"""A narrow ViT instead of ViT-B/16, and tensors in timm's names that fit it."""

import numpy as np

from hitpro_jax.models import vit
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.models.temporal import MeanPool
from tests.reference import public_weights as public

SIZE = (32, 16)  # 2 x 1 patches
NARROW = Encoder(vit.ViT(8, 1, 2), MeanPool())


def tensors(**changes) -> dict[str, np.ndarray]:
    found = public.state_dict(public.timm(8, 1, positions=10)) | changes
    return {name: value for name, value in found.items() if value is not None}
