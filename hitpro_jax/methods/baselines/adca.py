"""ADCA, augmented dual-contrastive aggregation (Yang et al., ACM MM 2022): cluster contrast, then cross-modal memories.

Followed: after the first stage (cluster contrast per modality), at every epoch each pair of a visible and an infrared
sample with a cosine of 0.5 or more is a vote for their two clusters; pairs of clusters are matched greedily, most votes
first, each cluster once; matched centres are aggregated, 0.1 of the visible one and 0.9 of the infrared one.

Differences, besides those of `methods/baselines/clusters.py`: both stages share one run of HiTPro's length, the second
from `adca.begin` on and at the rate that is left there, where the paper trains each for 50 epochs, the second at the
full rate again and from the best evaluation of the first, which is picked on the test set; aggregated centres are
brought to unit length; ties of votes go to the pair of clusters with the most similar two samples; pairs of one camera
have no vote under `across.ban_same_camera`. Random channel augmentation is that of the config.
"""

from typing import ClassVar

import numpy as np

from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.methods.baselines.clusters import BLOCK, ClusterContrast, ClusterMemory
from hitpro_jax.methods.baselines.options import AdcaOptions
from hitpro_jax.types import IR, RGB, TrackletInfo


class ADCA(ClusterContrast):
    """The method; see the head of this file."""

    section: ClassVar[str] = "adca"
    section_type: ClassVar[type | None] = AdcaOptions

    def match_classes(self, memory: ClusterMemory, bank: np.ndarray, info: TrackletInfo, progress: float):
        """Votes match clusters from `begin` on; the visible centre of a matched pair moves to the infrared one."""
        if progress < self.own.begin:
            return memory, None
        camera = info.camera if self.ban_same_camera else None
        match = vote_matches(bank, memory.label, info.modality, least=self.own.similarity, camera=camera)
        visible = (memory.modality == RGB) & (match >= 0)
        centre, keep = np.array(memory.centre), self.own.aggregation
        # the infrared centre would be 0.1 + 0.9 of itself: only the visible one moves
        centre[visible] = unit(keep * centre[visible] + (1.0 - keep) * centre[match[visible]])
        return memory._replace(centre=centre), match


def vote_matches(
    bank: np.ndarray, label: np.ndarray, modality: np.ndarray, *, least: float, camera: np.ndarray | None = None
) -> np.ndarray:
    """Clusters of the two modalities matched by the votes of their members.

    Args:
      bank: [P, D] unit rows.
      label: [P] cluster of each row, -1 for none; no cluster lies in two modalities.
      modality: [P].
      least: cosine from which a pair of rows votes.
      camera: [P], where pairs of one camera have no vote; None: all pairs have one.

    Returns:
      int32 [P]: the matched cluster of each cluster, -1 for none; if a is matched with b, so is b with a.

    Time: one product of all visible with all infrared rows, in blocks.

    >>> bank = np.array([[1., 0.], [0., 1.], [1., 0.], [.8, .6]])
    >>> vote_matches(bank, np.array([0, 1, 2, 2]), np.array([0, 0, 1, 1]), least=.5).tolist()
    [2, -1, 0, -1]
    """
    size = int(label.max(initial=-1)) + 1
    votes, best = np.zeros((size, size), np.int64), np.full((size, size), -np.inf)
    visible, infrared = (np.flatnonzero((label >= 0) & (modality == m)) for m in (RGB, IR))
    for start in range(0, len(visible), BLOCK):
        rows = visible[start : start + BLOCK]
        cosine = bank[rows] @ bank[infrared].T
        votes_at = cosine >= least
        if camera is not None:
            votes_at &= camera[rows][:, None] != camera[infrared]
        i, j = np.nonzero(votes_at)
        pair = label[rows[i]], label[infrared[j]]
        np.add.at(votes, pair, 1)
        np.maximum.at(best, pair, cosine[i, j])
    match = np.full(len(label), -1, np.int32)
    a, b = np.nonzero(votes)
    for k in np.lexsort((-best[a, b], -votes[a, b])):
        if match[a[k]] < 0 and match[b[k]] < 0:
            match[a[k]], match[b[k]] = b[k], a[k]
    return match
