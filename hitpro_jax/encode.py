"""Runs the encoder over ordered clips and collects a row per clip: refresh and evaluation both stand on it."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from hitpro_jax.data.pipeline import share_of
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.sharding import local_rows, replicated, row_sharding, to_global
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY

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

    def embed(variables, *batch):
        # where parameters are cut over the devices, each gathers them first
        variables = jax.lax.with_sharding_constraint(variables, replicated(mesh))
        return encoder.apply(variables, *batch, train=False).tracklet

    rows = row_sharding(mesh)
    return jax.jit(embed, static_argnums=3, in_shardings=(None, rows, rows), out_shardings=rows)


class CountingUnreadable:
    """Passes batches of `pipeline.part_clips` or `test_clips` on and counts their frames that could not be read."""

    def __init__(self, batches: Iterable[dict]):
        self._batches, self._here = batches, 0

    def __iter__(self) -> Iterator[dict]:
        for batch in self._batches:
            self._here += int(batch["unreadable"].sum())
            yield batch

    def total(self) -> int:
        """Frames in the batches so far, over all processes, which must all ask."""
        return int(multihost_utils.process_allgather(np.int32(self._here)).sum())


def embed_all(embed: Embed, variables: dict, batches: Iterable[dict], rows: int, parts: int, mesh: Mesh):
    """Embeds this process's clips; nothing crosses from process to process.

    The result of one batch is fetched while the next one runs.

    Args:
      batches: of `pipeline.part_clips` or `test_clips`; equally many on every process.
      rows: of all processes together, R.
      parts: S.

    Returns:
      (features [R / processes, S, D] float32, mask [R / processes, S] bool), rounded up, of the tracklets from
      process_index * R / processes on: zero and False where no clip came.
    """
    share = share_of(rows, jax.process_count())
    first = jax.process_index() * share
    features, mask = None, np.zeros((share, parts), bool)
    pending = None

    def collect():
        nonlocal features
        output, tracklet, part, seen = pending
        values = local_rows(output)
        if features is None:
            features = np.zeros((share, parts, values.shape[-1]), np.float32)
        real = (tracklet >= 0) & seen  # a clip of which no frame could be read has no feature
        features[tracklet[real] - first, part[real]] = values[real]
        mask[tracklet[real] - first, part[real]] = True

    for batch in batches:
        clips = to_global({"frames": batch["frames"], "mask": batch["mask"]}, mesh)
        output = embed(variables, clips["frames"], clips["mask"], layout_of(batch["modality"]))
        if pending is not None:
            collect()
        pending = output, batch["tracklet"], batch["part"], batch["mask"].any(1)
    if pending is not None:
        collect()
    return features, mask
