"""SDCL (Yang et al., CVPR 2024), its neighbour learning: cluster contrast, and instances drawn to their neighbours.

Followed: besides the cluster memories, a memory of instances. The neighbours of a sample are the instances whose
cosine to its own memory exceeds 0.9 of the row's largest; a clip is drawn to them in a softmax over all instances, at
tau 0.05 and divided by one more than their number. Within the modality (where the sample itself is the largest of its
row) from the start, with weight 1; in the other modality from 20 % of training on (epoch 10 of 50), with weight 0.5,
visible clips in one epoch, infrared ones in the next. Instances keep 0.9 of their old value.

Differences, besides those of `methods/baselines/clusters.py`: one feature a sample, where the paper keeps two, of
shallow and of deep transformer layers, and takes the neighbours on which both agree; so there is none of the
collaboration between them, and no last stage (epoch 30 of 50) that labels visible samples by infrared clusters and
turns the neighbours' weights down. Clips move their instance as unit features, in the released code as they leave the
neck, which counts them for more than a tenth. Both cross-modal directions have the same weight, where the released code
gives the visible one a tenth. Under `across.ban_same_camera` instances of the own camera in the other modality are
neither neighbours nor in the softmax.
"""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.memory import momentum_update
from hitpro_jax.kernels.pseudo_labels import neighbour_loss, neighbours_of, sum_of_means
from hitpro_jax.kernels.schedules import ramp
from hitpro_jax.methods.baselines.clusters import BLOCK, ClusterContrast, ClusterMemory, of_clips
from hitpro_jax.methods.baselines.options import SdclOptions
from hitpro_jax.types import MODALITIES, Clips, Encoded, TrackletInfo


class SDCL(ClusterContrast):
    """The method; see the head of this file."""

    section: ClassVar[str] = "sdcl"
    section_type: ClassVar[type | None] = SdclOptions

    def loss(self, memory: ClusterMemory, own, encoded: Encoded, clips: Clips, info: TrackletInfo, progress):
        """Cross-entropy against clusters, and neighbour learning within and across modalities."""
        similarity, target, modality = self.look_up(memory, encoded, clips, info)
        cluster = self.contrast(memory, similarity, target, modality)
        own = memory.prototypes[clips.tracklet]
        likeness, instances = (losses.similarities(x, memory.prototypes) for x in (own, encoded.tracklet))
        same = info.modality == modality[:, None]
        learned = (clips.tracklet >= 0)[:, None] & info.valid
        turn = (modality == (memory.epoch - 1) % MODALITIES)[:, None]

        def towards(candidate):
            near = neighbours_of(likeness, candidate, share=self.own.share)
            term = neighbour_loss(instances, near, candidate, temperature=self.clusters.temperature)
            return sum_of_means(*term, modality, parts=MODALITIES)

        crossing = ~same & turn & self.may_cross(of_clips(info.camera, clips.tracklet, -1)[:, None], info.camera)
        within, across = towards(learned & same), towards(learned & crossing)
        weight = self.own.across * ramp(progress, begin=self.own.begin, length=0)
        return (
            cluster + self.own.within * within + weight * across,
            {"cluster": cluster, "within": within, "across": across},
        )

    def refresh(self, memory: ClusterMemory, parts, part_mask, info: TrackletInfo, progress) -> ClusterMemory:
        """As of cluster contrast; the positives across are the neighbours in the other modality."""
        fresh = super().refresh(memory, parts, part_mask, info, progress)
        index = _neighbour_table(
            fresh.prototypes,
            info,
            share=self.own.share,
            count=self.clusters.positives,
            ban_same_camera=self.ban_same_camera,
        )
        return fresh._replace(across=fresh.across._replace(index=index))

    def update(self, memory: ClusterMemory, features: jax.Array, tracklet: jax.Array) -> ClusterMemory:
        """Clips move the centre of their class and the instance of their tracklet."""
        memory = super().update(memory, features, tracklet)
        return memory._replace(
            prototypes=momentum_update(memory.prototypes, features, tracklet, momentum=self.own.instance_momentum)
        )


@partial(jax.jit, static_argnames=("count", "ban_same_camera"))
def _neighbour_table(
    bank: jax.Array, info: TrackletInfo, *, share: float, count: int, ban_same_camera: bool
) -> jax.Array:
    """The nearest `count` of each row's neighbours in the other modality, int32 [P, count]; -1 for none."""

    def row(anchor):
        likeness = losses.similarities(bank[anchor][None], bank)
        candidate = info.valid & info.valid[anchor] & (info.modality != info.modality[anchor])
        if ban_same_camera:
            candidate &= info.camera != info.camera[anchor]
        near = neighbours_of(likeness, candidate[None], share=share)[0]
        best, index = jax.lax.top_k(jnp.where(near, likeness[0], -jnp.inf), min(count, len(bank)))
        return jnp.where(best > -jnp.inf, index, -1)

    index = jax.lax.map(row, jnp.arange(len(bank)), batch_size=BLOCK)
    return jnp.pad(index, ((0, 0), (0, count - index.shape[1])), constant_values=-1)
