"""Small random worlds of prototypes with people, cameras and modalities in them."""

from typing import NamedTuple

import numpy as np


class World(NamedTuple):
    prototypes: np.ndarray  # [P, D] float32 unit rows
    modality: np.ndarray  # [P] int32
    camera: np.ndarray  # [P] int32
    view: np.ndarray  # [P] int32
    valid: np.ndarray  # [P] bool
    reliability: np.ndarray  # [P] float32


def world(
    seed: int, *, size: int = 23, width: int = 7, cameras: int = 3, modalities: int = 2, padding: int = 3
) -> World:
    """People with a place in feature space, moved by camera and modality; padding rows are noise."""
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
