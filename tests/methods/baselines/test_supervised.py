"""The reference with labels: cross-entropy against identities and a triplet term."""

import jax
import numpy as np
import pytest

from hitpro_jax.types import Encoded
from tests.batches import clips_of
from tests.methods.baselines.problems import CLIPS, DIM, SIZE, Problem, method, pairs_across
from tests.reference import baselines as naive
from tests.reference.losses import gradient


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


@pytest.mark.parametrize("ban", [False, True])
def test_partners_are_of_another_camera_under_the_ban(ban):
    problem, people = Problem(1), np.arange(SIZE, dtype=np.int32) % 6
    made = method("supervised", np.where(problem.w.valid, people, -1), **{"across.ban_same_camera": ban})
    memory = made.refresh(made.init(SIZE, DIM), problem.parts, problem.mask, problem.info, 0.0)
    other, own = pairs_across(problem, memory)
    assert other > 0
    assert (own == 0) == ban


def test_it_has_no_centres_to_move():
    made = method("supervised", np.zeros(SIZE, np.int32))
    memory = made.init(SIZE, DIM)
    assert made.update(memory, None, None) is memory


def test_one_person_gives_a_warning_and_few_tracklets_no_note():
    info = Problem(1).info
    for people, lines in ((1, 1), (2, 0)):
        made = method("supervised", np.arange(SIZE, dtype=np.int32) % people)
        assert len(made.warnings(made.mined(made.init(SIZE, DIM)), info)) == lines
        assert made.notes(info) == []
