"""Batches of clips, read, decoded and augmented by Grain: `train_batches`, `part_clips` and `test_clips`.

A batch is a dict of NumPy arrays:
  frames    uint8 [B, T, H, W, 3], RGB order, zero where the mask is False
  mask      bool [B, T], False for a frame that could not be read and in rows that only fill the batch
  modality  int32 [B]
  tracklet  int32 [B], row in the sequence of tracklets; -1 in rows that only fill the batch
Training batches alternate RGB and IR clips as their plan does; the others hold one modality each, and have
  part        int32 [B], row in the table of parts; -1 in rows that only fill the batch
  unreadable  int32 [B], frames of the clip that could not be read; one that stands in it several times counts once
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import grain
import numpy as np
from absl import flags, logging

from hitpro_jax.data import images, sampling, transforms
from hitpro_jax.data.packed import PackedFrames
from hitpro_jax.data.records import FrameError, Tracklet
from hitpro_jax.types import IR, RGB

Batch = dict[str, np.ndarray]

# Grain's threads and workers already use every core: OpenCV's own would only fight them.
cv2.setNumThreads(1)


@dataclasses.dataclass(eq=False)
class FrameReader:
    """Reads one frame of a data set as uint8 [H, W, 3] in RGB order, scaled bilinearly and not cropped.

    Attributes:
      root: folder that the tracklets' paths are relative to.
      image_size: (H, W) in pixels.
      cache: keep every scaled frame in memory, for small sets. Threads share it; worker processes start with
        an empty one of their own, so it pays with `num_workers=0` only.
      allow_missing: leave out a frame that does not decode instead of raising an error.
      packed: where frames are read, already scaled, instead of from their files.
      unreadable: the paths left out by this process so far.
    """

    root: str
    image_size: tuple[int, int]
    cache: bool = False
    allow_missing: bool = False
    packed: PackedFrames | None = None
    unreadable: set[str] = dataclasses.field(default_factory=set, init=False)
    _kept: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __call__(self, path: str) -> np.ndarray | None:
        """Returns the frame, or None if it cannot be read and `allow_missing` is set.

        Raises:
          FrameError: if the file does not exist, does not decode as an image, is cut short or is far too large, or if
            the packed cache is damaged; the message names the file.
        """
        frame = self._kept.get(path)
        if frame is None and path not in self.unreadable:
            frame = self._read(path)
            if self.cache and frame is not None:
                self._kept[path] = frame
        return frame

    def clip(self, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the frames uint8 [T, H, W, 3] and a mask bool [T], False where one could not be read."""
        frames = np.zeros((len(paths), *self.image_size, 3), np.uint8)
        mask = np.zeros(len(paths), bool)
        for place, path in enumerate(paths):
            if (frame := self(path)) is not None:
                frames[place], mask[place] = frame, True
        return frames, mask

    def _read(self, path: str) -> np.ndarray | None:
        full = os.path.join(self.root, path)
        try:
            return self.packed.read(path) if self.packed else images.read(full, self.image_size)
        except images.Unreadable as fault:
            if not self.allow_missing:
                raise FrameError(
                    f"frame {full} {fault}: restore it, or set data.allow_missing to leave such frames out",
                    [path],
                ) from None
            self.unreadable.add(path)
            logging.warning("left out frame %s, which %s (%d so far)", full, fault, len(self.unreadable))
            return None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_kept": {}}


