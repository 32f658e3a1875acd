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
second stage of the released code takes the least similar one.
"""

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
        match = progressive_matching(np.asarray(memory.centre), memory.modality)
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


def progressive_matching(centre: np.ndarray, modality: np.ndarray) -> np.ndarray:
    """Every cluster matched with one of the other modality.

    Each round is a minimum-cost assignment of the clusters of the larger side that are still left to all of the smaller
    side; there are as many rounds as it takes. A cluster of the smaller side keeps its match of the first round.

    Args:
      centre: [P, D] unit rows.
      modality: [P] of each cluster, -1 in unused rows.

    Returns:
      int32 [P], -1 in unused rows, and everywhere if a modality has no cluster.

    >>> centre = np.array([[1., 0.], [0., 1.], [.8, .6], [1., 0.]])
    >>> progressive_matching(centre, np.array([0, 0, 0, 1])).tolist()
    [3, 3, 3, 0]
    """
    from scipy.optimize import linear_sum_assignment

    match = np.full(len(modality), -1, np.int32)
    few, left = sorted((np.flatnonzero(modality == m) for m in (IR, RGB)), key=len)
    while len(few) and len(left):
        row, column = linear_sum_assignment(1.0 / np.exp(centre[left] @ centre[few].T))
        match[left[row]] = few[column]
        first = match[few[column]] < 0
        match[few[column[first]]] = left[row[first]]
        left = np.delete(left, row)
    return match
