"""CAP, camera-aware proxies (Wang et al., AAAI 2021), for each modality by itself.

Followed: clusters from Jaccard distances and DBSCAN (eps 0.5, k1 20, k2 6, at least 4 members) are split by camera;
each part has a proxy, the mean of its members. Intra-camera loss: cross-entropy against the proxies of the own camera,
averaged over the clips of a camera and summed over cameras. From a tenth of training on, 0.5 of the inter-camera loss:
the proxies of the own cluster in all cameras share the target in equal parts, against the 50 hardest other proxies. tau
0.07; proxies are updated with 0.2 as the weight of the old value.

Differences, besides those of `methods/baselines/clusters.py`: there is no cross-modal part, as CAP is a method for
one modality; clusters, cameras and negatives are those of the own modality. Batches are not balanced over proxies.
"""

from typing import ClassVar

import numpy as np

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.pseudo_labels import sum_of_means
from hitpro_jax.kernels.schedules import ramp
from hitpro_jax.methods.baselines.clusters import ClusterContrast, ClusterMemory, of_clips, per_class
from hitpro_jax.methods.baselines.options import CapOptions
from hitpro_jax.types import Clips, Encoded, TrackletInfo


class CAP(ClusterContrast):
    """The method; see the head of this file."""

    section: ClassVar[str] = "cap"
    section_type: ClassVar[type | None] = CapOptions

    @property
    def classes_per_person(self) -> int:
        """One a view."""
        return self.num_views

    def classes(self, label: np.ndarray, info: TrackletInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A class is a cluster in one view."""
        proxy = np.full_like(label, -1)
        there = label >= 0
        pairs = np.stack([label, info.view], 1)[there]
        proxy[there] = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
        return proxy, per_class(proxy, info.view), per_class(proxy, info.modality)

    def match_classes(self, memory: ClusterMemory, bank: np.ndarray, info: TrackletInfo, progress: float):
        """Proxies of one cluster are classes of the same person."""
        cluster = per_class(memory.target, memory.label)  # of each proxy
        same_person = np.full_like(memory.same_person, -1)
        for one in np.unique(cluster[cluster >= 0]):
            proxies = np.flatnonzero(cluster == one)
            same_person[proxies, : len(proxies)] = proxies
        return memory._replace(same_person=same_person), None

    def loss(self, memory: ClusterMemory, own, encoded: Encoded, clips: Clips, info: TrackletInfo, progress):
        """Cross-entropy within each camera, and from `begin` on between cameras."""
        similarity, target, modality = self.look_up(memory, encoded, clips, info)
        view = of_clips(info.view, clips.tracklet, 0)
        intra = sum_of_means(*self.entropy(memory, similarity, target), view, parts=self.num_views)
        same_person = memory.same_person[target]
        share = (same_person >= 0) / (same_person >= 0).sum(1, keepdims=True).clip(1)
        # alpha 0 leaves the own proxy out of the sum as such; it stands there as one of its person's proxies
        inter = sum_of_means(
            *losses.soft_target(
                similarity,
                target,
                same_person,
                share,
                memory.modality == modality[:, None],
                same_person[:, :0],
                alpha=0.0,
                temperature=self.clusters.temperature,
                hard_negatives=self.own.hard_negatives,
            ),
            view,
            parts=self.num_views,
        )
        weight = self.own.weight * ramp(progress, begin=self.own.begin, length=0)
        return intra + weight * inter, {"intra": intra, "inter": inter}
