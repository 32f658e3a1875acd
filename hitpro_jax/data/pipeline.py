"""Batches of clips (`types.Clips`), read, decoded and augmented by Grain: `train_batches`, `part_clips`, `test_clips`.

Training batches alternate RGB and IR clips as their plan does; those of the ordered passes hold one modality each.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

import cv2
import grain
import numpy as np
from absl import flags, logging

from hitpro_jax.data import images, sampling, transforms
from hitpro_jax.data.packed import PackedFrames
from hitpro_jax.data.records import FrameError, Tracklet
from hitpro_jax.options import AugmentOptions
from hitpro_jax.types import IR, RGB, Clips

# Grain's threads and workers already use every core: OpenCV's own would compete with them.
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
        """Returns the frames uint8 [T, H, W, 3] and a mask bool [T], False where one could not be read.

        In its place stands the nearest one of the clip that could, the earlier of two; without any, the mean colour.
        """
        frames = np.empty((len(paths), *self.image_size, 3), np.uint8)
        mask = np.zeros(len(paths), bool)
        for index, path in enumerate(paths):
            if (frame := self(path)) is not None:
                frames[index], mask[index] = frame, True
        lost, seen = np.flatnonzero(~mask), np.flatnonzero(mask)
        # not black: in training every picture enters BatchNorm's statistics, whether it counts or not
        frames[lost] = frames[seen[np.abs(lost[:, None] - seen).argmin(1)]] if len(seen) else transforms.MEAN_COLOUR
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
        # kept frames are not copied to worker processes
        return {**self.__dict__, "_kept": {}}


@dataclasses.dataclass(frozen=True)
class ClipReading:
    """Who reads which clips: this process of all that share the run, and what it reads with.

    Attributes:
      process_index: of this process.
      process_count: of processes that share the run.
      num_workers: worker processes; 0 reads in threads of this process. A script that asks for workers needs the guard
        `if __name__ == "__main__"`.
      num_threads: reading threads in each process; None for one per core, at most 16.
    """

    process_index: int = 0
    process_count: int = 1
    num_workers: int = 0
    num_threads: int | None = None


def train_batches(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    plan: np.ndarray,
    *,
    clip_length: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    augmentation: AugmentOptions = transforms.NORMAL,
    reading: ClipReading = ClipReading(),
) -> Iterator[Clips]:
    """Yields this process's rows of the planned batches of one epoch, from `start_step` to its end.

    Frames and augmentation of clip b of step s are drawn from (seed, epoch, s, b) alone, so that neither the start, nor
    workers and threads, nor the number of processes changes a pixel.

    Where no frame of a clip can be read, others of its tracklet are taken. A tracklet without any gets -1 and pictures
    of the step's next tracklet of its modality: they count in no term, and BatchNorm sees what the batch has anyway.

    Args:
      reader: decodes frames; hand in the same one every epoch, so that its cache lasts.
      tracklets: the sequence that the plan's numbers point into.
      plan: int [steps, B] of `sampling.plan_epoch`; B is the batch of all processes together.
      clip_length: frames T in a clip.
      seed: non-negative.
      epoch: non-negative.
      start_step: first step to be read, in [0, steps].
      augmentation: of `transforms.augment`.
      reading: process i of n reads rows i B / n to (i + 1) B / n of every batch; n must divide B into parts of even
        size.

    Returns:
      An iterator; its `close()` ends workers early.

    Raises:
      ValueError: B does not split evenly over the processes.
    """
    steps, size = plan.shape
    local = _local_size(size, reading.process_count)
    clip = _TrainClip(reader, tracklets, plan, clip_length, seed, epoch, augmentation)
    # a slot is step * B + row
    slots = np.arange(start_step, steps)[:, None] * size + reading.process_index * local + np.arange(local)
    return _batches(slots, clip, reading)


def part_clips(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    *,
    parts: int,
    clip_length: int,
    batch_size: int,
    rows: int | None = None,
    reading: ClipReading = ClipReading(),
) -> Iterator[Clips]:
    """Yields every non-empty sub-tracklet of every tracklet once, for the refresh of the prototypes (ICTP).

    Each batch holds one modality, RGB first; `tracklet` and `part` together are the row of the table of parts [N, S].

    Args:
      reader: decodes frames.
      tracklets: N records.
      parts: S, see `sampling.part_frames`.
      clip_length: frames T of each part.
      batch_size: B of all processes together; the last batch of each modality is filled up.
      rows: of the bank that the features go to; None: N.
      reading: process p reads the tracklets p * share to (p + 1) * share - 1 of `share_of(rows, process_count)`.

    Returns:
      An iterator of batches, equally many on every process; its `close()` ends workers early.

    Raises:
      ValueError: B does not split evenly over the processes.
    """

    def frames(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return sampling.part_frames(num_frames, parts, clip_length)

    return _ordered_batches(reader, tracklets, frames, clip_length, batch_size, rows or len(tracklets), reading)


def test_clips(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    *,
    clip_length: int,
    batch_size: int,
    frames: Callable[[int, int], np.ndarray] = sampling.test_frames,  # noqa: PT028, this is no test
    reading: ClipReading = ClipReading(),  # noqa: PT028
) -> Iterator[Clips]:
    """Yields one clip of every tracklet, in order, for the evaluation.

    Each batch holds one modality, RGB first; `part` is 0.

    Args:
      reader: decodes frames.
      tracklets: N records.
      clip_length: frames T of each tracklet.
      batch_size: B of all processes together; the last batch of each modality is filled up.
      frames: the protocol's rule, (number of frames, T) -> int [T].
      reading: as in `part_clips`, of N rows.

    Returns:
      An iterator of batches, equally many on every process; its `close()` ends workers early.

    Raises:
      ValueError: B does not split evenly over the processes.
    """

    def whole(num_frames: int) -> tuple[np.ndarray, np.ndarray]:
        return frames(num_frames, clip_length)[None], np.ones(1, bool)

    return _ordered_batches(reader, tracklets, whole, clip_length, batch_size, len(tracklets), reading)


@dataclasses.dataclass(frozen=True)
class _TrainClip:
    """Makes the clip of one slot of the plan; slots are counted over all its steps."""

    reader: FrameReader
    tracklets: Sequence[Tracklet]
    plan: np.ndarray
    clip_length: int
    seed: int
    epoch: int
    augmentation: AugmentOptions

    def __call__(self, slot: int) -> Clips:
        step, row = divmod(slot, self.plan.shape[1])
        # 2: another stream than the plan's, which has 1
        rng = np.random.default_rng([self.seed, 2, self.epoch, step, row])
        number = int(self.plan[step, row])
        tracklet = self.tracklets[number]
        chosen = sampling.clip_frames(len(tracklet.frames), self.clip_length, rng)
        frames, mask, unreadable = _read(self.reader, tracklet, chosen)
        if not mask.any():
            frames, mask = self._in_place_of(step, row, rng)
        frames = transforms.augment(frames, tracklet.modality, rng, self.augmentation)
        return _clip(frames, mask, number, tracklet.modality, part=0, unreadable=unreadable)

    def _in_place_of(self, step: int, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Frames and mask where no chosen frame can be read: others of the tracklet, or pictures that do not count.

        These are of the step's next tracklet of that modality, so that BatchNorm sees what the batch has anyway. Next
        in the plan, which every process has, not in the rows of this process. Without any it is the mean colour.
        """
        own, *others = [self.tracklets[number] for number in dict.fromkeys(np.roll(self.plan[step], -row).tolist())]
        if (frames := self._readable(own, rng)) is not None:
            return frames, np.ones(len(frames), bool)
        alike = (self._readable(each, rng) for each in others if each.modality == own.modality)
        nothing = np.full((self.clip_length, *self.reader.image_size, 3), transforms.MEAN_COLOUR)
        return next((frames for frames in alike if frames is not None), nothing), np.zeros(self.clip_length, bool)

    def _readable(self, tracklet: Tracklet, rng: np.random.Generator) -> np.ndarray | None:
        """A clip of those frames of a tracklet that can be read; None where none can."""
        paths = [path for path in tracklet.frames if self.reader.clip([path])[1].all()]
        if not paths:
            return None
        return self.reader.clip([paths[i] for i in sampling.clip_frames(len(paths), self.clip_length, rng)])[0]


