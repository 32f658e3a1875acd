"""PGM: clusters of both modalities matched progressively, and clips contrasted with the matched cluster too."""

import numpy as np
import pytest

from hitpro_jax.methods.baselines.pgm import progressive_matching
from tests.methods.baselines.problems import EARLY, LATE, Asked, check_loss, check_update, check_without_clusters
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
