"""ADCA: clusters of both modalities matched by votes, and their centres aggregated."""

import numpy as np
import pytest

from hitpro_jax.methods.baselines.adca import vote_matches
from tests.methods.baselines.problems import (
    EARLY,
    LATE,
    Asked,
    check_ban,
    check_loss,
    check_update,
    check_without_clusters,
    refreshed,
)
from tests.reference import baselines as naive


@pytest.mark.parametrize("ban", [False, True])
def test_votes_equal_naive_and_aggregate_centres(ban):
    sizes = []
    for seed in range(1, 5):
        problem, made, memory = refreshed("adca", seed, 0.6, ban=ban)
        w = problem.w
        given = memory.prototypes, memory.label, w.modality
        expected = naive.votes(*given, made.own.similarity, w.camera if ban else None)
        found = vote_matches(*given, least=made.own.similarity, camera=w.camera if ban else None)
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


@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_loss_and_its_gradient_equal_naive(progress):
    asked = Asked("adca", *progress)
    check_loss(asked, asked.contrast)


def test_update_equals_naive():
    asked = Asked("adca", *LATE)
    check_update(asked, asked.target, list(asked.problem.features))


def test_pairs_of_one_camera_neither_vote_nor_break_ties():
    """The infrared cluster 2 is nearest to cluster 0 by its own camera alone; 1 has its vote in another one."""
    bank = np.array([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.96, 0.28]])
    label, modality, camera = np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]), np.array([5, 6, 5, 5])
    assert vote_matches(bank, label, modality, least=0.5).tolist() == [2, -1, 0, -1]
    assert vote_matches(bank, label, modality, least=0.5, camera=camera).tolist() == [-1, 2, 1, -1]


def test_the_ban_keeps_the_own_camera_out_of_the_positives():
    check_ban("adca")


def test_without_any_cluster_there_is_no_loss():
    check_without_clusters("adca")
