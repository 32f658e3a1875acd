"""Optax chains as person re-ID uses them: torch-like Adam, warm-up, decay of the rate, groups with own rates."""

import re
from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import optax

from hitpro_jax.options import OptimOptions
from hitpro_jax.types import PyTree

UNDECAYED = ("bias", "scale")  # last key of a parameter's path: biases and normalisation scales
BACKBONE = "backbone/.*"

T = TypeVar("T")


def make_schedule(options: OptimOptions, total_steps: int) -> optax.Schedule:
    """Learning rate of a step: a linear warm-up, times a decay.

    rate(t) = learning_rate * clip((t + 1 - adapt_steps) / warmup_steps, 0, 1) * decay(t)

    decay is 1 (`constant`); or 0.1 from 40 % and 0.01 from 80 % of `total_steps` on (`steps`); or half a cosine, from 1
    at the end of the warm-up to 0 at `total_steps` (`cosine`).

    Args:
      options: `learning_rate`, `schedule`, `adapt_steps` and `warmup_steps` are read.
      total_steps: steps of the whole training, adaption and warm-up included.

    Returns:
      A function of the step, an int from 0, to the rate [] float32; usable under jit.

    Raises:
      ValueError: the schedule is unknown.

    Choice: t + 1, because with t the first step would change nothing.
    Choice: during `adapt_steps` only BatchNorm's statistics and the method's memory move to the data (after AdaBN).
    Prototypes are made with the running statistics and a batch's clips with its own; training would begin by closing
    that gap.
    Source: `steps` from CAP and ADCA.
    """
    begin = options.adapt_steps + options.warmup_steps

    def constant(step):
        return jnp.ones_like(step, jnp.float32)

    def steps(step):
        return 0.1 ** sum(jnp.float32(step >= round(fraction * total_steps)) for fraction in (0.4, 0.8))

    def cosine(step):
        progress = (step - begin) / max(total_steps - begin, 1)
        return 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))

    def warm(step):
        return jnp.clip((step + 1 - options.adapt_steps) / max(options.warmup_steps, 1), 0, 1)

    decay = _choose({"constant": constant, "steps": steps, "cosine": cosine}, options.schedule, "schedule")
    return lambda step: options.learning_rate * warm(step) * decay(step)


def make_optimiser(
    options: OptimOptions, total_steps: int, groups: Mapping[str, float] | None = None
) -> optax.GradientTransformation:
    """Optimiser with warm-up, decay of the rate, gradient clipping and parameter groups.

    - `adam`: weight decay is added to the gradient (L2) of every parameter, as torch's Adam couples the two.
    - `sgd`: momentum 0.9, weight decay coupled likewise.
    - `adamw`: decoupled decay, times the learning rate, none on biases and normalisation scales.

    Args:
      options: the section `optim`.
      total_steps: steps of the whole training.
      groups: regular expressions to multipliers of the learning rate. An expression has to match the whole "/"-joined
        path of a parameter; the first that does counts, and the multiplier is 1 where none does. Multiplier 0 freezes:
        no update, no optimiser state, no part in the clipped norm. None: the backbone at `options.backbone_rate`.

    Returns:
      An Optax transformation; its `update` needs `params`.

    Raises:
      ValueError: a name is unknown, or (in `init`) an expression matches no parameter.

    Source: "Adam, weight decay 5e-4" of the re-ID papers, as in CAP and ADCA.
    """
    groups = {BACKBONE: options.backbone_rate} if groups is None else dict(groups)
    rate = make_schedule(options, total_steps)
    coupled = optax.add_decayed_weights(options.weight_decay)
    decoupled = optax.add_decayed_weights(options.weight_decay, mask=_decayed)
    rules = _choose(
        {
            "adam": (coupled, optax.scale_by_adam()),
            "adamw": (optax.scale_by_adam(), decoupled),
            "sgd": (coupled, optax.trace(decay=0.9)),
        },
        options.name,
        "optimiser",
    )
    # clipped before the decay is added, as when gradients are clipped between torch's backward and step
    clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
    # groups behind the rules: Adam would cancel a factor on the gradient
    trained = optax.chain(clip, *rules, _scale_by_group(groups), optax.scale_by_learning_rate(rate))
    return optax.partition(
        {"trained": trained, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(lambda m: "trained" if m else "frozen", _multipliers(params, groups)),
    )


def _choose(table: Mapping[str, T], name: str, what: str) -> T:
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def _decayed(params: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path).split("/")[-1] not in UNDECAYED, params)


def _scale_by_group(groups: Mapping[str, float]) -> optax.GradientTransformation:
    def scale(updates, params):
        del params
        return jax.tree_util.tree_map_with_path(lambda path, u: _multiplier(_name(path), groups) * u, updates)

    return optax.stateless(scale)


def _multipliers(params: PyTree, groups: Mapping[str, float]) -> PyTree:
    names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in groups:
        if not any(re.fullmatch(pattern, name) for name in names):
            raise ValueError(
                f"the parameter group {pattern!r} matches no parameter: paths look like {', '.join(names[:3])}"
            )
    return jax.tree_util.tree_map_with_path(lambda path, _: _multiplier(_name(path), groups), params)


def _multiplier(name: str, groups: Mapping[str, float]) -> float:
    return next((m for pattern, m in groups.items() if re.fullmatch(pattern, name)), 1.0)


def _name(path: jax.tree_util.KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
