"""HiTPro: prototypes from sub-tracklets, two-stage positives, contrast at three levels (paper).

A method is built from plain keyword sections and gives pure functions that `steps` compiles:
  empty(size, dim) -> memory;  refresh(memory, parts, part_mask, group, progress) -> memory;
  loss(memory, encoded, clips, group, progress) -> (loss, terms);  update(memory, features, tracklet) -> memory;
  layout() -> how the memory is cut over the mesh: every table by its rows, one row a tracklet.
Person ids appear nowhere: `TrackletInfo` holds all that a prototype may know of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.banks import each_part
from hitpro_jax.kernels.collectives import place_of, take_rows
from hitpro_jax.kernels.memory import momentum_update
from hitpro_jax.kernels.mining import stages
from hitpro_jax.kernels.mining.positives import no_positives
from hitpro_jax.kernels.mining.thresholds import part_threshold
from hitpro_jax.kernels.prototypes import aggregate_parts, apart, halves_alike
from hitpro_jax.kernels.schedules import ramp, schedule
from hitpro_jax.kernels.search import exact, ivf
from hitpro_jax.kernels.search.centring import view_centres
from hitpro_jax.types import MODALITIES, Positives, TrackletInfo


class Memory(NamedTuple):
    """The prototype bank and what was mined from it; P prototypes, one a tracklet.

    prototypes [P, D] and reliability [P] float32; within and across: positives of stage 1 and 2;
    same_view [P, A]: prototypes of the own view that look like the same person, -1 for none.
    """

    prototypes: jax.Array
    reliability: jax.Array
    within: Positives
    across: Positives
    same_view: jax.Array


@dataclass(frozen=True)
class HiTPro:
    """The method with its switches, each section a mapping of plain values (see `configs/base.py`)."""

    prototypes: Mapping[str, Any]
    within: Mapping[str, Any]
    across: Mapping[str, Any]
    loss_options: Mapping[str, Any]
    num_views: int
    mesh: Mesh | None  # of one axis, over which the rows of the memory are cut; None: all on one device
    alignment: Mapping[str, Any] = field(default_factory=lambda: {"centre": False, "search": "exact"})

    def empty(self, size: int, dim: int) -> Memory:
        """The memory before the first refresh: zero prototypes and no positives."""

        def nothing(options):
            return no_positives(size, positives=options["positives"], ambiguous=options["ambiguous"])

        same_view = jnp.full((size, self.loss_options["same_view"]), -1, jnp.int32)
        return Memory(jnp.zeros((size, dim)), jnp.zeros(size), nothing(self.within), nothing(self.across), same_view)

    def layout(self) -> Memory:
        """A Memory of PartitionSpecs."""
        rows, whole = PartitionSpec(self._axis), PartitionSpec()
        positives = Positives(rows, rows, rows, whole)
        return Memory(rows, rows, positives, positives, rows)

    def refresh(self, memory: Memory, parts: jax.Array, part_mask: jax.Array, info: TrackletInfo, progress) -> Memory:
        """ICTP and HCPA: prototypes from sub-tracklet features [P, S, D], then both stages of mining.

        progress: share of the training that is done, [] float32; it moves the thresholds from strict to loose.
        """
        aggregate = partial(aggregate_parts, mode=self.prototypes["mode"], temperature=self.prototypes["temperature"])
        bank, reliability = each_part(aggregate, (parts, part_mask), mesh=self.mesh)
        size = bank.shape[0]
        empty = self.empty(size, bank.shape[1])
        rules = _rules(self.within, progress, reliability)
        centre, compared = jnp.zeros_like(bank), bank
        if self.alignment["centre"]:
            centre = view_centres(bank, info, num_views=self.num_views)
            compared = apart(bank, centre)
        stay = self._stay_threshold(parts, part_mask, centre, info)
        within, across = empty.within, empty.across
        if self.within["enabled"]:
            within = stages.within_modality(
                compared,
                info,
                num_views=self.num_views,
                previous=memory.within.threshold,
                mesh=self.mesh,
                search=self._search,
                **rules,
            )
        same_view = stages.same_view_ambiguity(
            compared,
            info,
            within.threshold if stay is None else stay,
            rho=rules["rho"],
            fixed=rules["fixed"],
            rule=rules["rule"] if stay is None else "statistic",
            count=self.loss_options["same_view"],
            block=rules["block"],
            mesh=self.mesh,
            search=self._search,
        )
        if self.across["enabled"]:
            across = stages.across_modalities(
                compared,
                within,
                info,
                previous=memory.across.threshold,
                direct=not self.within["enabled"],
                mesh=self.mesh,
                search=self._search,
                **_rules(self.across, progress, reliability),
            )
        return Memory(bank, reliability, within, across, same_view)

    def _stay_threshold(self, parts, part_mask, centre, info: TrackletInfo) -> jax.Array | None:
        """How alike [2] two tracklets of one view must be to be one person's stay; None: stage 1's rule decides."""
        rule = self.loss_options["same_view_rule"]
        if rule == "stage1":
            return None
        if rule != "parts":
            raise ValueError(f"unknown loss.same_view_rule {rule!r}; use 'parts' or 'stage1'.")
        alike = each_part(jax.vmap(halves_alike), (parts, part_mask, centre), mesh=self.mesh)
        return part_threshold(alike, jnp.where(info.valid, info.modality, -1), num_groups=MODALITIES)

    def loss(self, memory: Memory, encoded, clips: Mapping[str, jax.Array], info: TrackletInfo, progress):
        """HCL: L = l1 L1 + lambda2(e) L2 + lambda3(e) L3 + frame term (paper: three levels; weights ours).

        encoded: unit features, tracklet [B, D] and frame [B, T, D].
        clips: `tracklet` [B], rows of the bank, and `mask` [B, T].
        Returns (scalar, mapping of scalar terms).
        """
        frame = encoded.frame if self.loss_options["frame"] > 0.0 else None
        batch = encoded.tracklet, frame, clips["tracklet"], clips["mask"]
        terms = self._split(self._terms, (self.layout(), self._rows, *[PartitionSpec()] * 4), PartitionSpec())(
            memory, info, *batch
        )
        o = self.loss_options
        weights = {
            "intra": o["intra"] * schedule(progress, 1.0, o["intra_end"]),
            "within": o["within"] * ramp(progress, begin=o["within_begin"], length=o["ramp"]),
            "across": o["across"] * ramp(progress, begin=o["across_begin"], length=o["ramp"]),
            "frame": o["frame"],
        }
        total = sum(weights[name] * terms[name] for name in terms)
        return total, {**terms, "weight_within": weights["within"], "weight_across": weights["across"]}

    def _terms(self, memory: Memory, info: TrackletInfo, features, frames, target, mask) -> dict[str, jax.Array]:
        """The levels of the loss, from this device's rows of memory and group and from all clips."""
        o, axis = self.loss_options, self._axis
        similarity = losses.similarities(features, memory.prototypes)
        same_view, modality, within, across = (
            jax.tree.map(partial(take_rows, ids=target, axis=axis), table)
            for table in (memory.same_view, info.modality, memory.within[:3], memory.across[:3])
        )
        same_modality = info.valid & (info.modality == modality[:, None])
        other_modality = info.valid & (info.modality != modality[:, None])
        soft = {"temperature": o["temperature"], "hard_negatives": o["hard_negatives"], "axis": axis}
        level = partial(
            losses.intra_camera,
            view=info.view,
            valid=info.valid,
            temperature=o["temperature"],
            mode=o["ambiguity"],
            axis=axis,
        )
        # whoever reads level 1 literally gets no mask of look-alikes in level 2 either
        unsure = within[2] if o["ambiguity"] == "none" else jnp.concatenate([within[2], same_view], axis=1)
        terms = {
            "intra": losses.mean_over(*level(similarity, target, ignore=same_view)),
            "within": losses.mean_over(
                *losses.soft_target(similarity, target, *within[:2], same_modality, unsure, alpha=o["alpha"], **soft)
            ),
            "across": losses.mean_over(
                *losses.soft_target(similarity, target, *across[:2], other_modality, across[2], alpha=0.0, **soft)
            ),
        }
        if frames is not None:  # level 1 of every frame against its own tracklet (paper: discriminative frame features)
            length = frames.shape[1]
            similarity = losses.similarities(frames.reshape(-1, frames.shape[-1]), memory.prototypes)
            loss, has = level(similarity, jnp.repeat(target, length), ignore=jnp.repeat(same_view, length, axis=0))
            terms["frame"] = losses.mean_over(loss, has & mask.reshape(-1))
        return terms

    def update(self, memory: Memory, features: jax.Array, tracklet: jax.Array) -> Memory:
        """Moves the prototypes of the batch's tracklets towards their clips' features [B, D]."""

        def move(bank, features, tracklet):
            place, here = place_of(tracklet, len(bank), self._axis)
            return momentum_update(bank, features, jnp.where(here, place, -1), momentum=self.prototypes["momentum"])

        specs = (self._rows, PartitionSpec(), PartitionSpec())
        return memory._replace(prototypes=self._split(move, specs, self._rows)(memory.prototypes, features, tracklet))

    @property
    def _search(self):
        kind = self.alignment["search"]
        if kind == "exact":
            return exact.nearest
        if kind == "ivf":
            cells, probes = self.alignment["cells"], self.alignment["probes"]
            return partial(ivf.nearest, num_views=self.num_views, cells=cells, probes=probes)
        raise ValueError(f"unknown alignment.search {kind!r}; use 'exact' or 'ivf'.")

    @property
    def _axis(self) -> str | None:
        return self.mesh.axis_names[0] if self.mesh else None

    @property
    def _rows(self) -> PartitionSpec:
        return PartitionSpec(self._axis)

    def _split(self, function, in_specs, out_specs):
        """A function of each device's own rows."""
        if self.mesh is None:
            return function
        return jax.shard_map(function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs)


def _rules(options: Mapping[str, Any], progress, reliability: jax.Array) -> dict[str, Any]:
    """A stage's keywords for the kernels: this epoch's rho and kappa in place of their ranges and schedule."""
    kind = options["schedule"]
    own = ("enabled", "schedule", "rho", "kappa", "use_reliability")
    rules = {name: value for name, value in options.items() if name not in own}
    rules["rho"], rules["kappa"] = (schedule(progress, *options[name], kind=kind) for name in ("rho", "kappa"))
    rules["reliability"] = reliability if options["use_reliability"] else None
    return rules
