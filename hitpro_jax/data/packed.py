"""Packed cache: every listed frame decoded and scaled once into ArrayRecord files, so that training only reads them.

A cache is a folder of
  manifest.json       version, image size, quality, number of frames, CRC32 of frames.json, name and size of each shard
  frames.json         path of each frame to size and time of change of its file, and its index in the shards, -1: none
  <n>.array_record    the frames, uint8 [H, W, 3] in RGB order, or their JPEG
ArrayRecord keeps a hash with every record and checks it whenever the record is read.
Choice: this format, because Grain reads it and a data set becomes some hundred files instead of half a million, which
network disks serve faster.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import cv2
import grain
import numpy as np
from array_record.python import array_record_module  # ty: ignore[missing-module-member], a compiled one

from hitpro_jax.data import images
from hitpro_jax.data.atomic import workers
from hitpro_jax.data.records import SPLITS, Dataset, FrameError, stamps

VERSION = 1
SHARD = 1024  # frames of one file: 127 MB of 288 x 144 pixels
ABSENT = -1  # position of a frame that does not decode
REMEDY = "run the same command with --mode=pack"

_FILES = re.compile(r"manifest\.json|frames\.json|[0-9]{5,}\.array_record")
_KEYS = {"version", "image_size", "quality", "crc32", "shards"}  # of a manifest
_BEGINNING = b'{\n "version":'  # of a manifest, also of one that is cut short

Progress = Callable[[Iterable, int], Iterable]


@dataclasses.dataclass(frozen=True)
class PackedFrames:
    """Frames by the paths under which their data set lists them.

    Attributes:
      folder: the cache.
      image_size: (H, W) in pixels.
      quality: of the JPEG; 0: frames are kept as they are.
      positions: path to the frame's position in the shards.
      shards: paths of the ArrayRecord files.
    """

    folder: str
    image_size: tuple[int, int]
    quality: int
    positions: Mapping[str, int]
    shards: tuple[str, ...]

    @functools.cached_property
    def _source(self) -> grain.sources.ArrayRecordDataSource:
        return grain.sources.ArrayRecordDataSource(self.shards)

    def read(self, path: str) -> np.ndarray:
        """Returns the frame, uint8 [H, W, 3] in RGB order, read-only.

        Raises:
          images.Unreadable: the frame's file did not decode when the cache was made.
          FrameError: the cache is damaged.
        """
        position = self.positions[path]
        if position == ABSENT:
            raise images.Unreadable("does not decode as an image")
        try:
            data = self._source[position]
        except (RuntimeError, IndexError, OSError):  # what ArrayRecord raises at a wrong hash or a missing end
            raise FrameError(f"packed cache {self.folder} is damaged at frame {path}: {REMEDY}", [path]) from None
        if self.quality:
            return images.decode(data, self.image_size)
        return np.frombuffer(data, np.uint8).reshape(*self.image_size, 3)

    def __getstate__(self) -> dict:
        # a worker process opens the shards itself
        return {key: value for key, value in self.__dict__.items() if key != "_source"}


def open_frames(
    folder: str, dataset: Dataset, image_size: tuple[int, int], quality: int, progress: Progress | None = None
) -> PackedFrames:
    """Opens a cache. It compares names, sizes and times of all source files, and reads no pixel of them.

    Args:
      folder: as given to `make`.
      dataset: whose frames will be read; the cache may hold more.
      image_size: (H, W) in pixels that are wanted now.
      quality: that is wanted now, as for `make`.
      progress: of `records.stamps`.

    Returns:
      The frames of the cache.

    Raises:
      ValueError: there is no cache, or it was made of other files or in another way, or its path is a file; the message
        names the case.
    """
    found = _open(folder, image_size, quality, stamps(dataset, progress=progress), _paths(dataset))
    if isinstance(found, str):
        raise ValueError(f"{found}: {REMEDY}")
    return found


def make(
    folder: str,
    dataset: Dataset,
    image_size: tuple[int, int],
    *,
    quality: int = 0,
    jobs: int = 0,
    allow_missing: bool = False,
    log: Callable[[str], None] = print,
    progress: Progress = lambda items, total: items,
) -> PackedFrames:
    """Packs the data set's frames, unless the cache there is whole: then every record of it is read once.

    It is written beside its final path and moved there whole, so that no reader meets half a cache.

    Args:
      folder: of the cache, links resolved. It and `<folder>.partial` are removed to make the cache anew, and so
        refused where they hold any file that is not one of a packed cache, are a file or are a mount point.
      dataset: its listed frames are packed, all splits.
      image_size: (H, W) in pixels.
      quality: 0 keeps pixels as they are; 1 to 100 writes them as JPEG again, about a sixth of the size at 90, and
        changes them a little.
      jobs: processes; 0: one per core.
      allow_missing: note frames that do not decode instead of raising an error.
      log: takes a line about what is done and why.
      progress: as for `records.verify_files`; shows shards.

    Returns:
      The frames of the cache.

    Raises:
      ValueError: quality out of range, or the folder, or `<folder>.partial`, holds other files, is one or cannot be
        removed.
      OSError: the disk is too small.
      FrameError: a frame does not decode.
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"data.packed_quality must be 0 (exact) or 1 to 100, but is {quality}")
    folder = os.path.realpath(folder)  # a link cannot be replaced by a folder, and the disk is the target's
    paths, now = _paths(dataset), stamps(dataset)
    found = _open(folder, image_size, quality, now, paths)
    fault = found if isinstance(found, str) else _damage(found, progress)
    if fault is None and isinstance(found, PackedFrames):
        log(f"packed cache {folder} is whole: {len(found.positions):,} frames")
        return found
    draft = f"{folder}.partial"
    for path in (folder, draft):
        _require_replaceable(path)
    log(f"{fault}: packing {len(paths):,} frames")
    # the size of JPEG is not known beforehand
    _require_space(folder, 0 if quality else len(paths) * image_size[0] * image_size[1] * 3)
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    os.makedirs(draft)
    try:
        task = functools.partial(_write_shard, draft, dataset.root, image_size, quality, allow_missing)
        absent = _write_shards(task, paths, jobs, progress)
        _write_index(draft, paths, absent, now, image_size, quality)
        _require_replaceable(folder)  # packing takes hours, in which someone may have put files there
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    found = _open(folder, image_size, quality, now, paths)
    if isinstance(found, str):
        raise OSError(f"{found} although it was written just now: check the disk")
    log(f"packed cache {folder}: {len(paths) - len(absent):,} frames, {len(absent):,} that do not decode")
    return found


