"""A synthetic visible-infrared camera network, written to disk in the HITSZ-VCM layout.

A pure function of its seeds: `World.seed` draws the people, `World.camera_seed` the cameras. The files are read back
by `hitsz_vcm.load`, so nothing in training knows that they are synthetic. It is a test bed, not a benchmark: scores on
it compare methods under controlled conditions, and do not show how good a model is on people.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hitpro_jax.data.atomic import draft_of, remove_drafts, workers
from hitpro_jax.data.synthetic import drawing
from hitpro_jax.types import IR, RGB

VERSION = 3  # raise it whenever the same seeds would draw other pictures
PRETRAINING_SEED = 9000  # of the people and cameras on which the shipped weights were trained: not for anything else
ROW_FRAMES = 24  # a stay is cut into rows of at most 24 frames, as in HITSZ-VCM
FRAME_STRIDE = 5  # frame numbers on disk run 1, 6, 11, ... as in HITSZ-VCM
MODALITY_CODE = {IR: (1, "ir"), RGB: (2, "rgb")}  # M1 = infrared, M2 = RGB in the index files


@dataclass(frozen=True)
class World:
    """Sizes and seeds of one synthetic data set; people per split, frames, pixels, probabilities."""

    seed: int = 0
    camera_seed: int = 0
    cameras: int = 6
    train_ids: int = 160
    test_ids: int = 40
    views_per_modality: tuple[int, int] = (2, 3)  # cameras that see a person, per modality, inclusive
    stay_frames: tuple[int, int] = (16, 40)  # frames of one stay in one view, inclusive
    image_size: tuple[int, int] = (64, 32)  # height, width
    contaminated: float = 0.02  # share of rows in which some frames show another person
    occluded: float = 0.15  # share of stays with a passing occluder
    infrared: bool = True  # False: visible light only (the pretraining set)
    infrared_views: tuple[int, int] | None = None  # as views_per_modality, where infrared has others
    one_modality: float = 0.0  # share of the training people whom only visible or only infrared cameras see


PRESETS = {
    "tiny": World(cameras=3, train_ids=6, test_ids=5, views_per_modality=(2, 3), stay_frames=(14, 30)),
    "small": World(),
    "medium": World(train_ids=320),
    "large": World(cameras=12, train_ids=500, test_ids=427, views_per_modality=(2, 4), stay_frames=(24, 152)),
    # as large as "small", and harder in one respect each
    "cameras": World(cameras=12),
    "contaminated": World(contaminated=0.1),
    "unbalanced": World(views_per_modality=(3, 4), infrared_views=(1, 1)),
    "open_set": World(one_modality=0.3),
}


@dataclass(frozen=True)
class Camera:
    """What one camera does to every picture; `cast`, `gain` etc. are [3] for colour and scalars for infrared."""

    yaw: float  # walking direction that the corridor imposes, radians
    squeeze: float
    scale: float  # share of the crop's height that the body fills
    resolution: float  # pixels are lost below 1
    blur: float
    noise: tuple[float, float]  # colour, infrared
    gain: np.ndarray  # [3]
    gamma: tuple[float, float]
    infrared_gain: float
    falloff: float  # of the infrared illuminator towards the edges
    haze: float  # infrared light scattered back into the lens: it lifts black and takes contrast
    rows: float  # row noise of the infrared sensor
    horizon: float  # where floor meets wall, share of the height
    slope: float  # light changes across the picture
    ground: drawing.Material
    wall: drawing.Material
    texture: np.ndarray  # [64, 128] relief of the background, shared by both modalities
    quality: int  # of the JPEG


def draw_camera(rng: np.random.Generator) -> Camera:
    """One random camera: where it hangs, its optics, its sensor and the scene behind people."""
    coarse = rng.normal(size=(8, 16)).astype(np.float32)
    fine = rng.normal(size=(32, 64)).astype(np.float32)
    texture = cv2.resize(coarse, (128, 64)) * 0.10 + cv2.resize(fine, (128, 64)) * 0.05
    return Camera(
        yaw=rng.uniform(0.0, np.pi),
        squeeze=rng.uniform(0.86, 1.0),
        scale=rng.uniform(0.82, 0.95),
        resolution=rng.uniform(0.75, 1.0),
        blur=rng.uniform(0.0, 0.5),
        noise=(rng.uniform(0.01, 0.03), rng.uniform(0.005, 0.015)),
        gain=(rng.uniform(0.65, 1.25) * rng.uniform(0.75, 1.25, 3)).astype(np.float32),
        gamma=(rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.35)),
        infrared_gain=rng.uniform(0.75, 1.05),
        falloff=rng.uniform(0.0, 0.5),
        haze=rng.uniform(0.68, 0.82),
        rows=rng.uniform(0.001, 0.003),
        horizon=rng.uniform(0.3, 0.6),
        slope=rng.uniform(-0.3, 0.3),
        ground=drawing.draw_surface(rng),
        wall=drawing.draw_surface(rng),
        texture=texture,
        quality=int(rng.integers(93, 99)),
    )


@dataclass(frozen=True)
class Row:
    """One row of the index: paths are relative to the split's folder."""

    pid: int
    modality: int
    camid: int
    names: tuple[str, ...]


