"""A small random world on which refresh, loss and update of a baseline are held to the naive versions."""

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
import pytest

from configs import base
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Setting
from hitpro_jax.run import read_options
from hitpro_jax.types import Encoded, TrackletInfo
from tests.batches import clips_of
from tests.reference import baselines as naive
from tests.reference.losses import gradient
from tests.reference.worlds import world

SIZE, PARTS, DIM, VIEWS, CLIPS, K = 40, 3, 7, 6, 8, 4
SMALL = {
    "clusters.k1": 6,
    "clusters.k2": 2,
    "clusters.eps": 0.5,
    "clusters.min_samples": 3,
    "clusters.positives": K,
    "clusters.temperature": 0.2,
    "adca.begin": 0.5,
    "adca.similarity": 0.3,
    "pgm.begin": 0.5,
    "cap.k1": 6,
    "cap.eps": 0.5,
    "cap.temperature": 0.2,
    "cap.begin": 0.5,
    "cap.hard_negatives": 3,
    "sdcl.begin": 0.5,
    "sdcl.share": 0.7,
}
# before the second stage of a method, and in its second epoch, after it has begun
EARLY, LATE = (0.4,), (0.5, 0.6)


def method(name: str, identities=None, **overrides):
    config = base.get_config()
    config.update_from_flattened_dict({**SMALL, "method.name": name, **overrides})
    return registry.make_method(read_options(config), Setting(VIEWS, None, identities))


