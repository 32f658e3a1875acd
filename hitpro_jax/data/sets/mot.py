"""Own video: tracker boxes in the MOT format and one video per camera -> person crops and a `Dataset`.

A line of boxes is `frame,track,x,y,w,h,...` with frames and pixels counted from 1; further columns are
ignored. Track numbers never reach training: each training tracklet is a short run of one track and has no
person id.
"""

import dataclasses
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from hitpro_jax.data.atomic import draft_of, remove_drafts
from hitpro_jax.data.protocols import GALLERY, QUERY, Protocol
from hitpro_jax.data.records import Dataset, Record, count
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB

_SOURCE = {"video", "boxes", "quality"}  # what source.json holds about the crops beside it
UNKNOWN = -1  # person id of a training tracklet
LIMIT = 10**9  # frame and track numbers are below it: they name files, and a float holds them exactly


@dataclasses.dataclass(frozen=True, slots=True)
class Camera:
    """One camera's video and its boxes.

    Attributes:
      video: path of the video.
      boxes: path of the MOT file with its tracks.
      modality: RGB (0) or IR (1).
      camid: camera number, >= 0; one camera may give one RGB and one IR video.
    """

    video: str
    boxes: str
    modality: int
    camid: int

    @property
    def view(self) -> str:
        """Name of its folder of crops."""
        return f"{'ir' if self.modality == IR else 'rgb'}_{self.camid}"


class Box(NamedTuple):
    """One line of a MOT file: its number, frame, track, and its box in pixels from the corner (0, 0)."""

    line: int
    frame: int
    track: int
    left: int
    top: int
    right: int
    bottom: int


def load(
    cameras: Sequence[Camera],
    cache: str,
    *,
    row_frames: int = 24,
    quality: int = 95,
    progress: bool = True,
) -> Dataset:
    """Cuts the boxes out of the videos, once, and returns their tracklets.

    Training set: every track, cut evenly into rows of at most `row_frames` frames; each row is a tracklet of its own
    without a person id. Evaluation, protocol `first_half_to_second_half`: the query is the first half of a track, the
    gallery the second, the person id its number (made distinct between cameras). It shows whether a tracker's tracks
    differ, not whether another camera finds a person again. A track of one frame is gallery only.

    Args:
      cameras: at least one, all of different views.
      cache: folder for the crops; a camera's, `rgb_<camid>` or `ir_<camid>`, are written anew when its video, boxes or
        `quality` change.
      row_frames: most frames of a training tracklet, >= 1.
      quality: of the JPEG crops, 1 to 100.
      progress: show a progress bar while crops are written.

    Returns:
      The data set, its root being `cache`.

    Raises:
      FileNotFoundError: if a video or a boxes file does not exist.
      ValueError: if a file's content is wrong; the message names file and line. Or if a camera's folder in the cache
        holds files that are no such crops.

    Choice: rows as in HITSZ-VCM, because a long track may change persons.
    """
    _check_cameras(cameras)
    train, query, gallery, first_pid = [], [], [], 0
    for camera in cameras:
        boxes = read_boxes(camera.boxes)
        _ensure_crops(camera, boxes, cache, quality, progress)
        for track, frames in _tracks(camera, boxes).items():
            rows = -(-len(frames) // row_frames)
            train += [_record(camera, row, UNKNOWN) for row in _split(frames, rows)]
            first, second = _split(frames, 2)
            gallery.append(_record(camera, second, first_pid + track))
            if first:
                query.append(_record(camera, first, first_pid + track))
        # every camera numbers its tracks by itself
        first_pid += 1 + max(box.track for box in boxes)
    splits = {"train": tuple(train), "query": tuple(query), "gallery": tuple(gallery)}
    counts = {name: count(records) for name, records in splits.items()}
    for name in ("query", "gallery"):  # which training tracklets are of one person is unknown
        counts[name]["ids"] = len({record.pid for record in splits[name]})
    return Dataset("mot", cache, **splits, counts=counts)


def read_boxes(path: str) -> list[Box]:
    """Returns the boxes of a MOT file in the order of (track, frame).

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it holds no box, or a line is not a box, has no track, or repeats a track's frame.
    """
    _check_file(path, "boxes")
    with open(path, encoding="utf-8-sig", errors="replace") as file:  # what is no text fails as a number, with its line
        boxes = [_parse(path, number, line) for number, line in enumerate(file, 1) if line.strip()]
    if not boxes:
        raise ValueError(f"{path} holds no boxes: give one line frame,track,x,y,w,h per box")
    boxes.sort(key=lambda box: (box.track, box.frame, box.line))
    for before, box in itertools.pairwise(boxes):
        if (before.track, before.frame) == (box.track, box.frame):
            raise ValueError(
                f"{path} line {box.line}: track {box.track} has another box in frame {box.frame} on line "
                f"{before.line}; keep one of them"
            )
    return boxes


def _parse(path: str, number: int, line: str) -> Box:
    where = f"{path} line {number}"
    try:
        frame, track, x, y, width, height = (float(field) for field in line.split(",")[:6])
        finite = np.isfinite([frame, track, x + width, y + height]).all()
    except ValueError:
        finite = False
    if not finite:
        raise ValueError(f"{where}: expected frame,track,x,y,w,h as numbers, but found {line.strip()[:99]!r}")
    if frame != int(frame) or track != int(track) or frame < 1:
        raise ValueError(f"{where}: frame must be a whole number from 1 and track a whole number: {line.strip()!r}")
    if max(frame, track) >= LIMIT:
        raise ValueError(f"{where}: frame {frame:.16g} or track {track:.16g} has over nine digits; number them anew")
    if track < 0:
        raise ValueError(f"{where}: track {track:.0f} means an untracked detection; run a tracker on the boxes first")
    if width <= 0 or height <= 0:
        raise ValueError(f"{where}: box width and height must be above 0, but are {width:g} x {height:g}")
    # MOT counts pixels from 1
    left, top, right, bottom = (round(v - 1) for v in (x, y, x + width, y + height))
    return Box(number, int(frame), int(track), left, top, right, bottom)


def _check_cameras(cameras: Sequence[Camera]) -> None:
    if not cameras:
        raise ValueError("no camera is given: name at least one video and its boxes")
    for camera in cameras:
        if camera.modality not in (RGB, IR) or camera.camid < 0:
            raise ValueError(
                f"{camera.video}: modality must be {RGB} (RGB) or {IR} (IR) and camid >= 0, "
                f"but they are {camera.modality} and {camera.camid}"
            )
    view, times = Counter(camera.view for camera in cameras).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} videos are of view {view}: give each its own camid")


