"""Runs the encoder over ordered clips and collects a row per clip, for the refresh and for evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from hitpro_jax.data.pipeline import share_of
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.sharding import local_rows, replicated, row_sharding, to_global
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY, Clips, Layout

Embed = Any  # jitted: (variables, frames [B, T, H, W, 3], mask [B, T], layout) -> features [B, D]


def layout_of(modality: np.ndarray) -> Layout:
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
        encoded: Any = encoder.apply(variables, *batch, train=False)
        return encoded.tracklet

    rows = row_sharding(mesh)
    # None: variables stay as they lie, whole or cut; the static argument is the layout
    return jax.jit(embed, static_argnums=3, in_shardings=(None, rows, rows), out_shardings=rows)


class UnreadableCounter:
    """Passes batches of ordered clips on, and counts their frames that could not be read."""

    def __init__(self, batches: Iterable[Clips]):
        self._batches, self._here = batches, 0

    def __iter__(self) -> Iterator[Clips]:
        for batch in self._batches:
            self._here += int(batch.unreadable.sum())
            yield batch

    def total(self) -> int:
        """Frames in the batches so far, over all processes, which must all call this."""
        return int(multihost_utils.process_allgather(np.int32(self._here)).sum())


def embed_all(
    embed: Embed, variables: dict, batches: Iterable[Clips], rows: int, parts: int, mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds this process's clips; nothing crosses from process to process.

    Args:
      embed: of `make_embed`.
      variables: of the encoder.
      batches: of `pipeline.part_clips` or `test_clips`; equally many on every process.
      rows: of all processes together, R.
      parts: S.
      mesh: all devices.

    Returns:
      features [R / processes, S, D] float32 and mask [R / processes, S] bool, rounded up, of the tracklets from
      process_index * R / processes on: zero and False where no clip came.

    Raises:
      ValueError: there is no batch.
    """
    share = share_of(rows, jax.process_count())
    first = jax.process_index() * share
    features, mask = None, np.zeros((share, parts), bool)
    pending = None

    def collect(output: jax.Array, clips: Clips) -> None:
        nonlocal features
        values = local_rows(output)
        if features is None:
            features = np.zeros((share, parts, values.shape[-1]), np.float32)
        real = clips.tracklet >= 0
        features[clips.tracklet[real] - first, clips.part[real]] = values[real]
        mask[clips.tracklet[real] - first, clips.part[real]] = True

    for clips in batches:
        frames, frame_mask = to_global((clips.frames, clips.mask), mesh)
        output = embed(variables, frames, frame_mask, layout_of(clips.modality))
        if pending is not None:
            collect(*pending)  # the result of one batch is fetched while the next one runs
        pending = output, clips
    if pending is not None:
        collect(*pending)
    if features is None:
        raise ValueError("there are no clips to embed: the tracklets are empty")
    return features, mask
