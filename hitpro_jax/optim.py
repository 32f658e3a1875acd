"""Optax chains as person re-ID uses them: torch-like Adam, warm-up, step decay, groups with rates of their own."""

import re
from collections.abc import Iterable, Mapping

import chex
import jax
import jax.numpy as jnp
import optax

UNDECAYED = ("bias", "scale")  # last key of a parameter's path: biases and normalisation scales


def make_schedule(
    learning_rate: float, *, schedule: str = "constant", adapt_steps: int = 0, warmup_steps: int = 0, total_steps: int
) -> optax.Schedule:
    """Learning rate of a step: a linear warm-up, times a decay.

    lr(t) = learning_rate * clip((t + 1 - adapt_steps) / warmup_steps, 0, 1) * decay(t), where decay is 1 (`constant`),
    0.1 from 40 % and 0.01 from 80 % of `total_steps` on (`steps`, from CAP/ADCA), or half a cosine from 1 at
    the end of the warm-up to 0 at `total_steps` (`cosine`).

    Choice: t + 1, because with t the first step would change nothing.

    Args:
      learning_rate: peak rate.
      schedule: "constant", "cosine" or "steps".
      adapt_steps: steps at rate 0 before the warm-up, 0 for none. Choice: in them nothing but BatchNorm's statistics
        and the method's memory move to the data (after AdaBN), since prototypes are made with the running statistics
        and clips of a batch with its own, and training would begin by closing that gap.
      warmup_steps: steps of warm-up, 0 for none.
      total_steps: steps of the whole training, warm-up included.

    Returns:
      A function of the step (int, from 0) to the rate, usable under jit.

    Raises:
      ValueError: if the schedule is unknown.
    """

    def constant(step):
        return jnp.ones_like(step, jnp.float32)

    def steps(step):
        return 0.1 ** sum(jnp.float32(step >= round(fraction * total_steps)) for fraction in (0.4, 0.8))

    def cosine(step):
        begin = adapt_steps + warmup_steps
        progress = (step - begin) / max(total_steps - begin, 1)
        return 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))

    def warm(step):
        return jnp.clip((step + 1 - adapt_steps) / max(warmup_steps, 1), 0, 1)

    decay = _choose({"constant": constant, "steps": steps, "cosine": cosine}, schedule, "schedule")
    return lambda step: learning_rate * warm(step) * decay(step)


def make_optimiser(
    name: str = "adam",
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    adapt_steps: int = 0,
    warmup_steps: int = 0,
    total_steps: int,
    clip_norm: float | None = None,
    groups: Mapping[str, float] | Iterable[tuple[str, float]] = (),
) -> optax.GradientTransformation:
    """Optimiser with warm-up, decay of the rate, gradient clipping and parameter groups.

    - "adam": weight decay is added to the gradient (L2), on every parameter: "Adam, weight decay 5e-4" of the
      re-ID papers is torch's Adam, which couples the two (from CAP/ADCA).
    - "sgd": momentum 0.9, weight decay coupled likewise.
    - "adamw": decoupled decay, times the learning rate, none on biases and normalisation scales.

    Clipping comes before the decay is added, as when gradients are clipped between torch's backward and step.

    Args:
      name: "adam", "adamw" or "sgd".
      learning_rate, schedule, adapt_steps, warmup_steps, total_steps: see `make_schedule`.
      weight_decay: factor of the decay, 0 for none.
      clip_norm: largest global norm of the gradient of all trained parameters; None for no clipping.
      groups: pairs of a regular expression and a multiplier of the learning rate. The expression has to match
        the whole "/"-joined path of a parameter; the first that does counts, 1 where none does. Multiplier 0
        freezes: no update, no optimiser state, no part in the clipped norm.

    Returns:
      An Optax transformation; its `update` needs `params`.

    Raises:
      ValueError: if a name is unknown, or (in `init`) if an expression matches no parameter.
    """
    rate = make_schedule(
        learning_rate, schedule=schedule, adapt_steps=adapt_steps, warmup_steps=warmup_steps, total_steps=total_steps
    )
    coupled = optax.add_decayed_weights(weight_decay)
    decoupled = optax.add_decayed_weights(weight_decay, mask=_decayed)
    rules = _choose(
        {
            "adam": (coupled, optax.scale_by_adam()),
            "adamw": (optax.scale_by_adam(), decoupled),
            "sgd": (coupled, optax.trace(decay=0.9)),
        },
        name,
        "optimiser",
    )
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    groups = dict(groups)
    trained = optax.chain(clip, *rules, _scale_by_group(groups), optax.scale_by_learning_rate(rate))
    return optax.partition(
        {"trained": trained, "frozen": optax.set_to_zero()},
        lambda params: jax.tree.map(lambda m: "trained" if m else "frozen", _multipliers(params, groups)),
    )


def _choose(table: Mapping, name: str, what: str):
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def _decayed(params: chex.ArrayTree) -> chex.ArrayTree:
    return jax.tree_util.tree_map_with_path(lambda path, _: _name(path).split("/")[-1] not in UNDECAYED, params)


def _scale_by_group(groups: Mapping[str, float]) -> optax.GradientTransformation:
    def scale(updates, params):
        del params
        return jax.tree_util.tree_map_with_path(lambda path, u: _multiplier(_name(path), groups) * u, updates)

    return optax.stateless(scale)


def _multipliers(params: chex.ArrayTree, groups: Mapping[str, float]) -> chex.ArrayTree:
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
