"""Small random worlds of prototypes with people, cameras and modalities in them, and random tables of neighbours."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hitpro_jax.kernels.search.candidates import Neighbours
from hitpro_jax.types import TrackletInfo

WORLDS = {  # keywords of `world`
    "ordinary": {"seed": 1},
    "another": {"seed": 2},
    "one camera": {"seed": 3, "cameras": 1},
    "one modality": {"seed": 4, "modalities": 1},
    "all padding": {"seed": 5, "padding": 23},
    "one tracklet": {"seed": 6, "padding": 22},
}


class World(NamedTuple):
    prototypes: np.ndarray  # [P, D] float32 unit rows
    modality: np.ndarray  # [P] int32
    camera: np.ndarray  # [P] int32
    view: np.ndarray  # [P] int32
    valid: np.ndarray  # [P] bool
    reliability: np.ndarray  # [P] float32

    @property
    def info(self) -> TrackletInfo:
        return TrackletInfo(*map(jnp.asarray, (self.modality, self.camera, self.view, self.valid)))


def world(
    seed: int, *, size: int = 23, width: int = 7, cameras: int = 3, modalities: int = 2, padding: int = 3
) -> World:
    """People with a position in feature space, moved by camera and modality; padding rows are noise."""
    rng = np.random.default_rng(seed)
    modality = rng.integers(0, modalities, size)
    camera = rng.integers(0, cameras, size)
    people = rng.normal(size=(max(size // 4, 1), width))
    shift = 0.3 * rng.normal(size=(2, cameras, width)) + 0.5 * rng.normal(size=(2, 1, width))
    features = people[rng.integers(0, len(people), size)] + shift[modality, camera]
    features = features + 0.3 * rng.normal(size=(size, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return World(
        prototypes=features.astype(np.float32),
        modality=modality.astype(np.int32),
        camera=camera.astype(np.int32),
        view=(modality * cameras + camera).astype(np.int32),
        valid=rng.permutation(size) >= padding,
        reliability=rng.uniform(0.3, 1.0, size).astype(np.float32),
    )


def table(seed: int = 0, size: int = 11, width: int = 6) -> tuple[Neighbours, np.random.Generator]:
    """A random table in which every row lists distinct others, with some short rows; and the generator behind it."""
    rng = np.random.default_rng(seed)
    index = np.full((size, width), -1, np.int32)
    similarity = np.full((size, width), -np.inf, np.float32)
    for i in range(size):
        length = rng.integers(0, width + 1)
        index[i, :length] = rng.permutation([j for j in range(size) if j != i])[:length]
        similarity[i, :length] = np.sort(rng.uniform(-0.2, 1.0, length))[::-1]
    return Neighbours(index, similarity), rng
