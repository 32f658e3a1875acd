"""Features of a whole split: every tracklet through the encoder, by the frames that a protocol takes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from hitpro_jax.data import pipeline, sampling
from hitpro_jax.data.records import Record
from hitpro_jax.encode import Embed, UnreadableCounter, embed_all
from hitpro_jax.options import EvalOptions
from hitpro_jax.sharding import gather_rows, pad_rows
from hitpro_jax.workdir import Wait


@dataclass(frozen=True)
class Embedder:
    """What turns tracklets into features."""

    embed: Embed
    mesh: Mesh
    reader: pipeline.FrameReader
    options: EvalOptions
    reading: pipeline.ClipReading = pipeline.ClipReading()

    def counted(self, wait: Wait, total: int) -> "Embedder":
        """The same; its clips are counted in the lines that `wait` logs. `total` are to come."""
        return replace(self, embed=wait.counting(self.embed, total))


class Embedded(NamedTuple):
    """A split after the encoder, a row a tracklet."""

    features: np.ndarray  # [N, D] float32
    pids: np.ndarray  # [N]
    camids: np.ndarray  # [N]
    unreadable: int = 0  # frames that could not be read

    def take(self, rows: np.ndarray) -> "Embedded":
        """Those of some rows of the split, as far as their features and ids go."""
        return Embedded(self.features[rows], self.pids[rows], self.camids[rows])


def embed_split(
    embedder: Embedder,
    variables: dict,
    tracklets: Sequence[Record],
    choose_frames: Callable[[int, int], np.ndarray] = sampling.test_frames,
) -> Embedded:
    """Embeds every tracklet of a split.

    Args:
      embedder: of the same encoder as the variables.
      variables: parameters and statistics of the encoder.
      tracklets: N of them.
      choose_frames: (number of frames, `EvalOptions.frames`) -> positions of the frames to take.

    Returns:
      The `Embedded`, whole on every process.

    Raises:
      ValueError: a tracklet has no frame that could be read: it has no feature, and must not be ranked.
    """
    mesh, options, count = embedder.mesh, embedder.options, len(tracklets)
    batches = UnreadableCounter(
        pipeline.test_clips(
            embedder.reader,
            tracklets,
            clip_length=options.frames,
            batch_size=pad_rows(options.batch_size, mesh),
            frames=choose_frames,
            reading=embedder.reading,
        )
    )
    features, seen = embed_all(embedder.embed, variables, batches, count, 1, mesh)
    if jax.process_count() > 1:
        features, seen = (gather_rows(each)[:count] for each in (features, seen))
    if not seen.all():
        first = tracklets[int(np.argmin(seen))].frames[0]
        raise ValueError(
            f"{(~seen).sum()} of {len(seen)} query or gallery tracklets have no frame that can be read, "
            f"the first begins with {embedder.reader.root}/{first}: restore its files, or remove it from its list"
        )
    pids, camids = (np.array([getattr(each, name) for each in tracklets]) for name in ("pid", "camid"))
    return Embedded(features[:, 0], pids, camids, batches.total())
