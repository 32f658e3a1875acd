"""HiTPro: prototypes from sub-tracklets, two-stage positives, contrast at three levels (paper).

A method is built from plain keyword sections and gives pure functions that `steps` compiles:
  empty(size, dim) -> memory;  refresh(memory, parts, part_mask, group, progress) -> memory;
  loss(memory, encoded, clips, group, progress) -> (loss, terms);  update(memory, features, tracklet) -> memory.
Person ids appear nowhere: `Group` holds all that a prototype may know of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hitpro_jax.kernels import alignment, losses
from hitpro_jax.kernels.alignment import Positives
from hitpro_jax.kernels.memory import momentum_update
from hitpro_jax.kernels.mining import Group
from hitpro_jax.kernels.prototypes import aggregate_parts
from hitpro_jax.kernels.schedules import ramp, schedule


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
    mesh: Mesh | None  # the row blocks of mining are split over it

    def empty(self, size: int, dim: int) -> Memory:
        """The memory before the first refresh: zero prototypes and no positives."""
        def nothing(options):
            return alignment.no_positives(size, positives=options["positives"], ambiguous=options["ambiguous"])

        same_view = jnp.full((size, self.loss_options["same_view"]), -1, jnp.int32)
        return Memory(jnp.zeros((size, dim)), jnp.zeros(size), nothing(self.within), nothing(self.across), same_view)

    def refresh(self, memory: Memory, parts: jax.Array, part_mask: jax.Array, group: Group, progress) -> Memory:
        """ICTP and HCPA: prototypes from sub-tracklet features [P, S, D], then both stages of mining.

        progress: share of the training that is done, [] float32; it moves the thresholds from strict to loose.
        """
        bank, reliability = aggregate_parts(
            parts, part_mask, mode=self.prototypes["mode"], temperature=self.prototypes["temperature"])
        size = bank.shape[0]
        empty = self.empty(size, bank.shape[1])
        rules = _rules(self.within, progress, reliability)
        within = across = None
        if self.within["enabled"]:
            within = alignment.within_modality(
                bank, group, num_views=self.num_views, previous=memory.within.threshold, mesh=self.mesh,
                **rules)
        if self.across["enabled"]:
            across = alignment.across_modalities(
                bank, within or empty.within, group, previous=memory.across.threshold, direct=within is None,
                mesh=self.mesh, **_rules(self.across, progress, reliability))
        within = within or empty.within
        same_view = alignment.same_view_ambiguity(
            bank, group, within.threshold, rho=rules["rho"], rule=rules["rule"], fixed=rules["fixed"],
            count=self.loss_options["same_view"], block=rules["block"], mesh=self.mesh)
        return Memory(bank, reliability, within, across or empty.across, same_view)

    def loss(self, memory: Memory, encoded, clips: Mapping[str, jax.Array], group: Group, progress):
        """HCL: L = l1 L1 + lambda2(e) L2 + lambda3(e) L3 + frame term (paper: three levels; weights ours).

        encoded: unit features, tracklet [B, D] and frame [B, T, D].
        clips: `tracklet` [B], rows of the bank, and `mask` [B, T].
        Returns (scalar, mapping of scalar terms).
        """
        o, target = self.loss_options, clips["tracklet"]
        similarity = losses.similarities(encoded.tracklet, memory.prototypes)
        twins = memory.same_view[target]
        same_modality = group.valid & (group.modality == group.modality[target][:, None])
        other_modality = group.valid & (group.modality != group.modality[target][:, None])
        soft = {name: o[name] for name in ("temperature", "hard_negatives")}
        intra = losses.intra_camera(similarity, target, group.view, group.valid, twins,
                                    temperature=o["temperature"], mode=o["ambiguity"])
        within = losses.soft_target(
            similarity, target, memory.within.index[target], memory.within.weight[target], same_modality,
            jnp.concatenate([memory.within.ignore[target], twins], axis=1), alpha=o["alpha"], **soft)
        across = losses.soft_target(
            similarity, target, memory.across.index[target], memory.across.weight[target], other_modality,
            memory.across.ignore[target], alpha=0.0, **soft)
        terms = {"intra": losses.mean_over(*intra), "within": losses.mean_over(*within),
                 "across": losses.mean_over(*across)}
        weights = {"intra": o["intra"],
                   "within": o["within"] * ramp(progress, begin=o["within_begin"], length=o["ramp"]),
                   "across": o["across"] * ramp(progress, begin=o["across_begin"], length=o["ramp"])}
        if o["frame"] > 0.0:
            terms["frame"], weights["frame"] = self._frame_term(memory, encoded, clips, group), o["frame"]
        total = sum(weights[name] * terms[name] for name in terms)
        return total, {**terms, "weight_within": weights["within"], "weight_across": weights["across"]}

    def _frame_term(self, memory: Memory, encoded, clips, group: Group) -> jax.Array:
        """Level 1 of every frame against its own tracklet's prototype (paper: discriminative frame features)."""
        batch, frames, dim = encoded.frame.shape
        target = jnp.repeat(clips["tracklet"], frames)
        similarity = losses.similarities(encoded.frame.reshape(batch * frames, dim), memory.prototypes)
        loss, has = losses.intra_camera(
            similarity, target, group.view, group.valid, memory.same_view[target],
            temperature=self.loss_options["temperature"], mode=self.loss_options["ambiguity"])
        return losses.mean_over(loss, has & clips["mask"].reshape(-1))

    def update(self, memory: Memory, features: jax.Array, tracklet: jax.Array) -> Memory:
        """Moves the prototypes of the batch's tracklets towards their clips' features [B, D]."""
        bank = momentum_update(memory.prototypes, features, tracklet, momentum=self.prototypes["momentum"])
        return memory._replace(prototypes=bank)


def _rules(options: Mapping[str, Any], progress, reliability: jax.Array) -> dict[str, Any]:
    """A stage's keywords for the kernels: this epoch's rho and kappa in place of their ranges and schedule."""
    kind = options["schedule"]
    own = ("enabled", "schedule", "rho", "kappa", "use_reliability")
    rules = {name: value for name, value in options.items() if name not in own}
    rules["rho"], rules["kappa"] = (schedule(progress, *options[name], kind=kind) for name in ("rho", "kappa"))
    rules["reliability"] = reliability if options["use_reliability"] else None
    return rules
