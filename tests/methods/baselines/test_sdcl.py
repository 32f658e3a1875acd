"""SDCL: clips are drawn to neighbours in a memory of instances, in both modalities."""

import numpy as np
import pytest

from tests.methods.baselines.problems import (
    EARLY,
    LATE,
    SIZE,
    Asked,
    K,
    check_ban,
    check_loss,
    check_update,
    check_without_clusters,
    refreshed,
    table,
)
from tests.reference import baselines as naive
from tests.reference.mining import related


@pytest.mark.parametrize("ban", [False, True])
def test_neighbours_in_the_other_modality_are_positives_across(ban):
    problem, made, memory = refreshed("sdcl", 1, 0.0, ban=ban)
    w, bank, some = problem.w, memory.prototypes, 0
    for i in range(SIZE):
        other = [j for j in range(SIZE) if related(w, i, j, "other_modality", ban)]
        likeness = {j: float(bank[i] @ bank[j]) for j in other}
        best = max(likeness.values(), default=-1.0)
        near = sorted(
            (j for j in other if best > 0 and likeness[j] > made.own.share * best), key=lambda j: -likeness[j]
        )[:K]
        assert [j for j in memory.across.index[i] if j >= 0] == near
        some += len(near)
    assert some > SIZE / 2


@pytest.mark.parametrize(("progress", "ban"), [(EARLY, False), (LATE, False), (LATE, True)])
def test_loss_and_its_gradient_equal_naive(progress, ban):
    asked = Asked("sdcl", *progress, ban=ban)
    w, own = asked.w, asked.made.own
    bank, temperature = asked.memory.prototypes.astype(np.float64), asked.made.clusters.temperature
    alike, other = (
        [[j for j in range(SIZE) if w.valid[j] and (w.modality[j] == m) == same] for m in asked.modality]
        for same in (True, False)
    )
    other = [row if m == asked.turn else [] for row, m in zip(other, asked.modality, strict=True)]
    if ban:
        other = [[j for j in row if w.camera[j] != w.camera[i]] for row, i in zip(other, asked.tracklet, strict=True)]

    def neighbour(features, candidates):
        clips = features, asked.tracklet, asked.modality
        return naive.neighbour(*clips, bank, candidates, own.share, temperature)

    def naive_loss(features):
        across = own.across * neighbour(features, other) if asked.progress >= 0.5 else 0.0
        return asked.contrast(features) + own.within * neighbour(features, alike) + across

    check_loss(asked, naive_loss, outliers_learn=True)


def test_the_ban_keeps_the_own_camera_out_of_the_positives():
    check_ban("sdcl")


def test_update_equals_naive():
    asked = Asked("sdcl", *LATE)
    clips, rows = list(asked.problem.features), table(asked.memory.prototypes, range(SIZE))
    rows = naive.moved(rows, clips, asked.tracklet.tolist(), asked.made.own.instance_momentum)
    check_update(asked, asked.target, clips, rows)


def test_without_any_cluster_clips_are_drawn_to_neighbours():
    check_without_clusters("sdcl", learns=True)
