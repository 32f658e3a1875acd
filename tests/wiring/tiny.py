"""A run on noise that opens in a moment: twenty-four tracklets of tiny pictures and an encoder of stems.

It is opened as a command opens one, through the config and `open_run`, so that a field dropped on the way is missed.
"""

import contextlib
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from ml_collections import ConfigDict

from configs import base
from hitpro_jax.data.records import SPLITS
from hitpro_jax.models import resnet
from hitpro_jax.models.backbones import BackboneSpec
from hitpro_jax.run import Run, open_run
from hitpro_jax.types import Mined, Positives, TrainState
from hitpro_jax.workdir import Workdir

SIZE, DIM, TRACKLETS, CAMERAS = (16, 8), 8, 24, 3
FIELDS = {
    "data.name": "folder",
    "data.min_frames": 1,
    "data.image_size": SIZE,
    "encoder.backbone": "tiny",
    "encoder.aggregator": "mean",
    "batch.tracklets_per_modality": 2,
    "batch.clip_length": 2,
    "prototypes.parts": 2,
    "prototypes.clip_length": 2,
    "prototypes.batch_size": 4,
    "eval.frames": 2,
    "eval.batch_size": 4,
    "train.epochs": 3,
    "train.steps_per_epoch": 2,
    "optim.warmup_steps": 1,
}


def backbone(depths: tuple[int, ...] = ()) -> BackboneSpec:
    """A backbone for `BACKBONES`, stems alone unless depths are given; it reads every switch that the others read."""
    make = partial(
        resnet.ResNet,
        block=resnet.BasicBlock,
        depths=depths,
        widths=(DIM,) * len(depths),
        strides=(1,) * len(depths),
        stem_width=DIM,
        stem_kernel=3,
        stem_pool=False,
    )
    return BackboneSpec(make, DIM)


def write_folder(root: Path) -> str:
    """Tracklets of noise, four to nine frames each, with query and gallery; two tables, of which one lacks a row."""
    rng, lines = np.random.default_rng(0), []
    for split, size in zip(SPLITS, (TRACKLETS, 6, 6), strict=True):
        for number in range(size):
            name, modality = f"{split}{number}", {"query": "ir", "gallery": "rgb"}.get(split, ("rgb", "ir")[number % 2])
            (root / name).mkdir(parents=True)
            for frame in range(4 + number % 6):
                picture = rng.integers(0, 256, (*SIZE, 3 if modality == "rgb" else 1), np.uint8)
                cv2.imwrite(str(root / name / f"{frame}.png"), np.broadcast_to(picture, (*SIZE, 3)))
            lines.append(f"{name},{modality},{number // 2 % CAMERAS},{number // 4},{split}")
    head = "tracklet,modality,camera,pid,split"
    (root / "tracklets.csv").write_text("\n".join([head, *lines]) + "\n")
    (root / "fewer.csv").write_text("\n".join([head, *lines[1:]]) + "\n")
    return str(root)


def config_of(fields: Mapping[str, Any]) -> ConfigDict:
    """`configs/base.py` with the tiny run's fields, and others."""
    config = base.get_config()
    config.update_from_flattened_dict({**FIELDS, **fields})
    return config


@contextlib.contextmanager
def opened(workdir: Path, fields: Mapping[str, Any]) -> Generator[Run]:
    """A run of the tiny fields and others; what it prints goes to its log alone."""
    with Workdir(workdir) as files:
        yield open_run(config_of(fields), files)


def people(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sub-tracklet features [N, 2, D] of six persons in loose clouds, and the person [N] of each tracklet."""
    rng = np.random.default_rng(seed)
    person = np.arange(TRACKLETS) // 4
    features = rng.normal(size=(6, DIM))[person][:, None] + 0.35 * rng.normal(size=(TRACKLETS, 1, DIM))
    return (features + 0.15 * rng.normal(size=(TRACKLETS, 2, DIM))).astype(np.float32), person


def bank_parts(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The features of `people` as a refresh gets them, padded to the rows of the bank, and their mask."""
    features, _ = people(seed)
    padding = rows - len(features)
    return np.pad(features, ((0, padding), (0, 0), (0, 0))), np.repeat((np.arange(rows) < TRACKLETS)[:, None], 2, 1)


def positives(modality: np.ndarray, *, same: bool, rows: int, columns: int) -> Positives:
    """Made-up positives of every tracklet: some of its own or of the other modality, of unequal weight."""
    index = np.full((rows, columns), -1, np.int32)
    weight = np.zeros((rows, columns), np.float32)
    for row in range(len(modality)):
        wanted = [(row + step) % len(modality) for step in range(1, len(modality))]
        chosen = [other for other in wanted if (modality[other] == modality[row]) == same][:3]
        index[row, :3], weight[row, :3] = chosen, (0.7, 0.2, 0.1) if same else (0.05, 0.35, 0.6)
    return Positives(index, weight, np.full((rows, 1), -1, np.int32), np.zeros(2, np.float32))


def with_positives(run: Run) -> TrainState:
    """The state at step 0 of a run, its memory with made-up positives in both tables."""
    state, modality = run.training.state, run.training.data.info.modality
    rows, columns = state.memory.within.index.shape
    within, across = (positives(modality, same=same, rows=rows, columns=columns) for same in (True, False))
    return state._replace(memory=state.memory._replace(within=within, across=across))


def mined(run: Run, state: TrainState) -> Mined:
    """What a state's memory says of the tracklets, on the host."""
    return jax.tree.map(np.asarray, run.training.method.mined(state.memory))