def render_stay(
    rng, person: drawing.Person, stranger: drawing.Person, world: World, camera: Camera, infrared: bool, frames: int
) -> np.ndarray:
    """Draws one stay of a person in one view; uint8 [frames, H, W, 3] (or [.., 1] for infrared)."""
    pose = _walk(rng, person, world, camera, frames)
    picture = _background(rng, world, camera, infrared, frames)
    canvas = drawing.Canvas(picture, pose, infrared)
    drawing.draw_body(canvas, person, pose)
    for start in range(0, frames, ROW_FRAMES):
        if rng.random() < world.contaminated:
            _swap_in(rng, picture, stranger, world, camera, infrared, pose, start, min(start + ROW_FRAMES, frames))
    if rng.random() < world.occluded:
        _occlude(rng, picture, camera, infrared)
    return _expose(rng, picture, camera, infrared)


def _walk(rng, person, world: World, camera: Camera, frames: int) -> drawing.Pose:
    height, width = world.image_size
    t = np.arange(frames)
    body = height * camera.scale * rng.uniform(0.94, 1.04) * (1.0 + 0.04 * _drift(rng, frames))
    low, left = rng.normal(0.0, (0.02 * height, 0.03 * width))  # every track has a box that sits a little differently
    yaw = camera.yaw + (np.pi if rng.random() < 0.5 else 0.0) + rng.normal(0.0, 0.25)
    phase = rng.uniform(0.0, 2.0 * np.pi) + person.cadence * rng.uniform(0.9, 1.1) * t
    # twice a gait cycle, once a step
    bob = 0.012 * body * np.abs(np.sin(phase))
    return drawing.Pose(
        centre=0.5 * width + left + 0.05 * width * _drift(rng, frames) + rng.normal(0.0, 0.3, frames),
        top=0.5 * (height - body) + low + 0.02 * height * _drift(rng, frames) - bob,
        height=body,
        phase=phase,
        yaw=float(yaw),
        squeeze=camera.squeeze,
    )


