"""HiTPro: prototypes from sub-tracklets, two-stage positives, contrast at three levels (paper).

P prototypes (one a tracklet), D features, S parts, K positives, A ambiguous, V views; B clips, T frames.
A new level of the loss is a record in `HiTPro.levels` and the kernel that it calls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.banks import Tiling
from hitpro_jax.kernels.collectives import position_of, take_rows
from hitpro_jax.kernels.memory import momentum_update
from hitpro_jax.kernels.mining import stages
from hitpro_jax.kernels.mining.positives import no_positives
from hitpro_jax.kernels.mining.thresholds import part_threshold
from hitpro_jax.kernels.prototypes import aggregate_parts, direction_from, halves_similarity
from hitpro_jax.kernels.schedules import ramp, schedule
from hitpro_jax.kernels.search import exact, ivf
from hitpro_jax.kernels.search.centring import view_centres
from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.options import (
    AcrossOptions,
    AlignmentOptions,
    LossOptions,
    Options,
    PrototypeOptions,
    StageOptions,
    WithinOptions,
)
from hitpro_jax.types import KINDS, MODALITIES, Clips, Encoded, Mined, Positives, TrackletInfo


class Memory(NamedTuple):
    """The prototype bank and what was mined from it. Checkpoints name their leaves after these fields."""

    prototypes: jax.Array  # [P, D] float32
    reliability: jax.Array  # [P] float32
    within: Positives  # of stage 1
    across: Positives  # of stage 2
    same_view: jax.Array  # [P, A] int32 prototypes of the own view that look like the same person, -1 for none


class Context(NamedTuple):
    """What the levels of the loss read: this device's rows of the bank, and all clips with what was mined for them."""

    similarity: jax.Array  # [B, P] of clips and prototypes
    frames: Any  # [B, T, D] features; None unless a level reads them
    mask: jax.Array  # [B, T]
    target: jax.Array  # [B] row of each clip's tracklet, -1 for none
    modality: jax.Array  # [B]
    camera: jax.Array  # [B]
    same_view: jax.Array  # [B, A]
    within: Positives  # [B, K]
    across: Positives  # [B, K]
    bank: jax.Array  # [P, D]
    info: TrackletInfo  # [P]


class Level(NamedTuple):
    """A level of the loss: L = sum over levels of weight(progress) * term(context)."""

    name: str  # of the term in the log
    weight: Callable[[Any], Any]
    term: Callable[[Context], jax.Array]
    reads_frames: bool = False  # features of single frames, which then go to every device
    log_weight: bool = False  # whether its weight stands beside its term in the log