def train_batches(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    plan: np.ndarray,
    *,
    clip_length: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    augmentation: Mapping[str, float] | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int | None = None,
) -> Iterator[Batch]:
    """Yields this process's rows of the planned batches of one epoch, from `start_step` to its end.

    Frames and augmentation of clip b of step s are drawn from (seed, epoch, s, b) alone, so that neither the
    start, nor workers and threads, nor the number of processes changes a pixel.

    Args:
      reader: decodes frames; hand in the same one every epoch, so that its cache lasts.
      tracklets: the sequence that the plan's numbers point into.
      plan: int [steps, B] of `sampling.plan_epoch`; B is the batch of all processes together.
      clip_length: frames T in a clip.
      seed: non-negative.
      epoch: non-negative.
      start_step: first step to be read, in [0, steps].
      augmentation: keywords of `transforms.augment`; None for its defaults.
      process_index: which part of every batch is read here: rows [i B / n, (i + 1) B / n).
      process_count: n; it must divide B into parts of even size.
      num_workers: worker processes; 0 reads in threads of this process. A script that asks for workers needs
        the guard `if __name__ == "__main__"`.
      num_threads: reading threads in each process; None for one per core, at most 16.

    Returns:
      An iterator; its `close()` ends workers early.

    Raises:
      ValueError: if B does not split evenly over the processes.
    """
    steps, size = plan.shape
    local = _local_size(size, process_count)
    clip = _TrainClip(reader, tracklets, plan, clip_length, seed, epoch, augmentation or {})
    rows = np.arange(start_step, steps)[:, None] * size + process_index * local + np.arange(local)
    return _batches(rows, clip, num_workers=num_workers, num_threads=num_threads)


