"""CAP: clusters split by camera into proxies, contrasted within a camera and, later, across cameras."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_loss_and_its_gradient_equal_naive(progress):
    asked = Asked("cap", *progress)
    memory, own, temperature = asked.memory, asked.made.own, asked.made.clusters.temperature
    cluster = {int(memory.target[i]): int(memory.label[i]) for i in np.flatnonzero(memory.label >= 0)}

    def naive_loss(features):
        intra = asked.contrast(features, part=asked.view)
        if asked.progress < 0.5:
            return intra
        clips = features, asked.target, asked.view
        return intra + own.weight * naive.inter_camera(
            *clips, asked.centre, cluster, memory.modality, temperature, own.hard_negatives
        )

    check_loss(asked, naive_loss)


def test_update_equals_naive():
    asked = Asked("cap", *LATE)
    check_update(asked, asked.target, list(asked.problem.features))


def test_without_any_cluster_there_is_no_loss():
    check_without_clusters("cap")
