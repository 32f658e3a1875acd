"""Cluster Contrast, and what all methods that cluster share: labels, centres, positives, loss and update."""

import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.methods.baselines import clusters
from hitpro_jax.types import TrackletInfo
from tests.methods.baselines.problems import (
    DIM,
    EARLY,
    LATE,
    SIZE,
    Asked,
    K,
    check_loss,
    check_update,
    check_without_clusters,
    method,
    refreshed,
)
from tests.reference import baselines as naive
from tests.reference import jaccard as naive_jaccard


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


def test_a_block_of_distances_more_or_less_does_not_matter(monkeypatch):
    problem, _, memory = refreshed("cluster_contrast", 2, 0.0)
    monkeypatch.setattr(clusters, "BLOCK", 7)
    again = clusters.cluster(jnp.asarray(memory.prototypes), problem.info, method("cluster_contrast").clusters)
    assert again.tolist() == memory.label.tolist()


@pytest.mark.parametrize("progress", [EARLY, LATE])
def test_loss_and_its_gradient_equal_naive(progress):
    asked = Asked("cluster_contrast", *progress)
    check_loss(asked, asked.contrast)


def test_update_equals_naive():
    asked = Asked("cluster_contrast", *LATE)
    check_update(asked, asked.target, list(asked.problem.features))


def test_without_any_cluster_there_is_no_loss():
    check_without_clusters("cluster_contrast")


# --------------------------------------------------------------------------------------------------- too little data


def tracklets(visible: int, infrared: int) -> TrackletInfo:
    modality = np.repeat([0, 1], [visible, infrared])
    return TrackletInfo(modality, modality * 0, modality, modality >= 0)


def test_a_warning_where_a_modality_has_fewer_than_two_clusters():
    """With the sizes and fields at hand; padding rows of the memory say nothing."""
    made = method("cluster_contrast")
    memory = made.init(SIZE, DIM)
    label = np.full(SIZE, -1, np.int32)
    label[:8], label[30:] = [0, 0, 0, 1, 2, 2, 2, -1], 7
    info = tracklets(4, 4)
    (line,) = made.warnings(made.mined(memory._replace(label=label)), info)
    assert line.startswith(
        "warning: the 4 infrared tracklets form one cluster, so that the loss of clusters learns nothing"
    )
    assert "lower clusters.k1 (6) or clusters.min_samples (3)" in line
    none, one = made.warnings(made.mined(memory), info)
    assert "visible tracklets form no cluster" in none
    assert "infrared tracklets form no cluster" in one
    label[4:8] = [2, 2, 3, 3]
    assert made.warnings(made.mined(memory._replace(label=label)), info) == []
    label[:8] = [0, 0, 1, 1, 2, 2, 3, 3]
    assert made.warnings(made.mined(memory._replace(label=label)), tracklets(8, 0)) == []
    assert "lower cap.k1 (6)" in method("cap").warnings(made.mined(memory), info)[0]


def test_a_note_at_start_where_all_tracklets_are_neighbours():
    made = method("cluster_contrast")
    assert made.notes(tracklets(7, 7)) == made.notes(tracklets(7, 0)) == []
    (line,) = made.notes(tracklets(7, 6))
    assert line.startswith(
        "note: 6 infrared tracklets can hardly form two clusters, as all are among each other's clusters.k1=6"
    )
    assert "lower cap.k1" in method("cap").notes(tracklets(7, 6))[0]
