"""What the loaders return: tracklets as paths of frames. Training sees them without person ids."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hitpro_jax.types import IR

SPLITS = ("train", "query", "gallery")


class FrameError(ValueError):
    """A listed frame is missing, empty or does not decode; `paths` names every such frame."""

    def __init__(self, message: str, paths: Sequence[str] = ()):
        super().__init__(message)
        self.paths = tuple(paths)


@dataclasses.dataclass(frozen=True, slots=True)
class Tracklet:
    """A run of frames of one person in one camera: all of it that training may see."""

    frames: tuple[str, ...]  # paths relative to the root of the data set, in order
    modality: int  # RGB or IR
    camid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Record(Tracklet):
    """A tracklet with its person id, which only the evaluator and the diagnostics may see."""

    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Dataset:
    """The three splits of a data set and what was counted while they were read."""

    name: str
    root: str
    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    counts: dict[str, Any]


def count(records: Sequence[Tracklet]) -> dict[str, int]:
    """Numbers of tracklets, of those by modality, and of frames.

    >>> count([Tracklet(("a.jpg", "b.jpg"), IR, 3)])
    {'tracklets': 1, 'rgb': 0, 'ir': 1, 'frames': 2}
    """
    infrared = sum(record.modality == IR for record in records)
    frames = sum(len(record.frames) for record in records)
    return {"tracklets": len(records), "rgb": len(records) - infrared, "ir": infrared, "frames": frames}


def report(dataset: Dataset) -> list[str]:
    """The start-up report: a line a split, then what was missing and the loader's own notes."""
    lines = [f"{dataset.name} in {dataset.root}"]
    for split in SPLITS:
        number = {"ids": "?", **dataset.counts.get(split, {}), **count(getattr(dataset, split))}
        lines.append(
            f"{split:<8}{number['ids']:>6} ids {number['tracklets']:>8,} tracklets "
            f"({number['rgb']:,} RGB + {number['ir']:,} IR) {number['frames']:>9,} frames"
        )
    missing = dataset.counts.get("missing", {})
    lines += [f"{split}: {frames:,} missing frames left out" for split, frames in missing.items() if frames]
    return lines + list(dataset.counts.get("notes", ()))


def anonymise(records: Sequence[Record], seed: int) -> tuple[tuple[Tracklet, ...], np.ndarray]:
    """Training's view of records: no person id, and a shuffled order, which cannot reveal one.

    Args:
      records: N records.
      seed: of the order; non-negative.

    Returns:
      N tracklets, and their person ids [N] int64 in the same order, for diagnostics alone.
    """
    # shuffled, because index files list one person's tracklets together
    order = np.random.default_rng(seed).permutation(len(records))
    chosen = [records[i] for i in order]
    tracklets = tuple(Tracklet(record.frames, record.modality, record.camid) for record in chosen)
    return tracklets, np.array([record.pid for record in chosen], np.int64)


def views(tracklets: Sequence[Tracklet]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Dense ids of the views g = (m, c) that occur.

    Args:
      tracklets: N tracklets.

    Returns:
      The view of each tracklet [N] int32, and the (modality, camid) of each view, sorted.

    >>> from hitpro_jax.types import RGB
    >>> views([Tracklet((), IR, 1), Tracklet((), RGB, 2)])
    (array([1, 0], dtype=int32), [(0, 2), (1, 1)])
    """
    pairs = [(tracklet.modality, tracklet.camid) for tracklet in tracklets]
    table = sorted(set(pairs))
    index = {pair: view for view, pair in enumerate(table)}
    return np.array([index[pair] for pair in pairs], np.int32), table


def verify_files(
    dataset: Dataset,
    *,
    min_frames: int,
    allow_missing: bool = False,
    workers: int = 16,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> Dataset:
    """Checks that every listed frame exists and is not empty, one folder listing at a time.

    Args:
      dataset: as loaded.
      min_frames: a tracklet left with fewer frames is dropped.
      allow_missing: leave out what is missing instead of refusing.
      workers: threads.
      progress: `progress(iterable, total)` shows how far the folders are, for instance
        `lambda folders, total: tqdm(folders, total=total)`.

    Returns:
      The data set; where frames were left out, with new counts and `counts["missing"]`, frames by split.

    Raises:
      FrameError: frames are missing or empty and allow_missing is False; `paths` lists them all.
    """
    present = stamps(dataset, workers=workers, progress=progress)
    missing = {split: [frame for frame in _frames(dataset, split) if frame not in present] for split in SPLITS}
    if not any(missing.values()):
        return dataset
    if not allow_missing:
        raise FrameError(_missing_message(dataset, missing), [*itertools.chain(*missing.values())])
    kept = {split: _without(getattr(dataset, split), set(missing[split]), min_frames) for split in SPLITS}
    counts = {split: {**dataset.counts.get(split, {}), **count(kept[split])} for split in SPLITS}
    gone = {split: len(missing[split]) for split in SPLITS}
    return dataclasses.replace(dataset, **kept, counts={**dataset.counts, **counts, "missing": gone})


def _frames(dataset, split):
    return [frame for record in getattr(dataset, split) for frame in record.frames]


def stamps(
    dataset: Dataset,
    *,
    workers: int = 16,
    progress: Callable[[Iterable, int], Iterable] | None = None,
) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of change in ns of every file, unless empty, in the folders of the listed frames.

    Args:
      dataset: as loaded.
      workers: threads.
      progress: as for `verify_files`.

    Returns:
      By the paths of the files, relative to the root; files that are not listed too.

    Raises:
      FrameError: a folder exists but cannot be read.
    """
    # folders are listed: one request to a network disk answers for hundreds of frames
    folders = sorted({frame.rpartition("/")[0] for split in SPLITS for frame in _frames(dataset, split)})
    found = {}
    with ThreadPoolExecutor(workers) as pool:
        listings = pool.map(lambda folder: _files(dataset.root, folder), folders)
        for files in progress(listings, len(folders)) if progress else listings:
            found.update(files)
    return found


def _files(root, folder):
    path = os.path.join(root, folder)
    try:
        with os.scandir(path) as entries:
            files = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):  # then all its frames are missing
        return {}
    except OSError as error:
        raise FrameError(f"folder {path} cannot be read ({error.strerror}): check its permissions") from None
    prefix = f"{folder}/" if folder else ""
    # an empty file, as a copy that broke off leaves it, counts as missing
    return {prefix + name: (status.st_size, status.st_mtime_ns) for name, status in files if status.st_size}


def _missing_message(dataset, missing):
    by_split = ", ".join(f"{split} {len(missing[split]):,} of {len(_frames(dataset, split)):,}" for split in SPLITS)
    first = next(frame for split in SPLITS for frame in missing[split])
    return (
        f"{dataset.name}: {sum(map(len, missing.values())):,} listed frames are missing or empty under "
        f"{dataset.root} ({by_split}), first {first}: complete the copy, or set data.allow_missing"
    )


def _without(records, missing, min_frames):
    """The records without the missing frames; only those that lose a frame can be dropped."""
    kept = []
    for record in records:
        frames = tuple(frame for frame in record.frames if frame not in missing)
        if len(frames) == len(record.frames) or len(frames) >= max(min_frames, 1):
            kept.append(dataclasses.replace(record, frames=frames))
    return tuple(kept)
