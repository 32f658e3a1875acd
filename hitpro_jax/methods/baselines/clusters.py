"""Cluster Contrast (Dai et al., ACCV 2022) for each modality, and what the methods that start from it share.

As dual contrastive learning, the first stage of ADCA (Yang et al., ACM MM 2022), builds it.

Followed: at every epoch k-reciprocal Jaccard distances and DBSCAN within each modality (eps 0.6, k1 30, k2 6, at least
4 members), a memory of cluster centres, cross-entropy of a clip against the clusters of its modality at tau 0.05,
centres updated by momentum 0.1; clips of outliers are left out; L = L_rgb + L_ir.

Differences from the papers, here and in all methods built on it:
  - the sample is a tracklet. Its feature is the mean of its frame features (the accepted adaptation of image methods):
    of each sub-tracklet's frames, and of the unit features of sub-tracklets;
  - encoder, clips, augmentation, optimiser, epochs and evaluator are those of HiTPro's config, so that only the method
    differs. Batches too: half of a batch are anchors, in turn over the views, the other half members of their
    clusters, those of other cameras, instead of P clusters x K samples. Visible clips come once, colour-augmented or
    not, and not twice;
  - the clips of a cluster in a batch are averaged before its centre moves, as a scatter with repeated indices has no
    defined order; the released code moves it clip by clip.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.jaccard import jaccard_rows, k_reciprocal_encoding
from hitpro_jax.kernels.memory import momentum_update
from hitpro_jax.kernels.mining.positives import no_positives
from hitpro_jax.kernels.prototypes import aggregate_parts, unit
from hitpro_jax.kernels.pseudo_labels import sum_of_means
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.methods.baselines.options import ClusterOptions
from hitpro_jax.options import Options
from hitpro_jax.types import KINDS, MODALITIES, Array, Clips, Encoded, Mined, Positives, TrackletInfo

BLOCK = 512  # rows of distances held at once

aggregate = jax.jit(aggregate_parts)
_encode = jax.jit(k_reciprocal_encoding, static_argnames=("k1", "k2"))
_jaccard = jax.jit(jaccard_rows)


class ClusterMemory(NamedTuple):
    """P tracklets and at most P classes; a class is a cluster, or for CAP the part of a cluster in one camera.

    The first five fields are as in HiTPro's memory, so that batches and diagnostics read all methods alike: there a
    tracklet's positives are members of its cluster (within, same_view) and of the matched one (across).
    """

    prototypes: Array  # [P, D] float32 unit tracklet features
    reliability: Array  # [P] float32
    within: Positives
    across: Positives  # for diagnostics; of weight 0, so that no partner of a batch is drawn from it
    same_view: Array  # [P, A] int32
    label: Array  # [P] int32 cluster of each tracklet, -1 for none
    target: Array  # [P] int32 class of each tracklet, -1 for none
    centre: Array  # [P, D] float32 unit centre of each class, zero in unused rows
    scope: Array  # [P] int32 the modality (CAP: view) within which a class is a negative, -1 in unused rows
    modality: Array  # [P] int32 of a class, -1 in unused rows
    same_person: Array  # [P, M] int32 classes of the same person as a class, -1 for none
    epoch: Array  # [] int32, refreshes so far


@dataclass(frozen=True)
class ClusterContrast(Method):
    """The method with its options, and what the methods that start from it share.

    Attributes:
      clusters: options of the family, with the method's own values where it has some.
      own: options of the method alone; None for cluster contrast itself.
      num_views: V.
      ban_same_camera: `across.ban_same_camera`: no tracklet is matched with one of its own camera.
    """

    refresh_on_host: ClassVar[bool] = True  # DBSCAN is a library's, and runs on the host
    image_method: ClassVar[bool] = True

    clusters: ClusterOptions
    own: Any
    num_views: int
    ban_same_camera: bool

    @classmethod
    def faults(cls, options: Options) -> list[str]:
        """The method's own k1 must hold the k2 of the family."""
        clusters = with_own_values(options.more["clusters"], options.more.get(cls.section))
        if clusters.k2 <= clusters.k1:
            return []
        return [f"{cls.section}.k1 is {clusters.k1}: give at least clusters.k2, which is {clusters.k2}"]

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        """The method for one process (see `Run.require_fit`)."""
        own = options.more.get(cls.section)
        clusters = with_own_values(options.more["clusters"], own)
        return cls(clusters, own, setting.num_views, options.across.ban_same_camera)

    def notes(self, info: TrackletInfo, frames: np.ndarray | None = None) -> list[str]:
        """Modalities with so few tracklets that all of them are each other's k1 nearest."""
        numbers = np.bincount(np.asarray(info.modality), minlength=MODALITIES)
        return [
            f"note: {number} {KINDS[one]} tracklets can hardly form two clusters, as all are among each other's "
            f"{self._k1}={self.clusters.k1} nearest: lower {self._k1}, or give more tracklets"
            for one, number in enumerate(numbers)
            if 0 < number <= self.clusters.k1
        ]

    def warnings(self, mined: Mined, info: TrackletInfo) -> list[str]:
        """Modalities with fewer than two clusters: what is contrasted with nothing learns nothing."""
        label, lines = np.asarray(mined.label)[: len(info.modality)], []
        for one in np.unique(info.modality):
            own = label[np.asarray(info.modality) == one]
            number = len(np.unique(own[own >= 0]))
            if number < 2:
                lines.append(
                    f"warning: the {len(own)} {KINDS[one]} tracklets form {('no', 'one')[number]} cluster, so that the "
                    f"loss of clusters learns nothing from them: lower {self._k1} ({self.clusters.k1}) or "
                    f"clusters.min_samples ({self.clusters.min_samples}), or give more tracklets"
                )
        return lines

    @property
    def _k1(self) -> str:
        """The field that k1 comes from."""
        return f"{self.section}.k1" if hasattr(self.own, "k1") else "clusters.k1"

    @property
    def classes_per_person(self) -> int:
        """M, classes that the memory can hold together as one person's."""
        return 1

    def init(self, size: int, dim: int) -> ClusterMemory:
        """The memory before the first refresh: no clusters."""

        def none(*columns):  # an array of its own each time, because a training step donates every buffer of its state
            return jnp.full((size, *columns), -1, jnp.int32)

        def nothing():
            return no_positives(size, positives=self.clusters.positives, ambiguous=0)

        return ClusterMemory(
            prototypes=jnp.zeros((size, dim)),
            reliability=jnp.zeros(size),
            within=nothing(),
            across=nothing(),
            same_view=none(self.clusters.positives),
            label=none(),
            target=none(),
            centre=jnp.zeros((size, dim)),
            scope=none(),
            modality=none(),
            same_person=none(self.classes_per_person),
            epoch=jnp.zeros((), jnp.int32),
        )

    def shardings(self) -> ClusterMemory:
        """Copied to all devices. Choice: these memories are small, and the baselines need no pod."""
        return jax.tree.map(lambda _: PartitionSpec(), jax.eval_shape(lambda: self.init(1, 1)))

    def mined(self, memory: ClusterMemory) -> Mined:
        """The memory's tables, and the cluster of each tracklet."""
        return Mined(
            memory.prototypes, memory.reliability, memory.within, memory.across, memory.same_view, memory.label
        )

    def refresh(self, memory: ClusterMemory, parts, part_mask, info: TrackletInfo, progress) -> ClusterMemory:
        """Tracklet features from [P, S, D], their clusters, and the classes of the loss."""
        bank, reliability = aggregate(parts, part_mask)
        label = cluster(bank, info, self.clusters)
        info, host = jax.tree.map(np.asarray, (info, bank))
        target, scope, modality = self.classes(label, info)
        centre = unit(segment_mean(jnp.asarray(host), jnp.asarray(target), num_segments=len(label))[0])
        fresh = memory._replace(
            prototypes=bank,
            reliability=reliability,
            label=label,
            target=target,
            centre=centre,
            scope=scope,
            modality=modality,
            same_person=np.full_like(memory.same_person, -1),
            epoch=memory.epoch + 1,
        )
        fresh, match = self.match_classes(fresh, host, info, float(progress))
        within, same_view, across = self.tables(host, label, info, match)
        return fresh._replace(
            within=within,
            same_view=same_view.index,
            # of weight 0: diagnostics read them, but no batch draws a partner from them
            across=across._replace(weight=np.zeros_like(across.weight)),
        )

    def classes(self, label: np.ndarray, info: TrackletInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class of each tracklet, scope and modality of each class, all int [P]: here a class is a cluster."""
        modality = per_class(label, info.modality)
        return label, modality, modality

    def match_classes(
        self, memory: ClusterMemory, bank: np.ndarray, info: TrackletInfo, progress: float
    ) -> tuple[ClusterMemory, np.ndarray | None]:
        """Matches classes across modalities, where a method does.

        Args:
          memory: after clustering.
          bank: [P, D] unit tracklet features.
          info: of the tracklets.
          progress: share of the training that is done.

        Returns:
          The memory with what follows from the match, and the matched cluster of each cluster [P]; None for no match.
        """
        return memory, None

    def tables(
        self, bank: np.ndarray, label: np.ndarray, info: TrackletInfo, match: np.ndarray | None
    ) -> tuple[Positives, Positives, Positives]:
        """Positives within, in the same view and across: members of the own cluster, and of the matched one.

        match: int [P], the matched cluster of each cluster, -1 for none; None: no match.
        """
        wanted = np.full_like(label, -1) if match is None else np.where(label >= 0, match[label], -1)
        modality, camera, view = info.modality, info.camera, info.view

        def find(wanted: np.ndarray, allowed: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Positives:
            return members(bank, label, wanted, self.clusters.positives, allowed)

        within = find(label, lambda i, j: (modality[i] == modality[j]) & (camera[i] != camera[j]))
        same_view = find(label, lambda i, j: (view[i] == view[j]) & (i != j))
        across = find(wanted, lambda i, j: (modality[i] != modality[j]) & self.may_cross(camera[i], camera[j]))
        return within, same_view, across

    def may_cross(self, camera: Array, other: Array) -> Array:
        """Whether tracklets of different modalities in these cameras may be taken for one person: bool, broadcast."""
        return (camera != other) | (not self.ban_same_camera)

    def loss(self, memory: ClusterMemory, own, encoded: Encoded, clips: Clips, info: TrackletInfo, progress):
        """Cross-entropy against the clusters of the own modality."""
        similarity, target, modality = self.look_up(memory, encoded, clips, info)
        term = self.contrast(memory, similarity, target, modality)
        return term, {"cluster": term}

    def look_up(self, memory: ClusterMemory, encoded: Encoded, clips: Clips, info: TrackletInfo):
        """Similarities of clips and centres [B, P], classes of the clips [B] (-1 for none), and their modalities."""
        target = of_clips(memory.target, clips.tracklet, -1)
        similarity = losses.similarities(encoded.tracklet, memory.centre)
        return similarity, target, of_clips(info.modality, clips.tracklet, 0)

    def contrast(self, memory: ClusterMemory, similarity, target, modality) -> jax.Array:
        """Mean `entropy` of each modality's clips, summed over the modalities."""
        return sum_of_means(*self.entropy(memory, similarity, target), modality, parts=MODALITIES)

    def entropy(self, memory: ClusterMemory, similarity, target) -> tuple[jax.Array, jax.Array]:
        """(loss, has) [B]: -log( exp(s_c / tau) / sum over all classes of c's scope ), c the target."""
        none = jnp.full((len(target), 1), -1)
        return losses.intra_camera(
            similarity,
            target,
            memory.scope,
            memory.scope >= 0,
            none,
            temperature=self.clusters.temperature,
            mode="none",
        )

    def update(self, memory: ClusterMemory, features: jax.Array, tracklet: jax.Array) -> ClusterMemory:
        """Moves the centres of the batch's classes towards their clips' features [B, D]."""
        return self.moved(memory, features, of_clips(memory.target, tracklet, -1))

    def moved(self, memory: ClusterMemory, features: jax.Array, target: jax.Array) -> ClusterMemory:
        """The memory with the centres of the classes `target` [B] moved towards `features` [B, D]."""
        centre = momentum_update(memory.centre, features, target, momentum=self.clusters.momentum)
        return memory._replace(centre=centre)


def with_own_values(clusters: ClusterOptions, own: Any) -> ClusterOptions:
    """The family's options, with a method's own value for every field that both have.

    >>> from hitpro_jax.methods.baselines.options import PgmOptions
    >>> with_own_values(ClusterOptions(), PgmOptions(momentum=0.3)).momentum
    0.3
    """
    if own is None:
        return clusters
    shared = {each.name for each in dataclasses.fields(clusters)} & {each.name for each in dataclasses.fields(own)}
    return dataclasses.replace(clusters, **{name: getattr(own, name) for name in shared})


def of_clips(table: jax.Array, tracklet: jax.Array, none: int) -> jax.Array:
    """The entries of a table [P] for the clips' tracklets [B]; `none` for a clip of -1."""
    return jnp.where(tracklet >= 0, table[tracklet], none)


def per_class(classes: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The value of a column [P] for each class, that of its members, int32 [P]; -1 in rows of no class.

    >>> per_class(np.array([1, -1, 0]), np.array([5, 6, 7])).tolist()
    [7, 5, -1]
    """
    out = np.full(len(classes), -1, np.int32)
    out[classes[classes >= 0]] = column[classes >= 0]
    return out


def cluster(bank: jax.Array, info: TrackletInfo, options: ClusterOptions) -> np.ndarray:
    """DBSCAN on Jaccard distances within each modality: cluster of each row, int32 [P]; -1 for outliers and padding.

    Only pairs closer than eps leave the device, a block of rows at a time, which is all that DBSCAN reads.
    """
    # imported here, because HiTPro does without
    from scipy.sparse import csr_matrix
    from sklearn.cluster import DBSCAN

    size, valid = len(bank), np.asarray(info.valid)
    encoding = _encode(bank, info, k1=options.k1, k2=options.k2)
    found = []
    for start in range(0, size, BLOCK):
        # the last block may run past the end, so that one size compiles: such rows are empty
        distance = np.asarray(_jaccard(encoding, np.arange(start, start + BLOCK, dtype=np.int32)))
        row, column = np.nonzero(distance <= options.eps)
        found.append((row + start, column, distance[row, column]))
    row, column, distance = (np.concatenate(part) for part in zip(*found, strict=True))
    real = np.cumsum(valid) - 1  # DBSCAN sees the valid rows alone
    graph = csr_matrix((distance, (real[row], real[column])), shape=(valid.sum(),) * 2)
    label = np.full(size, -1, np.int32)
    dbscan = DBSCAN(eps=options.eps, min_samples=options.min_samples, metric="precomputed")
    label[valid] = dbscan.fit_predict(graph)
    return label


def members(
    bank: np.ndarray,
    label: np.ndarray,
    wanted: np.ndarray,
    count: int,
    allowed: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Positives:
    """The `count` most similar allowed members of the cluster that each tracklet wants, of equal weight.

    Args:
      bank: [P, D] unit rows.
      label: [P] cluster of each row, -1 for none.
      wanted: [P] cluster whose members are wanted, -1 for none.
      count: K.
      allowed: whether row j may be a positive of row i, from ids [n, 1] and [m] to bool [n, m].

    Returns:
      Positives [P, K] of NumPy arrays, best first, without thresholds and ambiguous ones.

    >>> label = np.array([0, 0, 0, 1])
    >>> members(np.eye(4), label, label, 2, lambda i, j: i != j).index.tolist()
    [[1, 2], [0, 2], [0, 1], [-1, -1]]
    """
    index = np.full((len(bank), count), -1, np.int32)
    for one in np.unique(wanted[wanted >= 0]):
        asking, columns = np.flatnonzero(wanted == one), np.flatnonzero(label == one)
        for rows in np.array_split(asking, -(-len(asking) // BLOCK)):  # one cluster may hold nearly everything
            score = np.where(allowed(rows[:, None], columns), bank[rows] @ bank[columns].T, -np.inf)
            order = np.argsort(-score, axis=1, kind="stable")[:, :count]
            there = np.take_along_axis(score, order, axis=1) > -np.inf
            index[rows, : order.shape[1]] = np.where(there, columns[order], -1)
    weight = (index >= 0) / np.maximum((index >= 0).sum(1, keepdims=True), 1)
    return Positives(
        index, weight.astype(np.float32), np.full((len(bank), 0), -1, np.int32), np.full(MODALITIES, np.inf, np.float32)
    )
