"""Runs the encoder over ordered clips and collects a row per clip: refresh and evaluation both stand on it."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from hitpro_jax.models.encoder import Encoder
from hitpro_jax.models.resnet import INTERLEAVED, IR_ONLY, RGB_ONLY
from hitpro_jax.sharding import batch_sharding, replicated, to_global

Embed = Callable[[dict, jax.Array, jax.Array, str], jax.Array]


def layout_of(modality: np.ndarray) -> str:
    """How the two modalities lie in a batch: all `rgb`, all `ir`, or `interleaved`; int [B].

    >>> layout_of(np.array([0, 1, 0, 1])), layout_of(np.array([1, 1]))
    ('interleaved', 'ir')
    """
    if (modality == modality[0]).all():
        return (RGB_ONLY, IR_ONLY)[int(modality[0])]
    if len(modality) % 2 or (modality[0::2] != modality[0]).any() or (modality[1::2] != 1).any():
        raise ValueError("a batch of both modalities must alternate RGB and IR clips")
    return INTERLEAVED


def make_embed(encoder: Encoder, mesh: Mesh) -> Embed:
    """Compiles the evaluation-mode encoder: variables, frames uint8 [B, T, H, W, 3], mask [B, T] -> features [B, D]."""

    def embed(variables, frames, mask, layout):
        return encoder.apply(variables, frames, mask, layout, train=False).tracklet

    rows, whole = batch_sharding(mesh), replicated(mesh)
    return jax.jit(embed, static_argnums=3, in_shardings=(whole, rows, rows), out_shardings=rows)


def embed_all(embed: Embed, variables: dict, batches: Iterable[dict], rows: int, parts: int, mesh: Mesh):
    """Embeds every clip of the batches.

    The result of one batch is fetched while the next one runs.

    Returns:
      (features [rows, parts, D] float32, mask [rows, parts] bool): zero and False where no clip came.
    """
    features, mask = None, np.zeros((rows, parts), bool)
    pending = None

    def collect():
        nonlocal features
        output, tracklet, part, seen = pending
        values = np.asarray(multihost_utils.process_allgather(output, tiled=True))
        if features is None:
            features = np.zeros((rows, parts, values.shape[-1]), np.float32)
        real = (tracklet >= 0) & seen  # a clip of which no frame could be read has no feature
        features[tracklet[real], part[real]] = values[real]
        mask[tracklet[real], part[real]] = True

    for batch in batches:
        clips = to_global({"frames": batch["frames"], "mask": batch["mask"]}, mesh)
        output = embed(variables, clips["frames"], clips["mask"], layout_of(batch["modality"]))
        if pending is not None:
            collect()
        places = (batch["tracklet"], batch["part"], batch["mask"].any(1))
        places = [multihost_utils.process_allgather(place, tiled=True) for place in places]
        pending = (output, *map(np.asarray, places))
    if pending is not None:
        collect()
    return features, mask
