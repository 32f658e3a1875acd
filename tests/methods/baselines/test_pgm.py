"""PGM: clusters of both modalities matched progressively, and clips contrasted with the matched cluster too."""

from functools import partial

import numpy as np
import pytest

from hitpro_jax.methods.baselines.pgm import other_camera_cosine, progressive_matching
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


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_pairs_that_cannot_be_matched_are_left_out(share):
    """As many others as can be; a cluster that no other may be matched with keeps no match."""
    alone = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        modality = rng.permutation([0] * 4 + [1] * 3 + [-1])
        table = np.where(rng.random((8, 8)) < share, -np.inf, rng.normal(size=(8, 8)))
        table = np.minimum(table, table.T)
        possible = {pair: value for pair, value in np.ndenumerate(table) if np.isfinite(value)}
        clusters = dict.fromkeys(np.flatnonzero(modality >= 0))
        expected = naive.progressive(clusters, modality, partial(lambda known, *pair: known.get(pair), possible))
        found = progressive_matching(
            np.zeros((8, 2)), modality, likeness=partial(lambda table, a, b: table[np.ix_(a, b)], table)
        )
        assert {c: m for c, m in enumerate(found) if m >= 0} == expected
        alone += len(expected) < 7
    assert alone


def test_likeness_by_other_cameras_equals_naive():
    barred = 0
    for seed in (1, 2, 3):
        problem, _, memory = refreshed("pgm", seed, 0.6)
        w, label = problem.w, memory.label
        one, other = (np.flatnonzero(memory.modality == m) for m in (0, 1))
        found = other_camera_cosine(memory.prototypes, label, w.camera, one, other)
        for a, row in zip(one, found, strict=True):
            for b, value in zip(other, row, strict=True):
                expected = naive.other_camera_cosine(memory.prototypes, label, w.camera, a, b)
                assert value == pytest.approx(-np.inf if expected is None else expected, abs=1e-6)
        barred += np.isinf(found).sum()
        apart = np.arange(len(label))  # every row in a camera of its own
        cosine = memory.centre[one].astype(np.float64) @ memory.centre[other].T
        np.testing.assert_allclose(other_camera_cosine(memory.prototypes, label, apart, one, other), cosine, atol=1e-5)
    one_camera = other_camera_cosine(np.eye(2), np.array([0, 1]), np.zeros(2), np.array([0]), np.array([1]))
    assert one_camera.tolist() == [[-np.inf]]


def test_the_ban_keeps_the_own_camera_out_of_the_positives():
    check_ban("pgm")


def crossing(asked: Asked) -> list[int]:
    """The matched cluster of each clip whose modality has its turn, -1 for the others."""
    clips = zip(asked.target, asked.modality, strict=True)
    return [int(asked.memory.same_person[c, 0]) if c >= 0 and m == asked.turn else -1 for c, m in clips]


@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_loss_and_its_gradient_equal_naive(progress):
    asked = Asked("pgm", *progress)

    def naive_loss(features):
        return asked.contrast(features) + asked.made.own.weight * asked.contrast(features, crossing(asked))

    check_loss(asked, naive_loss)


def test_update_equals_naive():
    asked = Asked("pgm", *LATE)
    assert asked.turn == 1  # the second epoch's turn is that of infrared clips
    assert max(crossing(asked)) >= 0
    check_update(asked, asked.target + crossing(asked), 2 * list(asked.problem.features))


def test_without_any_cluster_there_is_no_loss():
    check_without_clusters("pgm")