class Problem:
    """A world of tracklets with sub-tracklets, and a batch with one tracklet twice and one clip without a tracklet."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.w = w = world(seed, size=SIZE, width=DIM)
        self.info = TrackletInfo(w.modality, w.camera, w.view, w.valid)
        self.parts = (w.prototypes[:, None] + 0.1 * rng.normal(size=(SIZE, PARTS, DIM))).astype(np.float32)
        self.mask = np.repeat(w.valid[:, None], PARTS, 1)
        units = self.parts / np.linalg.norm(self.parts, axis=2, keepdims=True)
        mean = units.astype(np.float64).mean(1)
        self.bank = np.where(w.valid[:, None], mean / np.linalg.norm(mean, axis=1, keepdims=True), 0.0)
        features = rng.normal(size=(CLIPS, DIM))
        self.features = features / np.linalg.norm(features, axis=1, keepdims=True)
        self.rng = rng

    def batch(self, label) -> np.ndarray:
        """Tracklets of the clips: mostly clustered ones of both modalities, an outlier if there is one."""
        chosen = [self.rng.permutation(np.flatnonzero((label >= 0) & (self.w.modality == m)))[:3] for m in (0, 1)]
        outliers = np.flatnonzero((label < 0) & self.w.valid)[:1]
        picked = np.concatenate([*chosen, outliers, [-1] * CLIPS])[:CLIPS].astype(np.int32)
        picked[1] = picked[0]
        return picked


@cache
def refreshed(name: str, seed: int, *progress: float, ban: bool = False):
    problem, made = Problem(seed), method(name, **{"across.ban_same_camera": ban})
    memory = made.init(SIZE, DIM)
    for now in progress:
        memory = made.refresh(memory, problem.parts, problem.mask, problem.info, now)
    return problem, made, jax.tree.map(np.asarray, memory)


def table(values, rows) -> dict[int, np.ndarray]:
    return {int(c): np.asarray(values[c], np.float64) for c in rows}


class Asked:
    """A problem with a memory after refreshes at these points of progress, and a batch of clips.

    Attributes:
      problem, made, memory: as `refreshed` gives them.
      tracklet: [B] of the clips.
      target, modality, view: of the clips, as lists.
    """

    def __init__(self, name: str, *progress: float, ban: bool = False):
        self.name, self.progress = name, progress[-1]
        self.problem, self.made, self.memory = refreshed(name, 1, *progress, ban=ban)
        self.tracklet = self.problem.batch(self.memory.label)
        self.w = w = self.problem.w
        self.target = [int(self.memory.target[t]) if t >= 0 else -1 for t in self.tracklet]
        self.modality = [int(w.modality[t]) if t >= 0 else 0 for t in self.tracklet]
        self.view = [int(w.view[t]) if t >= 0 else 0 for t in self.tracklet]
        self.centre = table(self.memory.centre, np.flatnonzero(self.memory.scope >= 0))
        self.turn = (int(self.memory.epoch) - 1) % 2  # modality whose clips learn from the other one in this epoch

    def contrast(self, features, target=None, part=None) -> float:
        """The naive cross-entropy against the classes of each target's scope, averaged over a part's clips."""
        target, part = target or self.target, part or self.modality
        return naive.contrast(features, target, part, self.centre, self.memory.scope, self.made.clusters.temperature)


def check_loss(asked: Asked, naive_loss: Callable[[np.ndarray], float], *, outliers_learn: bool = False) -> None:
    """Loss and gradient of a batch, against the naive loss and its numerical gradient."""
    problem, memory, tracklet = asked.problem, asked.memory, asked.tracklet
    assert (tracklet < 0).any()
    assert (memory.target[tracklet[tracklet >= 0]] < 0).any()
    clips = clips_of(tracklet)

    def total(features, memory, clips, info):
        return asked.made.loss(memory, {}, Encoded(features, None), clips, info, asked.progress)[0]

    found, slope = jax.jit(jax.value_and_grad(total))(problem.features.astype(np.float32), memory, clips, problem.info)
    assert float(found) == pytest.approx(naive_loss(problem.features), rel=1e-4)
    assert found > 0.1
    np.testing.assert_allclose(slope, gradient(naive_loss, problem.features.copy()), atol=2e-4)
    assert not slope[tracklet < 0].any()
    assert slope[(tracklet >= 0) & (memory.target[tracklet] < 0)].any() == outliers_learn


def check_update(asked: Asked, target: list[int], clips: list[np.ndarray], rows: dict | None = None) -> None:
    """Centres after a step, moved by the clips to their targets; prototypes as `rows` has them, or as before."""
    memory, made, features = asked.memory, asked.made, asked.problem.features.astype(np.float32)
    after = jax.jit(made.update)(memory, features, asked.tracklet)
    expected = naive.moved(asked.centre, clips, target, made.clusters.momentum)
    for c, value in expected.items():
        np.testing.assert_allclose(after.centre[c], value, atol=1e-5)
    rows = rows or table(memory.prototypes, range(SIZE))
    np.testing.assert_allclose(after.prototypes, np.array([rows[i] for i in range(SIZE)]), atol=1e-5)
    same = memory._replace(centre=None, prototypes=None)
    jax.tree.map(np.testing.assert_array_equal, after._replace(centre=None, prototypes=None), same)


def pairs_across(problem: Problem, memory) -> tuple[int, int]:
    """Positives across of two cameras, and of one."""
    i, k = np.nonzero(memory.across.index >= 0)
    j, camera = memory.across.index[i, k], problem.w.camera
    assert (problem.w.modality[i] != problem.w.modality[j]).all()
    return int((camera[i] != camera[j]).sum()), int((camera[i] == camera[j]).sum())


def check_ban(name: str) -> None:
    """Under the ban no positive across is of the own camera; without it some are."""
    assert min(pairs_across(*refreshed(name, 1, *LATE)[::2])) > 0
    other, own = pairs_across(*refreshed(name, 1, *LATE, ban=True)[::2])
    assert other > 0
    assert own == 0


def check_without_clusters(name: str, *, learns: bool = False) -> None:
    """Where nothing clusters there is no loss, no NaN and no move of a centre."""
    problem, made = Problem(1), method(name, **{"clusters.min_samples": SIZE})
    memory = made.refresh(made.init(SIZE, DIM), problem.parts, problem.mask, problem.info, 0.9)
    assert (memory.label == -1).all()
    assert (memory.within.index == -1).all()
    clips = clips_of(np.arange(CLIPS))
    features = problem.features.astype(np.float32)

    def total(features, memory, clips, info):
        return made.loss(memory, {}, Encoded(features, None), clips, info, 0.9)[0]

    with jax.debug_nans(True):
        loss, slope = jax.jit(jax.value_and_grad(total))(features, memory, clips, problem.info)
        after = jax.jit(made.update)(memory, features, clips.tracklet)
    assert (float(loss) != 0.0 or slope.any()) == learns
    np.testing.assert_array_equal(after.centre, memory.centre)
