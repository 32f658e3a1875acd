"""Refresh, loss and update of every baseline against the naive versions, on a small random world."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.baselines import clusters
from hitpro_jax.methods.baselines.adca import vote_matches
from hitpro_jax.methods.baselines.pgm import progressive_matching
from hitpro_jax.run import read_options
from hitpro_jax.types import Encoded, TrackletInfo
from tests.batches import clips_of
from tests.reference import baselines as naive
from tests.reference import jaccard as naive_jaccard
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
NAMES = ["cluster_contrast", "adca", "pgm", "cap", "sdcl"]


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
def refreshed(name: str, seed: int, *progress: float):
    problem, made = Problem(seed), method(name)
    memory = made.init(SIZE, DIM)
    for now in progress:
        memory = made.refresh(memory, problem.parts, problem.mask, problem.info, now)
    return problem, made, jax.tree.map(np.asarray, memory)


def table(values, rows) -> dict[int, np.ndarray]:
    return {int(c): np.asarray(values[c], np.float64) for c in rows}


@pytest.mark.parametrize("seed", [1, 2])
def test_clusters_equal_naive(seed):
    problem, made, memory = refreshed("cluster_contrast", seed, 0.0)
    w, o = problem.w, made.clusters
    np.testing.assert_allclose(memory.prototypes, problem.bank, atol=1e-5)
    dense = naive_jaccard.encodings(memory.prototypes, w.modality, w.valid, o.k1, o.k2)
    expected = naive.dbscan(naive_jaccard.distances(dense), o.eps, o.min_samples, w.valid)
    assert memory.label.tolist() == expected.tolist() == memory.target.tolist()
    assert expected.max() >= 5
    assert (expected[w.valid] == -1).any()
    assert (expected[~w.valid] == -1).all()
    found = naive.centres(problem.bank, expected)
    for c in range(SIZE):
        np.testing.assert_allclose(memory.centre[c], found.get(c, np.zeros(DIM)), atol=1e-5)
        assert memory.scope[c] == memory.modality[c] == (w.modality[expected == c][0] if c in found else -1)
    assert memory.epoch == 1
    assert (memory.same_person == -1).all()


def test_positives_are_members_of_the_cluster():
    problem, _, memory = refreshed("pgm", 1, 0.6)
    w, label = problem.w, memory.label
    match = np.where(label >= 0, memory.same_person[label, 0], -1)
    relations = {
        "within": lambda i, j: label[j] == label[i] and w.camera[i] != w.camera[j],
        "same_view": lambda i, j: label[j] == label[i] and w.view[i] == w.view[j] and i != j,
        "across": lambda i, j: label[j] == match[i],
    }
    for name, holds in relations.items():
        index = getattr(memory, name) if name == "same_view" else getattr(memory, name).index
        some = 0
        for i in range(SIZE):
            wanted = [j for j in range(SIZE) if label[i] >= 0 and label[j] >= 0 and holds(i, j)]
            wanted = sorted(wanted, key=lambda j: -float(memory.prototypes[i] @ memory.prototypes[j]))[:K]
            assert [j for j in index[i] if j >= 0] == wanted
            some += len(wanted)
        assert some > 5
    weight = memory.within.weight.sum(1)
    assert set(weight.round(5)) == {0.0, 1.0}
    assert not memory.across.weight.any()


def test_cap_splits_clusters_by_camera():
    problem, _, memory = refreshed("cap", 1, 0.0)
    w, (_, _, whole) = problem.w, refreshed("cluster_contrast", 1, 0.0)
    assert memory.label.tolist() == whole.label.tolist()
    pairs = {}
    for i in np.flatnonzero(memory.label >= 0):
        pairs.setdefault((memory.label[i], w.view[i]), set()).add(memory.target[i])
    assert all(len(proxies) == 1 for proxies in pairs.values())
    assert len({min(p) for p in pairs.values()}) == len(pairs)
    assert len(pairs) > len({c for c, _ in pairs})
    found = naive.centres(problem.bank, memory.target)
    for (cluster, view), (proxy,) in pairs.items():
        np.testing.assert_allclose(memory.centre[proxy], found[proxy], atol=1e-5)
        assert memory.scope[proxy] == view
        same_person = {min(p) for (c, _), p in pairs.items() if c == cluster}
        assert {k for k in memory.same_person[proxy] if k >= 0} == same_person


def test_votes_equal_naive_and_aggregate_centres():
    sizes = []
    for seed in range(1, 5):
        problem, made, memory = refreshed("adca", seed, 0.6)
        w = problem.w
        expected = naive.votes(memory.prototypes, memory.label, w.modality, made.own.similarity)
        found = vote_matches(memory.prototypes, memory.label, w.modality, least=made.own.similarity)
        assert {c: m for c, m in enumerate(found) if m >= 0} == expected
        before = naive.centres(problem.bank, memory.label)
        for c, centre in before.items():
            if w.modality[memory.label == c][0] == 0 and c in expected:
                centre = naive.unit(0.1 * centre + 0.9 * before[expected[c]])
            np.testing.assert_allclose(memory.centre[c], centre, atol=1e-5)
        sizes.append(len(expected))
    assert max(sizes) >= 4
    none = refreshed("adca", 1, 0.4)[2]
    assert (none.across.index == -1).all()  # the second stage has not begun
    np.testing.assert_array_equal(none.centre, refreshed("cluster_contrast", 1, 0.4)[2].centre)


@pytest.mark.parametrize(("visible", "infrared"), [(2, 3), (5, 2), (2, 5), (3, 3), (0, 2), (4, 1), (0, 0)])
def test_progressive_matching_equals_every_assignment_tried(visible, infrared):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        modality = rng.permutation([0] * visible + [1] * infrared + [-1] * 2)
        centre = rng.normal(size=(len(modality), 4))
        centre /= np.linalg.norm(centre, axis=1, keepdims=True)
        expected = naive.progressive({c: centre[c] for c in np.flatnonzero(modality >= 0)}, modality)
        found = progressive_matching(centre, modality)
        assert {c: m for c, m in enumerate(found) if m >= 0} == expected
        assert (len(expected) == visible + infrared) == (min(visible, infrared) > 0 or visible + infrared == 0)


def naive_loss(name: str, problem: Problem, made, memory, tracklet, features, progress: float) -> float:
    w, o, own = problem.w, made.clusters, made.own
    used = np.flatnonzero(memory.scope >= 0)
    centre, bank = table(memory.centre, used), memory.prototypes.astype(np.float64)
    target = [int(memory.target[t]) if t >= 0 else -1 for t in tracklet]
    modality = [int(w.modality[t]) if t >= 0 else 0 for t in tracklet]
    view = [int(w.view[t]) if t >= 0 else 0 for t in tracklet]
    late = progress >= 0.5
    total = naive.contrast(features, target, view if name == "cap" else modality, centre, memory.scope, o.temperature)
    if name == "cap" and late:
        cluster = {int(memory.target[i]): int(memory.label[i]) for i in np.flatnonzero(memory.label >= 0)}
        total += own.weight * naive.inter_camera(
            features, target, view, centre, cluster, memory.modality, o.temperature, own.hard_negatives
        )
    turn = (int(memory.epoch) - 1) % 2
    if name == "pgm":
        cross = [
            int(memory.same_person[c, 0]) if c >= 0 and m == turn else -1 for c, m in zip(target, modality, strict=True)
        ]
        total += own.weight * naive.contrast(features, cross, modality, centre, memory.scope, o.temperature)
    if name == "sdcl":
        alike, other = (
            [[j for j in range(SIZE) if w.valid[j] and (w.modality[j] == m) == same] for m in modality]
            for same in (True, False)
        )
        other = [row if m == turn else [] for row, m in zip(other, modality, strict=True)]
        total += own.within * naive.neighbour(features, tracklet, modality, bank, alike, own.share, o.temperature)
        if late:
            total += own.across * naive.neighbour(features, tracklet, modality, bank, other, own.share, o.temperature)
    return total


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("progress", [(0.4,), (0.5, 0.6)])
def test_loss_and_its_gradient_equal_naive(name, progress):
    problem, made, memory = refreshed(name, 1, *progress)
    tracklet = problem.batch(memory.label)
    assert (tracklet < 0).any()
    assert (memory.target[tracklet[tracklet >= 0]] < 0).any()
    clips = clips_of(tracklet)

    def total(features, memory, clips, info):
        return made.loss(memory, {}, Encoded(features, None), clips, info, progress[-1])[0]

    found, slope = jax.jit(jax.value_and_grad(total))(problem.features.astype(np.float32), memory, clips, problem.info)

    def expected(features):
        return naive_loss(name, problem, made, memory, tracklet, features, progress[-1])

    assert float(found) == pytest.approx(expected(problem.features), rel=1e-4)
    assert found > 0.1
    np.testing.assert_allclose(slope, gradient(expected, problem.features.copy()), atol=2e-4)
    assert not slope[tracklet < 0].any()
    assert slope[(tracklet >= 0) & (memory.target[tracklet] < 0)].any() == (name == "sdcl")  # outliers learn there


@pytest.mark.parametrize("name", NAMES)
def test_update_equals_naive(name):
    problem, made, memory = refreshed(name, 1, 0.5, 0.6)
    tracklet, features = problem.batch(memory.label), problem.features.astype(np.float32)
    after = jax.jit(made.update)(memory, features, tracklet)
    target = [int(memory.target[t]) if t >= 0 else -1 for t in tracklet]
    clips = list(problem.features)
    if name == "pgm":  # the second epoch's turn is that of infrared clips
        cross = [
            int(memory.same_person[c, 0]) if c >= 0 and problem.w.modality[t] == 1 else -1
            for c, t in zip(target, tracklet, strict=True)
        ]
        assert max(cross) >= 0
        target, clips = target + cross, clips + clips
    centre = table(memory.centre, np.flatnonzero(memory.scope >= 0))
    expected = naive.moved(centre, clips, target, made.clusters.momentum)
    for c, value in expected.items():
        np.testing.assert_allclose(after.centre[c], value, atol=1e-5)
    rows = table(memory.prototypes, range(SIZE))
    if name == "sdcl":
        rows = naive.moved(rows, list(problem.features), tracklet.tolist(), made.own.instance_momentum)
    np.testing.assert_allclose(after.prototypes, np.array([rows[i] for i in range(SIZE)]), atol=1e-5)
    same = memory._replace(centre=None, prototypes=None)
    jax.tree.map(np.testing.assert_array_equal, after._replace(centre=None, prototypes=None), same)


def test_neighbours_in_the_other_modality_are_positives_across():
    problem, made, memory = refreshed("sdcl", 1, 0.0)
    w, bank, some = problem.w, memory.prototypes, 0
    for i in range(SIZE):
        other = [j for j in range(SIZE) if w.valid[i] and w.valid[j] and w.modality[i] != w.modality[j]]
        likeness = {j: float(bank[i] @ bank[j]) for j in other}
        best = max(likeness.values(), default=-1.0)
        near = sorted(
            (j for j in other if best > 0 and likeness[j] > made.own.share * best), key=lambda j: -likeness[j]
        )[:K]
        assert [j for j in memory.across.index[i] if j >= 0] == near
        some += len(near)
    assert some > SIZE / 2


@pytest.mark.parametrize("name", NAMES)
def test_without_any_cluster_there_is_no_loss(name):
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
    assert (float(loss) == 0.0 and not slope.any()) == (name != "sdcl")  # which draws to neighbours without clusters
    np.testing.assert_array_equal(after.centre, memory.centre)


def test_supervised_equals_naive():
    problem = Problem(1)
    identities = np.where(problem.w.valid, np.random.default_rng(0).integers(0, 6, SIZE), -1).astype(np.int32)
    made = method("supervised", identities)
    memory = made.refresh(made.init(SIZE, DIM), problem.parts, problem.mask, problem.info, 0.0)
    proxies = made.own_parameters(DIM, 0)["proxies"]
    assert proxies.shape == (6, DIM)
    tracklet = np.flatnonzero(problem.w.valid)[:CLIPS].astype(np.int32)
    tracklet[2] = -1
    clips = clips_of(tracklet)

    def total(features, proxies, memory, clips, info):
        return made.loss(memory, {"proxies": proxies}, Encoded(features, None), clips, info, 0.0)[0]

    label = [int(identities[t]) if t >= 0 else -1 for t in tracklet]

    def expected(features, proxies):
        return naive.identity(features, proxies, label, made.clusters.temperature) + made.own.triplet * naive.triplet(
            features, label, made.own.margin
        )

    found, slopes = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(
        problem.features.astype(np.float32), proxies, memory, clips, problem.info
    )
    wide = proxies.astype(np.float64)
    assert float(found) == pytest.approx(expected(problem.features, wide), rel=1e-4)
    np.testing.assert_allclose(slopes[0], gradient(lambda x: expected(x, wide), problem.features.copy()), atol=1e-3)
    np.testing.assert_allclose(slopes[1], gradient(lambda x: expected(problem.features, x), wide), atol=1e-2)
    for index, weight in ((found.index, found.weight) for found in (memory.within, memory.across)):
        rows, _ = np.nonzero(np.asarray(index) >= 0)
        assert (identities[rows] == identities[index[index >= 0]]).all()
        assert (np.asarray(weight).sum(1) > 0).any()


def test_a_block_of_distances_more_or_less_does_not_matter(monkeypatch):
    problem, _, memory = refreshed("cluster_contrast", 2, 0.0)
    monkeypatch.setattr(clusters, "BLOCK", 7)
    again = clusters.cluster(jnp.asarray(memory.prototypes), problem.info, method("cluster_contrast").clusters)
    assert again.tolist() == memory.label.tolist()
