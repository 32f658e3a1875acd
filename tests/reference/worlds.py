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


PICTURES = {  # keywords of `pictures`, and what they make hard
    "easy": {"noise": 0.4},
    "moderate": {"noise": 0.8},
    "hard": {"noise": 0.95, "width": 48},
    "harder": {"noise": 1.1, "width": 48},
    "hardest": {"noise": 1.25, "width": 48},  # own pictures are as alike as .38 +- .12, strangers as 0 +- .14
    "two poses a person": {"noise": 0.6, "poses": 0.6},
    "blurred pictures": {"noise": 0.7, "tail": 0.3},
    "few people": {"noise": 0.7, "people": 8},
    "ten pictures": {"noise": 0.8, "fewest": 10, "most": 10, "people": 40},
    "thirty pictures": {"noise": 0.8, "fewest": 30, "most": 30, "people": 15},
}


def pictures(
    seed: int,
    *,
    noise: float,
    people: int = 25,
    cameras: int = 2,
    width: int = 64,
    poses: float = 0.0,
    tail: float = 0.0,
    fewest: int = 10,
    most: int = 30,
    outfits: int = 0,
) -> tuple[World, np.ndarray, np.ndarray]:
    """A set of single pictures, several of each person in each view, in a shuffled order.

    Args:
      seed: of everything.
      noise: of a picture, where persons differ by 1.
      people: in every view.
      cameras: of each modality.
      width: of the features; strangers of few dimensions are often alike.
      poses: two a person and view, so far apart.
      tail: how much pictures differ in noise.
      fewest: pictures of a person in a view.
      most: the same.
      outfits: so many, as far apart as persons, of which each person has one everywhere; 0: strangers share nothing.

    Returns:
      The world, the person of each picture, and features [P, D] of training clips of the pictures.
    """
    rng = np.random.default_rng(seed)

    def vectors(*shape: int) -> np.ndarray:
        return rng.normal(size=(*shape, width)) / np.sqrt(width)

    person, view = (x.reshape(-1) for x in np.indices((people, 2 * cameras)))
    count = rng.integers(fewest, most + 1, len(person))
    order = rng.permutation(count.sum())
    stay = np.repeat(np.arange(len(person)), count)[order]
    person, view = person[stay], view[stay]
    centre = vectors(people)[person] + 0.8 * vectors(2 * cameras)[view] + 0.5 * vectors()
    if outfits:
        centre = centre + vectors(outfits)[person % outfits]
    centre = centre + poses * vectors(len(count), 2)[stay, rng.integers(0, 2, len(stay))]
    spread = noise * np.exp(tail * rng.normal(size=(len(stay), 1)))
    features = centre + spread * vectors(len(stay))
    clips = features + 0.3 * vectors(len(stay))
    features, clips = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (features, clips))
    modality, camera, view = (x.astype(np.int32) for x in (view // cameras, view % cameras, view))
    return (
        World(features, modality, camera, view, np.ones(len(view), bool), np.ones(len(view), np.float32)),
        person,
        clips,
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