def part_clips(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    *,
    parts: int,
    clip_length: int,
    batch_size: int,
    **reading: int | None,
) -> Iterator[Batch]:
    """Yields every non-empty sub-tracklet of every tracklet once, for the refresh of the prototypes (ICTP).

    Each batch holds one modality, RGB first; `tracklet` and `part` together tell the row [N, S] of the table of parts.

    Args:
      reader: decodes frames.
      tracklets: N records.
      parts: S, see `sampling.part_frames`.
      clip_length: frames T of each part.
      batch_size: B of all processes together; the last batch of each modality is filled up.
      **reading: process_index, process_count, num_workers and num_threads of `train_batches`. Process p reads the
        tracklets p * share .. (p + 1) * share - 1 of `share_of(rows, process_count)`; rows: of the bank that the
        features go to, by default N.

    Returns:
      An iterator of batches.
    """

    def frames(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return sampling.part_frames(num_frames, parts, clip_length)

    return _ordered_batches(reader, tracklets, frames, clip_length, batch_size, **reading)


def test_clips(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    *,
    clip_length: int,
    batch_size: int,
    frames: Callable[[int, int], np.ndarray] = sampling.test_frames,
    **reading: int | None,
) -> Iterator[Batch]:
    """Yields one clip of every tracklet, in order, for the evaluation.

    Each batch holds one modality, RGB first; `tracklet` tells the row.

    Args:
      reader: decodes frames.
      tracklets: N records.
      clip_length: frames T of each tracklet.
      batch_size: B of all processes together; the last batch of each modality is filled up.
      frames: the protocol's rule, (number of frames, T) -> int [T].
      **reading: as in `part_clips`.

    Returns:
      An iterator of batches.
    """

    def whole(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return frames(num_frames, clip_length)[None], np.ones(1, bool)

    return _ordered_batches(reader, tracklets, whole, clip_length, batch_size, **reading)


@dataclasses.dataclass(frozen=True)
class _TrainClip:
    """Makes the clip at one place of the plan, counted over all its steps."""

    reader: FrameReader
    tracklets: Sequence[Tracklet]
    plan: np.ndarray
    clip_length: int
    seed: int
    epoch: int
    augmentation: Mapping[str, float]

    def __call__(self, place: int) -> Batch:
        step, row = divmod(int(place), self.plan.shape[1])
        rng = np.random.default_rng([self.seed, 2, self.epoch, step, row])
        number = int(self.plan[step, row])
        tracklet = self.tracklets[number]
        chosen = sampling.clip_frames(len(tracklet.frames), self.clip_length, rng)
        frames, mask = self.reader.clip([tracklet.frames[i] for i in chosen])
        frames = transforms.augment(frames, tracklet.modality, rng, **self.augmentation)
        frames[~mask] = 0
        return _row(frames, mask, modality=tracklet.modality, tracklet=number)


@dataclasses.dataclass(frozen=True)
class _OrderedClip:
    """Makes one row of an ordered pass: (modality, tracklet, part, frames), tracklet -1 to fill a batch."""

    reader: FrameReader
    tracklets: Sequence[Tracklet]
    rows: Sequence[tuple[int, int, int, np.ndarray]]

    def __call__(self, place: int) -> Batch:
        modality, number, part, chosen = self.rows[int(place)]
        if number < 0:
            frames = np.zeros((len(chosen), *self.reader.image_size, 3), np.uint8)
            return _row(frames, np.zeros(len(chosen), bool), modality=modality, tracklet=-1, part=-1, unreadable=0)
        paths = self.tracklets[number].frames
        frames, mask = self.reader.clip([paths[i] for i in chosen])
        unreadable = len({paths[i] for i in chosen[~mask]})
        return _row(frames, mask, modality=modality, tracklet=number, part=part, unreadable=unreadable)


def _row(frames: np.ndarray, mask: np.ndarray, **numbers: int) -> Batch:
    return {"frames": frames, "mask": mask, **{name: np.int32(value) for name, value in numbers.items()}}


def _ordered_batches(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    clips_of: Callable[[int], tuple[np.ndarray, np.ndarray]],
    clip_length: int,
    batch_size: int,
    *,
    rows: int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    num_threads: int | None = None,
) -> Iterator[Batch]:
    """Yields this process's part of the clips, RGB and then IR; all processes fill up to equally many batches."""
    local = _local_size(batch_size, process_count, even=False)
    share = share_of(rows or len(tracklets), process_count)

    def clips(modality: int, process: int) -> list[tuple[int, int, int, np.ndarray]]:
        found = []
        for number in range(process * share, min((process + 1) * share, len(tracklets))):
            if tracklets[number].modality == modality:
                index, present = clips_of(len(tracklets[number].frames))
                found += [(modality, number, int(s), index[s]) for s in np.flatnonzero(present)]
        return found

    mine = []
    for modality in (RGB, IR):
        parts = [clips(modality, process) for process in range(process_count)]
        length = -(-max(map(len, parts)) // local) * local
        filler = (modality, -1, -1, np.zeros(clip_length, int))
        mine += parts[process_index] + [filler] * (length - len(parts[process_index]))
    places = np.arange(len(mine)).reshape(-1, local)
    return _batches(places, _OrderedClip(reader, tracklets, mine), num_workers=num_workers, num_threads=num_threads)


def share_of(rows: int, process_count: int) -> int:
    """Tracklets that one process embeds: process p those from p * share on, as the bank's rows are cut."""
    return -(-rows // process_count)


def _local_size(batch_size: int, process_count: int, *, even: bool = True) -> int:
    """Returns the rows of a batch that one process reads; even parts keep RGB and IR clips alternating."""
    local, rest = divmod(batch_size, process_count)
    if rest or (even and process_count > 1 and local % 2):
        kind = "parts of even size" if even else "equal parts"
        raise ValueError(
            f"a batch of {batch_size} clips does not split into {kind} over {process_count} processes: "
            "choose a multiple of both"
        )
    return local


def _batches(
    places: np.ndarray, clip: Callable[[int], Batch], *, num_workers: int, num_threads: int | None
) -> Iterator[Batch]:
    """Yields one batch of clips for each row of `places`, int [steps, b], in order."""
    threads = min(16, os.cpu_count() or 1) if num_threads is None else num_threads
    clips = grain.MapDataset.source(places.ravel()).map(clip).batch(places.shape[1], drop_remainder=True)
    # The buffer counts whole batches: Grain's default of 500 would fill the memory.
    batches = clips.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    if num_workers:
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags, which a script may never have parsed.
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return iter(batches)