def _check_file(path: str, what: str) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{what} file {path} does not exist: check its path")


def _tracks(camera: Camera, boxes: Sequence[Box]) -> dict[int, list[str]]:
    """Returns the crops of each track in the order of frames, relative to the cache."""
    tracks: dict[int, list[str]] = {}
    for box in boxes:
        tracks.setdefault(box.track, []).append(f"{camera.view}/{_crop_name(box)}")
    return tracks


def _crop_name(box: Box) -> str:
    return f"{box.track:06d}/{box.frame:06d}.jpg"


def _split(frames: Sequence[str], count: int) -> list[Sequence[str]]:
    """Returns `count` consecutive runs whose lengths differ by one at most, the shorter first."""
    edges = [k * len(frames) // count for k in range(count + 1)]
    return [frames[start:end] for start, end in itertools.pairwise(edges)]


def _record(camera: Camera, frames: Sequence[str], pid: int) -> Record:
    return Record(frames=tuple(frames), modality=camera.modality, camid=camera.camid, pid=pid)


def _ensure_crops(camera: Camera, boxes: Sequence[Box], cache: str, quality: int, progress: bool) -> None:
    """Writes the camera's crops unless those in the cache were made from the same files in the same way.

    They are written beside their final path and moved there whole: a killed run leaves no half-filled folder there,
    and what it leaves beside it the next run removes.
    """
    _check_file(camera.video, "video")
    source = {"video": _stamp(camera.video), "boxes": _stamp(camera.boxes), "quality": quality}
    folder = os.path.join(cache, camera.view)
    remove_drafts(folder)
    if _read_source(folder) == source:
        return
    partial = draft_of(folder)
    os.makedirs(partial)
    try:
        _write_crops(camera, boxes, partial, quality, progress)
        with open(os.path.join(partial, "source.json"), "w", encoding="utf-8") as file:
            json.dump(source, file)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _stamp(path: str) -> list[str | int]:
    status = os.stat(path)
    return [os.path.basename(path), status.st_size, status.st_mtime_ns]


def _read_source(folder: str) -> Mapping | None:
    """What the crops in the folder were made of; None: the folder is empty or missing."""
    if not os.path.lexists(folder) or os.path.isdir(folder) and not os.listdir(folder):
        return None
    try:
        with open(os.path.join(folder, "source.json"), encoding="utf-8") as file:
            source = json.load(file)
    except (OSError, ValueError):
        source = None
    if not isinstance(source, dict) or source.keys() != _SOURCE:
        raise ValueError(
            f"{folder} holds files, but no source.json of crops, and is not replaced by the crops of this "
            "view: move it, or set data.root to another folder"
        )
    return source


def _write_crops(camera: Camera, boxes: Sequence[Box], folder: str, quality: int, progress: bool) -> None:
    by_frame: dict[int, list[Box]] = {}
    for box in boxes:
        by_frame.setdefault(box.frame, []).append(box)
    for track in {box.track for box in boxes}:
        os.makedirs(os.path.join(folder, f"{track:06d}"))
    last, number = max(by_frame), 0
    bar = tqdm(total=last, desc=f"cropping {os.path.basename(camera.video)}", unit="frame", disable=not progress)
    with bar:
        for number, picture in _pictures(camera.video, last):
            if number == 1:
                # now that the size is known, before any crop is written
                _check_inside(camera, boxes, picture.shape)
            for box in by_frame.get(number, ()):
                # a negative start would count from the other side
                crop = picture[max(box.top, 0) : box.bottom, max(box.left, 0) : box.right]
                _write_jpeg(os.path.join(folder, _crop_name(box)), crop, quality)
            bar.update()
    if number < last:
        line = min(box.line for box in boxes if box.frame > number)
        raise ValueError(
            f"{camera.boxes} line {line}: a box beyond frame {number}, where {camera.video} ends or is "
            "broken; check that the boxes belong to this video"
        )


def _pictures(video: str, last: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (frame number from 1, BGR picture) up to frame `last` or the end of the video."""
    capture = cv2.VideoCapture(video)
    try:
        for number in range(1, last + 1):
            found, picture = capture.read()
            if not found and number == 1:
                raise ValueError(f"{video} cannot be read as a video: convert it to H.264 in MP4")
            if not found:
                return
            yield number, picture
    finally:
        capture.release()


def _check_inside(camera: Camera, boxes: Sequence[Box], shape: tuple[int, ...]) -> None:
    """Refuses boxes that lie wholly outside the picture; those that stick out are cut at its border."""
    height, width = shape[:2]
    outside = [
        box.line
        for box in boxes
        if min(box.right, width) <= max(box.left, 0) or min(box.bottom, height) <= max(box.top, 0)
    ]
    if outside:
        raise ValueError(
            f"{camera.boxes} line {min(outside)}: the box has no pixel in the {width}x{height} picture of "
            f"{camera.video} ({len(outside)} such lines); remove them or check that the boxes belong to it"
        )


def _write_jpeg(path: str, crop: np.ndarray, quality: int) -> None:
    # not imwrite, which returns False at a full disk and raises nothing
    _, data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])
    with open(path, "wb") as file:
        file.write(data.tobytes())


def _load(data: DataOptions, own: Any) -> Dataset:
    dataset = load([Camera(**dataclasses.asdict(camera)) for camera in data.cameras.values()], data.root)
    # the halves that are scored stay whole: a short track can be found too
    long = tuple(record for record in dataset.train if len(record.frames) >= data.min_frames)
    return dataclasses.replace(dataset, train=long)


SPEC = DatasetSpec(
    name="mot",
    title="your own video",
    load=_load,
    # without the camera rule: both halves of a track are of one camera
    protocols=(Protocol("first_half_to_second_half", "none", {"halves": (QUERY, GALLERY)}),),
    default_root=lambda data, own: "data/own_video",
    titles={"halves": "first half to second half"},
)
