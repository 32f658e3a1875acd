"""PGM, progressive graph matching (Wu and Ye, CVPR 2023): cluster contrast, then cross contrast of matched clusters.

Followed: after the first stage (cluster contrast per modality), at every epoch the clusters of the two modalities are
matched by the Hungarian method at cost 1 / exp(cosine of their centres); clusters of the larger side that are left are
matched again, with all of the smaller side. A clip is also contrasted with the other modality's memory, where its class
is the matched cluster: weight 0.25, visible clips in one epoch, infrared ones in the next; these clips move the other
modality's centres too, as every call of the released memory does. Centres keep 0.2 of their old value.

Differences, besides those of `methods/baselines/clusters.py`: both stages share one run of HiTPro's length, the second
from `pgm.begin` on and at the rate that is left there, where the released code starts it from the best evaluation of
the first and at the full rate again; leftovers are matched again until none is left (the released code stops after one
more round), whichever side is the larger one (there: visible alone); centres are moved by the mean clip, where the
second stage of the released code takes the least similar one; under `across.ban_same_camera` two clusters are as
similar as their pairs of different cameras, and those without such a pair are not matched.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hitpro_jax.kernels.pseudo_labels import sum_of_means
from hitpro_jax.methods.baselines.clusters import ClusterContrast, ClusterMemory, of_clips
from hitpro_jax.methods.baselines.options import PgmOptions
from hitpro_jax.types import IR, MODALITIES, RGB, Clips, Encoded, TrackletInfo


class PGM(ClusterContrast):
    """The method; see the head of this file."""

    section: ClassVar[str] = "pgm"
    section_type: ClassVar[type | None] = PgmOptions

    def match_classes(self, memory: ClusterMemory, bank: np.ndarray, info: TrackletInfo, progress: float):
        """Graph matching from `begin` on."""
        if progress < self.own.begin:
            return memory, None
        likeness = partial(other_camera_cosine, bank, memory.label, info.camera) if self.ban_same_camera else None
        match = progressive_matching(np.asarray(memory.centre), memory.modality, likeness=likeness)
        return memory._replace(same_person=match[:, None]), match

    def loss(self, memory: ClusterMemory, own, encoded: Encoded, clips: Clips, info: TrackletInfo, progress):
        """Cross-entropy against the clusters of the own modality, and against the matched ones of the other."""
        similarity, target, modality = self.look_up(memory, encoded, clips, info)
        cluster = self.contrast(memory, similarity, target, modality)
        cross = sum_of_means(
            *self.entropy(memory, similarity, self.crossing(memory, target)), modality, parts=MODALITIES
        )
        return cluster + self.own.weight * cross, {"cluster": cluster, "cross": cross}

    def crossing(self, memory: ClusterMemory, target: jax.Array) -> jax.Array:
        """The matched class of each clip whose modality has its turn in this epoch, visible first; -1 for the rest."""
        turn = memory.modality[target] == (memory.epoch - 1) % MODALITIES  # the first refresh makes it epoch 1
        return jnp.where((target >= 0) & turn, memory.same_person[target, 0], -1)

    def update(self, memory: ClusterMemory, features: jax.Array, tracklet: jax.Array) -> ClusterMemory:
        """Clips move the centre of their class, and those whose modality has its turn that of the matched class."""
        target = of_clips(memory.target, tracklet, -1)
        both = jnp.concatenate([target, self.crossing(memory, target)])
        return self.moved(memory, jnp.concatenate([features, features]), both)


def progressive_matching(
    centre: np.ndarray,
    modality: np.ndarray,
    *,
    likeness: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Every cluster matched with one of the other modality.

    Each round is a minimum-cost assignment of the clusters of the larger side that are still left to all of the smaller
    side; there are as many rounds as it takes. A cluster of the smaller side keeps its first match.

    Args:
      centre: [P, D] unit rows.
      modality: [P] of each cluster, -1 in unused rows.
      likeness: of clusters [n] and [m] to [n, m], -inf for a pair that cannot be matched; None: cosines of centres.

    Returns:
      int32 [P], -1 in unused rows, for a cluster that no other can be matched with, for one of the smaller side whose
      possible matches all went to others, and everywhere if a modality has no cluster.

    >>> centre = np.array([[1., 0.], [0., 1.], [.8, .6], [1., 0.]])
    >>> progressive_matching(centre, np.array([0, 0, 0, 1])).tolist()
    [3, 3, 3, 0]
    """
    from scipy.optimize import linear_sum_assignment

    likeness = likeness or (lambda one, other: centre[one] @ centre[other].T)
    match = np.full(len(modality), -1, np.int32)
    few, left = sorted((np.flatnonzero(modality == m) for m in (IR, RGB)), key=len)
    while len(few) and len(left):
        cost = np.exp(-likeness(left, few))
        possible = np.isfinite(cost)
        # dearer than any assignment of possible pairs: one is taken only where there is no other way
        row, column = linear_sum_assignment(np.where(possible, cost, 1.0 + len(few) * cost[possible].max(initial=0.0)))
        there = possible[row, column]
        row, column = row[there], column[there]
        if not len(row):
            break
        match[left[row]] = few[column]
        first = match[few[column]] < 0
        match[few[column[first]]] = left[row[first]]
        left = np.delete(left, row)
    return match


def other_camera_cosine(
    bank: np.ndarray, label: np.ndarray, camera: np.ndarray, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Cosine of the centres of clusters, as it follows from their pairs of different cameras.

        mean of <x_i, x_j> over i in a, j in b, c_i != c_j, over |mean x_i| |mean x_j|

    Args:
      bank: [P, D] unit rows x.
      label: [P] cluster of each row, -1 for none.
      camera: [P].
      one: [n] clusters a.
      other: [m] clusters b.

    Returns:
      [n, m] float64; -inf without such a pair. Where all pairs are of different cameras: the cosine of the centres.

    Cost: O(C D + n m) memory for C clusters, n m D flops a camera; no pair of rows is visited.

    >>> bank, label = np.array([[1., 0.], [.6, .8], [1., 0.]]), np.array([0, 0, 1])
    >>> other_camera_cosine(bank, label, np.array([1, 2, 1]), np.array([0]), np.array([1])).round(2).tolist()
    [[0.67]]
    """
    size = int(label.max(initial=-1)) + 1

    def pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sum of <x_i, x_j> and number of the pairs of some rows, both [n, m]."""
        total, count = _sums(bank, np.where(rows, label, -1), size)
        return total[one] @ total[other].T, np.outer(count[one], count[other])

    whole, count = _sums(bank, label, size)
    length = np.linalg.norm(whole, axis=1) / np.maximum(count, 1)
    total, number = pairs(label >= 0)
    for each in np.unique(camera[label >= 0]):
        same_total, same_number = pairs(camera == each)
        total, number = total - same_total, number - same_number
    scale = np.maximum(number * np.outer(length[one], length[other]), 1e-12)
    return np.where(number > 0, total / scale, -np.inf)


def _sums(bank: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum [C, D] in float64 and number [C] of the rows of each cluster."""
    total, there = np.zeros((size, bank.shape[1])), label >= 0
    np.add.at(total, label[there], bank[there])
    return total, np.bincount(label[there], minlength=size)