def _paths(dataset: Dataset) -> list[str]:
    """Every listed frame once; frames that follow each other in a tracklet stay neighbours."""
    return list(
        dict.fromkeys(frame for split in SPLITS for record in getattr(dataset, split) for frame in record.frames)
    )


def _open(folder, image_size, quality, now, paths) -> PackedFrames | str:
    """The cache, or what keeps it from being used; `now` are the stamps of the source files."""
    name = f"packed cache {folder}"
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        with open(os.path.join(folder, "frames.json"), "rb") as file:
            index = file.read()
        # basename: a manifest cannot name a file outside of its folder
        shards = {os.path.join(folder, os.path.basename(shard)): size for shard, size in manifest["shards"]}
        made = manifest["version"], tuple(manifest["image_size"]), manifest["quality"]
        whole = manifest["crc32"] == zlib.crc32(index) and all(os.path.getsize(s) == n for s, n in shards.items())
    except FileNotFoundError as error:
        there = os.path.isdir(folder)
        return f"{name} lacks {os.path.basename(error.filename)}" if there else f"there is no {name}"
    except NotADirectoryError:
        raise _no_folder(folder) from None
    except (ValueError, KeyError, TypeError):
        return f"{name} has a damaged manifest"
    if not whole:
        return f"{name} is damaged"
    wanted = VERSION, tuple(image_size), quality
    if made != wanted:
        return f"{name} was made for version, size and quality {made}, not {wanted}"
    known = json.loads(index)
    # size and time of change of the source file; one that is gone has neither
    differing = [path for path in paths if path not in known or known[path][:2] != [*now.get(path, ())]]
    if differing:
        return f"{name} was made before {len(differing):,} frames were added or changed, first {differing[0]}"
    positions = {path: position for path, (_, _, position) in known.items()}
    return PackedFrames(folder, tuple(image_size), quality, positions, tuple(shards))


def _no_folder(path: str) -> ValueError:
    return ValueError(f"data.packed: {path} is a file or lies in one: name the folder of a packed cache")