@dataclass(frozen=True)
class HiTPro(Method):
    """The method; see `base.Method` for what its functions take and return."""

    prototypes: PrototypeOptions
    within: WithinOptions
    across: AcrossOptions
    alignment: AlignmentOptions
    contrast: LossOptions
    num_views: int
    mesh: Mesh | None = None

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        """The method with its options."""
        return cls(
            prototypes=options.prototypes,
            within=options.within,
            across=options.across,
            alignment=options.alignment,
            contrast=options.loss,
            num_views=setting.num_views,
            mesh=setting.mesh,
        )

    def notes(self, info: TrackletInfo, frames: np.ndarray | None = None) -> list[str]:
        """Which levels of the loss can have no terms on these tracklets, and how look-alikes of a view are found."""
        modality, camera = np.asarray(info.modality), np.asarray(info.camera)
        lines = []
        if len(set(modality)) == 1:
            lines.append(
                f"note: all tracklets are {KINDS[modality[0]]}, so level 3 (cross-modality) has no terms; going on "
                "without it"
            )
        if all(len(set(camera[modality == one])) == 1 for one in set(modality)):
            lines.append(
                "note: no modality has two cameras, so level 2 (cross-camera) has no terms; going on without it"
            )
        if len(set(info.view)) == len(modality):
            lines.append("note: no view has two tracklets, so level 1 (in a camera) has no terms; going on without it")
        return lines + self._look_alike_notes(modality, frames)

    def _look_alike_notes(self, modality: np.ndarray, frames: np.ndarray | None) -> list[str]:
        """The rule in force for look-alikes, of each modality if they differ."""
        o, parts = self.contrast, self.prototypes.parts
        if o.ambiguity == "none":
            return ["look-alikes of a view: none is looked for, as loss.ambiguity is none"]
        if o.same_view_rule == "stage1":
            return [f"look-alikes of a view: by the rule of stage 1, at most {o.same_view} a tracklet"]
        if frames is None:
            return []
        # the first half of the parts has a frame; the second half always has one
        halves = (parts // 2) * frames // parts > 0
        rules: dict[str, list[str]] = {}
        for one in sorted(set(modality)):
            rule = "as alike as halves of one tracklet"
            if halves[modality == one].mean() < 0.5:
                rule = (
                    "more alike than strangers, as most tracklets have no halves (of one frame, or of one part), so "
                    "give loss.same_view as many as a person has pictures in a view"
                )
            rules.setdefault(rule, []).append(KINDS[one])
        return [
            f"look-alikes of a view ({', '.join(kinds)}): {rule}; at most loss.same_view={o.same_view} a tracklet"
            for rule, kinds in rules.items()
        ]

    def warnings(self, mined: Mined, info: TrackletInfo) -> list[str]:
        """Where no level of the loss that has a weight has a term."""
        o, size = self.contrast, len(info.view)
        rivals = np.bincount(info.view)[info.view] - 1
        if o.ambiguity == "mask":  # look-alikes leave the sum
            rivals = rivals - (np.asarray(mined.same_view)[:size] >= 0).sum(1)
        terms = {
            "view with two tracklets": max(o.intra, o.frame) > 0 and (rivals > 0).any(),
            "positive in another camera": o.within > 0 and (np.asarray(mined.within.index) >= 0).any(),
            "positive in the other modality": o.across > 0 and (np.asarray(mined.across.index) >= 0).any(),
        }
        if any(terms.values()):
            return []
        return [
            "warning: nothing is learned, as no level of the loss has a term: there is no "
            f"{', no '.join(terms)} (or its weight is 0). Give more tracklets, or lower within.kappa and across.kappa "
            "and the rho beside them"
        ]

    def init(self, size: int, dim: int) -> Memory:
        """Zero prototypes and no positives."""

        def nothing(options: StageOptions) -> Positives:
            return no_positives(size, positives=options.positives, ambiguous=options.ambiguous)

        same_view = jnp.full((size, self.contrast.same_view), -1, jnp.int32)
        return Memory(jnp.zeros((size, dim)), jnp.zeros(size), nothing(self.within), nothing(self.across), same_view)

    def shardings(self) -> Memory:
        """Every table is cut by its rows."""
        rows: Any = self._rows
        positives = Positives(rows, rows, rows, PartitionSpec())  # thresholds are held whole
        return Memory(rows, rows, positives, positives, rows)

    def mined(self, memory: Memory) -> Mined:
        """All of the memory."""
        return Mined(**memory._asdict(), label=None)

    def refresh(
        self, memory: Memory, parts: jax.Array, part_mask: jax.Array, info: TrackletInfo, progress: jax.Array
    ) -> Memory:
        """ICTP and HCPA: prototypes from sub-tracklet features, then both stages of mining."""
        tiling = Tiling(mesh=self.mesh)
        aggregate = partial(aggregate_parts, mode=self.prototypes.mode, temperature=self.prototypes.temperature)
        bank, reliability = tiling.each_part(aggregate, (parts, part_mask))
        centre, compared = jnp.zeros_like(bank), bank
        if self.alignment.centre:
            centre = view_centres(bank, info, num_views=self.num_views)
            compared = direction_from(bank, centre)
        empty = self.init(*bank.shape)
        bars = _bars(self.within, progress, memory.within.threshold)
        within = self._mine_within(compared, info, bars, reliability) if self.within.enabled else empty.within
        if self.contrast.same_view_rule == "parts":
            same_view = self._look_alikes(parts, part_mask, centre, compared, info)
        else:
            same_view = self._mine_same_view(compared, info, within.threshold, rho=bars.rho, rule=self.within.rule)
        across = empty.across
        if self.across.enabled:
            bars = _bars(self.across, progress, memory.across.threshold)
            across = self._mine_across(compared, within, info, bars, reliability)
        return Memory(bank, reliability, within, across, same_view)

    def _look_alikes(self, parts, part_mask, centre, compared, info: TrackletInfo) -> jax.Array:
        """Look-alikes [P, A]: two tracklets of a view that are as alike as halves of single ones.

        In a modality where fewer than half of the tracklets have halves, by `stages.look_alikes_without_halves`.
        """
        modality = jnp.where(info.valid, info.modality, -1)
        halves = Tiling(mesh=self.mesh).each_part(jax.vmap(halves_similarity), (parts, part_mask, centre))
        theta = part_threshold(halves, modality, num_groups=MODALITIES)
        member = modality == jnp.arange(MODALITIES)[:, None]
        # not only where none has halves: a few tracklets of nearly equal frames would set the bar of all pictures
        lacking = 2 * jnp.sum(member & ~jnp.isnan(halves), axis=1) < jnp.sum(member, axis=1)
        mine = partial(self._mine_same_view, info=info, rho=0.0, rule="statistic")

        def without_halves(bank):
            smooth, other = stages.look_alikes_without_halves(
                bank,
                info,
                lacking,
                count=self.contrast.same_view,
                tiling=self._tiling(self.within),
                search=self._search,
            )
            return mine(smooth, theta=jnp.where(lacking, other, theta))

        # a branch, as sets with halves need not pay for it
        return jax.lax.cond(jnp.any(lacking), without_halves, lambda bank: mine(bank, theta=theta), compared)

    def _mine_within(self, bank, info: TrackletInfo, bars: stages.Bars, reliability) -> Positives:
        return stages.within_modality(
            bank,
            info,
            bars,
            options=self.within,
            num_views=self.num_views,
            reliability=reliability if self.within.use_reliability else None,
            tiling=self._tiling(self.within),
            search=self._search,
        )

    def _mine_across(self, bank, within: Positives, info: TrackletInfo, bars: stages.Bars, reliability) -> Positives:
        return stages.across_modalities(
            bank,
            within,
            info,
            bars,
            options=self.across,
            direct=not self.within.enabled,
            reliability=reliability if self.across.use_reliability else None,
            tiling=self._tiling(self.across),
            search=self._search,
        )

    def _mine_same_view(self, bank, info: TrackletInfo, theta, *, rho, rule: str) -> jax.Array:
        return stages.same_view_ambiguity(
            bank,
            info,
            theta,
            rho=rho,
            rule=rule,
            fixed=self.within.fixed,
            count=self.contrast.same_view,
            tiling=self._tiling(self.within),
            search=self._search,
        )

    def loss(
        self,
        memory: Memory,
        own: Mapping[str, jax.Array],
        encoded: Encoded,
        clips: Clips,
        info: TrackletInfo,
        progress: jax.Array,
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """HCL: L = l1(e) L1 + l2(e) L2 + l3(e) L3 + frame term (paper: three levels; weights ours)."""
        # every device gets those of all clips: only where they are read
        levels = self.levels()
        frames = encoded.frame if any(level.reads_frames for level in levels) else None
        batch = encoded.tracklet, frames, clips.tracklet, clips.mask
        specs = (self.shardings(), self._rows, *[PartitionSpec()] * len(batch))
        terms = self._over_devices(self._terms, specs, PartitionSpec())(memory, info, *batch)
        weights = {level.name: level.weight(progress) for level in levels}
        logged = {f"weight_{level.name}": weights[level.name] for level in levels if level.log_weight}
        # in the order of `terms`, which `shard_map` sorts by name: another order would round the sum differently
        total = sum(weights[name] * term for name, term in terms.items())
        return total, {**terms, **logged}

    def levels(self) -> list[Level]:
        """The levels in the order in which one device sums them."""
        o = self.contrast

        def ramped(weight: float, begin: float) -> Callable[[Any], jax.Array]:
            return lambda progress: weight * ramp(progress, begin=begin, length=o.ramp)

        levels = [
            Level("intra", lambda progress: o.intra * schedule(progress, 1.0, o.intra_end), self._intra),
            Level("within", ramped(o.within, o.within_begin), self._within, log_weight=True),
            Level("across", ramped(o.across, o.across_begin), self._across, log_weight=True),
        ]
        if o.frame > 0.0:
            levels.append(Level("frame", lambda progress: o.frame, self._frame, reads_frames=True))
        return levels

    def _terms(self, memory: Memory, info: TrackletInfo, features, frames, target, mask) -> dict[str, jax.Array]:
        """The levels' terms, from this device's rows of memory and info and from all clips."""
        take = partial(take_rows, ids=target, axis=self._axis)

        def of_clips(positives: Positives) -> Positives:
            index, weight, ignore = (take(table) for table in (positives.index, positives.weight, positives.ignore))
            return Positives(index, weight, ignore, positives.threshold)

        context = Context(
            similarity=losses.similarities(features, memory.prototypes),
            frames=frames,
            mask=mask,
            target=target,
            same_view=take(memory.same_view),
            modality=take(info.modality),
            camera=take(info.camera),
            within=of_clips(memory.within),
            across=of_clips(memory.across),
            bank=memory.prototypes,
            info=info,
        )
        return {level.name: level.term(context) for level in self.levels()}

    def _intra(self, context: Context) -> jax.Array:
        """Level 1: against the prototypes of the own view."""
        return losses.mean_over(*self._own_view(context, context.similarity, context.target, context.same_view))

    def _within(self, context: Context) -> jax.Array:
        """Level 2: own prototype and positives of the own modality."""
        unsure = context.within.ignore
        # level 1 read literally knows no look-alikes, so that level 2 gets no mask of them either
        if self.contrast.ambiguity != "none":
            unsure = jnp.concatenate([unsure, context.same_view], axis=1)
        same_modality = context.info.valid & (context.info.modality == context.modality[:, None])
        return self._soft_target(context, context.within, same_modality, unsure, alpha=self.contrast.alpha)

    def _across(self, context: Context) -> jax.Array:
        """Level 3: positives of the other modality, without the own prototype."""
        candidate = context.info.valid & (context.info.modality != context.modality[:, None])
        if self.across.ban_same_camera:  # a twin is no positive, and a clip must not be pushed from it either
            candidate &= context.info.camera != context.camera[:, None]
        return self._soft_target(context, context.across, candidate, context.across.ignore, alpha=0.0)

    def _frame(self, context: Context) -> jax.Array:
        """Level 1 of every frame against its own tracklet (paper: discriminative frame features)."""
        length = context.frames.shape[1]
        similarity = losses.similarities(context.frames.reshape(-1, context.frames.shape[-1]), context.bank)
        same_view = jnp.repeat(context.same_view, length, axis=0)
        loss, has = self._own_view(context, similarity, jnp.repeat(context.target, length), same_view)
        return losses.mean_over(loss, has & context.mask.reshape(-1))

    def _own_view(self, context: Context, similarity, target, same_view) -> tuple[jax.Array, jax.Array]:
        return losses.intra_camera(
            similarity,
            target,
            context.info.view,
            context.info.valid,
            same_view,
            temperature=self.contrast.temperature,
            mode=self.contrast.ambiguity,
            axis=self._axis,
        )

    def _soft_target(self, context: Context, positives: Positives, candidate, ignore, *, alpha: float) -> jax.Array:
        loss, has = losses.soft_target(
            context.similarity,
            context.target,
            positives.index,
            positives.weight,
            candidate,
            ignore,
            temperature=self.contrast.temperature,
            alpha=alpha,
            hard_negatives=self.contrast.hard_negatives,
            axis=self._axis,
        )
        return losses.mean_over(loss, has)

    def update(self, memory: Memory, features: jax.Array, tracklet: jax.Array) -> Memory:
        """Moves the prototypes of the batch's tracklets towards their clips' features."""

        def move(bank: jax.Array, features: jax.Array, tracklet: jax.Array) -> jax.Array:
            position, present = position_of(tracklet, len(bank), self._axis)
            index = jnp.where(present, position, -1)
            return momentum_update(bank, features, index, momentum=self.prototypes.momentum)

        specs = (self._rows, PartitionSpec(), PartitionSpec())
        moved = self._over_devices(move, specs, self._rows)(memory.prototypes, features, tracklet)
        return memory._replace(prototypes=moved)

    def _tiling(self, options: StageOptions) -> Tiling:
        return Tiling(options.block, self.mesh)

    @property
    def _search(self) -> stages.Search:
        if self.alignment.search == "exact":
            return exact.nearest
        index = ivf.IvfIndex(self.num_views, self.alignment.cells, self.alignment.probes)
        return partial(ivf.nearest, index=index)

    @property
    def _axis(self) -> str | None:
        return Tiling(mesh=self.mesh).axis

    @property
    def _rows(self) -> PartitionSpec:
        return PartitionSpec(self._axis)

    def _over_devices(self, function: Callable, in_specs: Any, out_specs: Any) -> Callable:
        """A function of each device's own rows."""
        if self.mesh is None:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs)


def _bars(options: StageOptions, progress: jax.Array, previous: jax.Array) -> stages.Bars:
    """This refresh's values of the ranges in the options."""
    rho, kappa = (schedule(progress, *ends, kind=options.schedule) for ends in (options.rho, options.kappa))
    return stages.Bars(rho, kappa, previous)
