"""The reference: training with person ids, identity cross-entropy on cosine proxies plus a batch-hard triplet term.

The one method that gets person ids (see `Setting.identities`). It is the usual supervised recipe
(Luo et al., CVPRW 2019: softmax and triplet on a BNNeck) in the frame of all other methods: same encoder, clips,
optimiser and evaluator. A batch's partners are tracklets of the anchors' persons, in either modality; the modalities
share a person's proxy.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import jax
import numpy as np

from hitpro_jax.kernels.losses import mean_over
from hitpro_jax.kernels.pseudo_labels import batch_hard_triplet, identity_entropy
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.baselines.clusters import ClusterContrast, ClusterMemory, aggregate, of_clips
from hitpro_jax.methods.baselines.options import SupervisedOptions
from hitpro_jax.options import Options
from hitpro_jax.types import Clips, Encoded, Mined, TrackletInfo


@dataclass(frozen=True, eq=False)
class Supervised(ClusterContrast):
    """The method; `identities`: int32 [P] from 0 on, -1 for padding."""

    section: ClassVar[str] = "supervised"
    section_type: ClassVar[type | None] = SupervisedOptions
    needs_identities: ClassVar[bool] = True
    image_method: ClassVar[bool] = False  # Choice: it trains the same encoder as HiTPro, attention over frames included

    identities: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        """The method with the identities of the training set."""
        return dataclasses.replace(super().create(options, setting), identities=setting.identities)

    def notes(self, info: TrackletInfo, frames: np.ndarray | None = None) -> list[str]:
        """None: nothing is clustered."""
        return []

    def warnings(self, mined: Mined, info: TrackletInfo) -> list[str]:
        """Where all tracklets are of one person."""
        if self.identities.max() > 0:
            return []
        return ["warning: nothing is learned, as all tracklets are of one person: give tracklets of more persons"]

    def own_parameters(self, dim: int, seed: int) -> Mapping[str, np.ndarray]:
        """A proxy a person [C, D]."""
        proxies = np.random.default_rng(seed).standard_normal((self.identities.max() + 1, dim))
        return {"proxies": (0.05 * proxies).astype(np.float32)}  # short, so that they turn quickly

    def refresh(self, memory: ClusterMemory, parts, part_mask, info: TrackletInfo, progress) -> ClusterMemory:
        """Tracklet features; positives are tracklets of the same person."""
        bank, reliability = aggregate(parts, part_mask)
        info, host = jax.tree.map(np.asarray, (info, bank))
        everyone = np.arange(len(host))  # each person is matched with itself in the other modality
        within, same_view, across = self.tables(host, self.identities, info, everyone)
        return memory._replace(
            prototypes=bank,
            reliability=reliability,
            within=within,
            same_view=same_view.index,
            across=across,
            label=self.identities,
            target=self.identities,
            epoch=memory.epoch + 1,
        )

    def loss(self, memory: ClusterMemory, own, encoded: Encoded, clips: Clips, info: TrackletInfo, progress):
        """Cross-entropy against the proxies, plus the triplet term."""
        features, label = encoded.tracklet, of_clips(memory.label, clips.tracklet, -1)
        entropy = identity_entropy(features, own["proxies"], label, temperature=self.clusters.temperature)
        triplet = batch_hard_triplet(features, label, margin=self.own.margin)
        terms = {"identity": mean_over(*entropy), "triplet": mean_over(*triplet)}
        return terms["identity"] + self.own.triplet * terms["triplet"], terms

    def update(self, memory: ClusterMemory, features: jax.Array, tracklet: jax.Array) -> ClusterMemory:
        """Unchanged: the proxies are trained, and no centre is read."""
        return memory