def _require_replaceable(folder: str) -> None:
    """Raises ValueError where what is to be removed is no folder of its own that holds a packed cache, whole or not."""
    if os.path.isfile(folder):
        raise _no_folder(folder)
    if os.path.ismount(folder):
        raise ValueError(
            f"data.packed: {folder} is a mount point, which no other folder can replace: name a folder below it"
        )
    for name in sorted(os.listdir(folder)) if os.path.exists(folder) else ():
        path = os.path.join(folder, name)
        known = _FILES.fullmatch(name) and os.path.isfile(path)
        if not known or name == "manifest.json" and not _is_manifest(path):
            raise ValueError(
                f"data.packed: {folder} holds other files than a packed cache, first {path}: name another folder"
            )


def _is_manifest(path: str) -> bool:
    with open(path, "rb") as file:
        text = file.read()
    try:
        return set(json.loads(text)) >= _KEYS
    except (ValueError, TypeError):  # cut short, or another file
        return _BEGINNING.startswith(text[: len(_BEGINNING)])


def _damage(frames: PackedFrames, progress: Progress) -> str | None:
    """Reads every record."""
    try:
        for path, position in progress(frames.positions.items(), len(frames.positions)):
            if position != ABSENT:
                frames.read(path)
    except (FrameError, images.Unreadable) as error:
        return str(error).removesuffix(f": {REMEDY}")
    return None


def _require_space(folder: str, needed: int) -> None:
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise OSError(
            f"data.packed: {folder} needs {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free: "
            "name another folder, or set data.packed_quality=90 for JPEG"
        )


def _write_shards(task: Callable, paths: Sequence[str], jobs: int, progress: Progress) -> set[str]:
    """Writes all shards and returns the frames that do not decode."""
    shards = [paths[first : first + SHARD] for first in range(0, len(paths), SHARD)]
    jobs = min(jobs or os.cpu_count() or 1, len(shards))
    if jobs == 1:
        return set().union(*progress(map(task, range(len(shards)), shards), len(shards)))
    with workers(jobs) as pool:
        try:
            return set().union(*progress(pool.map(task, range(len(shards)), shards), len(shards)))
        except BaseException:
            # otherwise leaving the pool would first pack all shards that wait
            pool.shutdown(cancel_futures=True)
            raise


def _write_shard(draft, root, image_size, quality, allow_missing, number: int, paths: Sequence[str]) -> set[str]:
    absent = set()
    name = os.path.join(draft, f"{number:05d}.array_record")
    try:
        # one record a group, because frames are read one by one and in random order
        writer = array_record_module.ArrayRecordWriter(name, "group_size:1,uncompressed")
        for path in paths:
            try:
                frame = images.read(os.path.join(root, path), image_size)
            except images.Unreadable as fault:
                if not allow_missing:
                    raise FrameError(
                        f"frame {os.path.join(root, path)} {fault}: restore it, or set "
                        "data.allow_missing to leave such frames out",
                        [path],
                    ) from None
                absent.add(path)
                continue
            writer.write(_encode(frame, quality))
        writer.close()
    except RuntimeError as error:  # ArrayRecord's only kind
        raise OSError(f"{name} cannot be written ({error}): check the disk") from None
    return absent


def _encode(frame: np.ndarray, quality: int) -> bytes:
    if not quality:
        return frame.tobytes()
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)  # OpenCV writes BGR
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _write_index(draft, paths, absent, now, image_size, quality) -> None:
    """Writes frames.json, then the manifest: without it the cache is not used."""
    known, position = {}, 0
    for path in paths:
        known[path] = [*now[path], ABSENT if path in absent else position]
        position += path not in absent  # what does not decode takes no record
    index = json.dumps(known).encode()
    with open(os.path.join(draft, "frames.json"), "wb") as file:
        file.write(index)
    shards = sorted(name for name in os.listdir(draft) if name.endswith(".array_record"))
    manifest = {
        "version": VERSION,
        "image_size": list(image_size),
        "quality": quality,
        "frames": position,
        "crc32": zlib.crc32(index),
        "shards": [[name, os.path.getsize(os.path.join(draft, name))] for name in shards],
    }
    with open(os.path.join(draft, "manifest.json"), "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