@dataclasses.dataclass(frozen=True)
class _OrderedClip:
    """Makes one clip of an ordered pass: (modality, tracklet, part, frames), tracklet -1 to fill a batch."""

    reader: FrameReader
    tracklets: Sequence[Tracklet]
    clips: Sequence[tuple[int, int, int, np.ndarray]]

    def __call__(self, index: int) -> Clips:
        modality, number, part, chosen = self.clips[index]
        if number < 0:
            frames = np.zeros((len(chosen), *self.reader.image_size, 3), np.uint8)
            return _clip(frames, np.zeros(len(chosen), bool), number, modality, part=part, unreadable=0)
        frames, mask, unreadable = _read(self.reader, self.tracklets[number], chosen)
        return _clip(frames, mask, number, modality, part=part, unreadable=unreadable)


def _read(reader: FrameReader, tracklet: Tracklet, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The chosen frames, their mask, and how many distinct ones of them could not be read."""
    paths = [tracklet.frames[i] for i in chosen]
    frames, mask = reader.clip(paths)
    return frames, mask, len({path for path, seen in zip(paths, mask, strict=True) if not seen})


def _clip(frames: np.ndarray, mask: np.ndarray, tracklet: int, modality: int, *, part: int, unreadable: int) -> Clips:
    """One clip, without the batch's axis; one without a readable frame belongs to no tracklet."""
    return Clips(
        frames=frames,
        mask=mask,
        tracklet=np.array(tracklet if mask.any() else -1, np.int32),
        modality=np.array(modality, np.int32),
        part=np.array(part, np.int32),
        unreadable=np.array(unreadable, np.int32),
    )


def _ordered_batches(
    reader: FrameReader,
    tracklets: Sequence[Tracklet],
    clips_of: Callable[[int], tuple[np.ndarray, np.ndarray]],
    clip_length: int,
    batch_size: int,
    rows: int,
    reading: ClipReading,
) -> Iterator[Clips]:
    """Yields this process's part of the clips, RGB and then IR; all processes fill up to equally many batches."""
    # a batch holds one modality, so that no pair of clips can be split
    local = _local_size(batch_size, reading.process_count, even=False)
    share = share_of(rows, reading.process_count)

    def clips(modality: int, process: int) -> list[tuple[int, int, int, np.ndarray]]:
        found = []
        for number in range(process * share, min((process + 1) * share, len(tracklets))):
            if tracklets[number].modality == modality:
                index, present = clips_of(len(tracklets[number].frames))
                found += [(modality, number, int(s), index[s]) for s in np.flatnonzero(present)]
        return found

    mine = []
    for modality in (RGB, IR):
        # of all processes, as each must know how many batches the others have
        by_process = [clips(modality, process) for process in range(reading.process_count)]
        # equally many batches everywhere: every process takes part in every call of the encoder
        length = -(-max(map(len, by_process)) // local) * local
        filler = (modality, -1, -1, np.zeros(clip_length, int))
        own = by_process[reading.process_index]
        mine += own + [filler] * (length - len(own))
    return _batches(np.arange(len(mine)).reshape(-1, local), _OrderedClip(reader, tracklets, mine), reading)


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


def _batches(indices: np.ndarray, clip: Callable[[int], Clips], reading: ClipReading) -> Iterator[Clips]:
    """Yields one batch of clips for each row of `indices`, int [steps, b], in order."""
    threads = min(16, os.cpu_count() or 1) if reading.num_threads is None else reading.num_threads
    clips = grain.MapDataset.source(indices.ravel().tolist()).map(clip).batch(indices.shape[1], drop_remainder=True)
    # The buffer counts whole batches: Grain's default of 500 would fill the memory.
    batches = clips.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
    if reading.num_workers:
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl flags, which a script may never have parsed.
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=reading.num_workers))
    return iter(batches)
