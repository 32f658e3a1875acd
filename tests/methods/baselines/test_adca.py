"""ADCA: clusters of both modalities matched by votes, and their centres aggregated."""

import numpy as np
import pytest

from hitpro_jax.methods.baselines.adca import vote_matches
from tests.methods.baselines.problems import (
    EARLY,
    LATE,
    Asked,
    check_loss,
    check_update,
    check_without_clusters,
    refreshed,
)
from tests.reference import baselines as naive


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


@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_loss_and_its_gradient_equal_naive(progress):
    asked = Asked("adca", *progress)
    check_loss(asked, asked.contrast)


def test_update_equals_naive():
    asked = Asked("adca", *LATE)
    check_update(asked, asked.target, list(asked.problem.features))


def test_without_any_cluster_there_is_no_loss():
    check_without_clusters("adca")