def _drift(rng, frames: int) -> np.ndarray:
    """A smooth random walk of about unit size, [frames]."""
    # a knot every eight frames, lines between them
    knots = np.cumsum(rng.normal(0.0, 0.6, frames // 8 + 3))
    return np.interp(np.arange(frames) / 8.0, np.arange(knots.size), knots - knots.mean()).clip(-2.0, 2.0)


def _background(rng, world: World, camera: Camera, infrared: bool, frames: int) -> np.ndarray:
    """The camera's own scene behind a box that moves along with the walker; [frames, H, W, C] float32."""
    height, width = world.image_size
    relief = cv2.resize(camera.texture, (4 * width, height))
    ground, wall = camera.ground.seen(infrared), camera.wall.seen(infrared)
    # floor and wall meet over an eighth of the height
    below = np.clip((np.arange(height) / height - camera.horizon) * 8.0 + 0.5, 0.0, 1.0)[:, None, None]
    scene = (wall + below * (ground - wall)) * (1.0 + relief[..., None])
    start, speed = rng.integers(0, 3 * width), rng.uniform(1.0, 3.0)
    # the relief is four boxes wide: a box that reaches its end begins anew
    offsets = (start + speed * np.arange(frames)).astype(int) % (3 * width)
    return np.stack([scene[:, o : o + width] for o in offsets]).astype(np.float32)


def _swap_in(rng, picture, stranger, world, camera, infrared, pose, start: int, stop: int) -> None:
    """A tracker's identity switch: a run of 30-60 % of a row's frames shows somebody else."""
    length = max(1, int((stop - start) * rng.uniform(0.3, 0.6)))
    first = int(rng.integers(start, stop - length + 1))
    part = slice(first, first + length)
    other = replace(pose, **{k: getattr(pose, k)[part] for k in ("centre", "top", "height", "phase")})
    view = _background(rng, world, camera, infrared, length)
    drawing.draw_body(drawing.Canvas(view, other, infrared), stranger, other)
    picture[part] = view


def _occlude(rng, picture, camera: Camera, infrared: bool) -> None:
    """Something stands in the way of a run of frames: a pole that passes, or a low wall."""
    frames, height, width, _ = picture.shape
    length = max(1, int(frames * rng.uniform(0.2, 0.5)))
    first = int(rng.integers(0, frames - length + 1))
    colour = drawing.draw_surface(rng).seen(infrared)
    if rng.random() < 0.5:
        picture[first : first + length, int(height * rng.uniform(0.6, 0.8)) :] = colour
        return
    wide = int(width * rng.uniform(0.15, 0.4))
    for k, frame in enumerate(range(first, first + length)):
        x = int(-wide + (width + wide) * (k + 1) / (length + 1))
        picture[frame, :, max(0, x) : max(0, x + wide)] = colour


def _expose(rng, picture, camera: Camera, infrared: bool) -> np.ndarray:
    """Light, optics and sensor: reflectance [T, H, W, C] to uint8 pixels."""
    frames, height, width, channels = picture.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    light = 1.0 + camera.slope * x
    if infrared:
        light = light * camera.infrared_gain * (1.0 - camera.falloff * 0.5 * (x * x + y * y))
    else:
        light = light[..., None] * camera.gain
    light = light.reshape(height, width, channels) * (1.0 + 0.10 * _drift(rng, frames)).reshape(-1, 1, 1, 1)
    picture = np.clip(picture * light, 0.0, 1.0) ** camera.gamma[infrared]  # False picks colour, True infrared
    small = (max(8, round(width * camera.resolution)), max(8, round(height * camera.resolution)))
    out = np.empty(picture.shape, np.float32)
    for k, frame in enumerate(picture.astype(np.float32)):
        # a narrower kernel gives a pixel's neighbours less than a hundredth
        if camera.blur > 0.3:
            frame = cv2.GaussianBlur(frame, (0, 0), camera.blur)
        frame = cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height))
        out[k] = frame.reshape(height, width, channels)
    out += rng.normal(0.0, camera.noise[infrared], out.shape)
    if infrared:
        out = camera.haze + (1.0 - camera.haze) * out
        out += rng.normal(0.0, camera.rows, (frames, height, 1, 1))
    # + 0.5 rounds, as the cast cuts off
    return (np.clip(out, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def ensure(root: str | Path, world: World, jobs: int = 1) -> Path:
    """Writes the world below `root` unless the same world lies there already; returns `root`.

    The set is drawn in a temporary folder beside `root` and renamed at the end, so a half-written one is never read.

    Args:
      root: folder of the set; its parents are made.
      world: what is drawn.
      jobs: processes that draw; 0: one per core.

    Returns:
      `root`.

    Raises:
      ValueError: `root` holds something else.
    """
    root = Path(root)
    remove_drafts(root)
    if _there(root, world):
        return root
    jobs = jobs or os.cpu_count() or 1
    draft = Path(draft_of(root))
    draft.mkdir(parents=True)
    try:
        for split, folder in (("train", "Train"), ("test", "Test")):
            rows = sorted(_draw_split(draft / folder, world, split, jobs), key=lambda r: (r.pid, r.modality, r.camid))
            _write_index(draft / "info", split, rows)
        (draft / "world.json").write_text(json.dumps(_stamp(world), indent=1))
        if not _there(root, world):  # another process may have drawn it in the meantime
            if root.exists():
                # empty, or `_there` would have raised
                root.rmdir()
            draft.rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def _there(root: Path, world: World) -> bool:
    """Whether the world lies at `root`; False: nothing does.

    Raises:
      ValueError: something else does.
    """
    if not root.exists() or not any(root.iterdir()):
        return False
    written = root / "world.json"
    # a field that a written world does not know yet stood at its default there
    if written.is_file() and _stamp(World()) | json.loads(written.read_text()) == _stamp(world):
        return True
    raise ValueError(
        f"{root} is not the synthetic world asked for ({world}); remove that folder or set data.root to another one."
    )


def _stamp(world: World) -> dict:
    """What world.json holds."""
    return json.loads(json.dumps({"version": VERSION, **asdict(world)}))


def _draw_split(folder: Path, world: World, split: str, jobs: int) -> Iterator[Row]:
    first = 1 if split == "train" else world.train_ids + 1
    count = world.train_ids if split == "train" else world.test_ids
    tasks = [(folder, world, pid) for pid in range(first, first + count)]
    progress = tqdm(total=count, desc=f"drawing {split} people", unit="person", mininterval=2.0)
    with progress:
        if jobs <= 1:
            for task in tasks:
                yield from _write_person(task)
                progress.update()
        else:
            with workers(jobs) as pool:
                for rows in pool.map(_write_person, tasks):
                    yield from rows
                    progress.update()


def people(world: World, pid: int) -> drawing.Person:
    """The person of this number, from 1; a function of the world's seed alone."""
    return drawing.draw_person(np.random.default_rng([world.seed, 1, pid]))


def cameras(world: World) -> list[Camera]:
    """All cameras, in the order of their numbers from 1; a function of the world's camera seed alone."""
    return [draw_camera(np.random.default_rng([world.camera_seed, 2, c])) for c in range(1, world.cameras + 1)]


def _modalities(world: World, pid: int) -> tuple[int, ...]:
    """The modalities in which a person is seen; test people, whom queries must find, in all that there are."""
    if not world.infrared:
        return (RGB,)
    alone, which = np.random.default_rng([world.seed, 4, pid]).random(2)  # its own draw: nothing else moves
    if pid <= world.train_ids and alone < world.one_modality:
        return (RGB,) if which < 0.5 else (IR,)
    return RGB, IR


def _write_person(task) -> list[Row]:
    folder, world, pid = task
    rng = np.random.default_rng([world.seed, 3, pid])
    network = cameras(world)
    training = pid <= world.train_ids
    first, count = (1, world.train_ids) if training else (world.train_ids + 1, world.test_ids)
    rows = []
    for modality in _modalities(world, pid):
        low, high = (modality == IR and world.infrared_views) or world.views_per_modality
        seen_by = rng.choice(world.cameras, size=min(world.cameras, int(rng.integers(low, high + 1))), replace=False)
        for index in sorted(seen_by):
            other = first + (pid - first + int(rng.integers(1, max(2, count)))) % count  # of the same split
            stranger = people(world, other)
            frames = int(rng.integers(world.stay_frames[0], world.stay_frames[1] + 1))
            pixels = render_stay(rng, people(world, pid), stranger, world, network[index], modality == IR, frames)
            rows += _write_stay(folder, pid, modality, int(index) + 1, pixels, network[index].quality)
    return rows


def _write_stay(folder: Path, pid: int, modality: int, camid: int, pixels: np.ndarray, quality: int) -> list[Row]:
    code, kind = MODALITY_CODE[modality]
    below = folder / f"{pid:04d}" / kind / f"D{camid}"
    below.mkdir(parents=True)
    names = []
    for k, frame in enumerate(pixels):
        number = 1 + FRAME_STRIDE * k
        # OpenCV writes BGR
        cv2.imwrite(str(below / f"{number}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        names.append(f"{pid:04d}M{code}D{camid}T{k // ROW_FRAMES + 1}F{number}.jpg")
    return [Row(pid, modality, camid, tuple(names[s : s + ROW_FRAMES])) for s in range(0, len(names), ROW_FRAMES)]


def _write_index(info: Path, split: str, rows: list[Row]) -> None:
    info.mkdir(parents=True, exist_ok=True)
    names, lines, queries = [], [], []
    for number, row in enumerate(rows, start=1):
        lines.append(
            f"{MODALITY_CODE[row.modality][0]} {len(names) + 1} {len(names) + len(row.names)} {row.pid} {row.camid}"
        )
        names += row.names
        if row.modality == IR:
            queries.append(str(number))
    (info / f"{split}_name.txt").write_text("\n".join(names) + "\n")
    (info / f"track_{split}_info.txt").write_text("\n".join(lines) + "\n")
    if split == "test":
        queries = queries or ["1"]  # visible light only: the reader wants both sets, and the scorer joins them
        (info / "query_IDX.txt").write_text(" ".join(queries) + "\n")
