"""The reference: training with person ids, identity cross-entropy on cosine proxies plus a batch-hard triplet term.

The one method that gets person ids, by an argument of its own (see `train.prepare`). It is the usual supervised recipe
(Luo et al., CVPRW 2019: softmax and triplet on a BNNeck) in the frame of all other methods: same encoder, clips,
optimiser and evaluator. A batch's partners are tracklets of the anchors' persons, in either modality; the modalities
share a person's proxy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from hitpro_jax.kernels.losses import mean_over
from hitpro_jax.kernels.pseudo_labels import batch_hard_triplet, identity_entropy
from hitpro_jax.methods.baselines.clusters import ClusterContrast, ClusterMemory, aggregate, of_clips, tables
from hitpro_jax.types import TrackletInfo


@dataclass(frozen=True, eq=False)
class Supervised(ClusterContrast):
    """own: margin, triplet. labels: int [P] identities from 0 on, -1 for padding."""

    labels: np.ndarray = None

    def parameters(self, dim: int, seed: int) -> Mapping[str, np.ndarray]:
        """What is trained besides the encoder: a proxy a person, in place of the memory's centres."""
        proxies = np.random.default_rng(seed).standard_normal((self.labels.max() + 1, dim))
        return {"centre": (0.05 * proxies).astype(np.float32)}  # short: quick to turn

    def refresh(self, memory: ClusterMemory, parts, part_mask, info: TrackletInfo, progress) -> ClusterMemory:
        bank, reliability = aggregate(parts, part_mask)
        info, host = jax.tree.map(np.asarray, (info, bank))
        within, same_view, across = tables(host, self.labels, info, np.arange(len(host)), self.clusters["positives"])
        return memory._replace(
            prototypes=bank,
            reliability=reliability,
            within=within,
            same_view=same_view.index,
            across=across,
            label=self.labels,
            target=self.labels,
            epoch=memory.epoch + 1,
        )

    def loss(self, memory: ClusterMemory, encoded, clips: Mapping[str, jax.Array], info: TrackletInfo, progress):
        features, label = encoded.tracklet, of_clips(memory.label, clips["tracklet"], -1)
        terms = {
            "identity": mean_over(
                *identity_entropy(features, memory.centre, label, temperature=self.clusters["temperature"])
            ),
            "triplet": mean_over(*batch_hard_triplet(features, label, margin=self.own["margin"])),
        }
        return terms["identity"] + self.own["triplet"] * terms["triplet"], terms

    def update(self, memory: ClusterMemory, features: jax.Array, tracklet: jax.Array) -> ClusterMemory:
        return memory
