"""An evaluation without pictures: a frame is a number, a tracklet two of the same, a feature the number as an angle."""

import numpy as np

from hitpro_jax.data.records import Record
from hitpro_jax.features import Embedder
from hitpro_jax.options import EvalOptions
from hitpro_jax.sharding import make_mesh


class Numbers:
    """Reads frame "17" as a picture of one pixel that is 17; frames named in `broken` cannot be read."""

    image_size, root = (1, 1), "nowhere"

    def __init__(self, broken=()):
        self.broken = broken

    def clip(self, paths):
        values = np.array([int(path) for path in paths], np.uint8)
        seen = np.array([path not in self.broken for path in paths])
        return np.broadcast_to((values * seen)[:, None, None, None], (len(paths), 1, 1, 3)).copy(), seen


def unit(values):
    """A unit vector a number; no two pairs are equally near."""
    angle = np.asarray(values, np.float32) ** 0.7 / 20
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def embed(variables, frames, mask, layout):
    """The vector of the mean of a clip's frames."""
    return unit(np.asarray(frames)[..., 0].reshape(len(frames), -1).astype(np.float32).mean(1))


def records(modality, size, seed):
    rng = np.random.default_rng(seed)
    return tuple(
        Record((str(value), str(value)), modality, camid=int(rng.integers(0, 3)), pid=int(rng.integers(0, 4)))
        for value in rng.permutation(200)[:size]
    )


def embedder(reader=None, function=embed):
    return Embedder(function, make_mesh(), reader or Numbers(), EvalOptions(frames=2, batch_size=4))
