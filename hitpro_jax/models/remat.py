"""Recomputed activations that save memory on every backend: `nn.remat` for modules, with another form on CPUs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import lift

_NEVER = 0x7FC12345  # bits of one particular NaN


def remat(module: type[nn.Module]) -> type[nn.Module]:
    """The module's class with its inner activations recomputed in the backward pass; parameters keep their names.

    Args:
      module: takes one array [N, ..], returns one, and draws no random numbers.

    Returns:
      A class with the same fields.

    Cost: about a quarter of the memory of a backbone's step, and a third more time.
    """
    if jax.default_backend() != "cpu":
        return nn.remat(module)
    # `jax.checkpoint` ties the second forward pass to the incoming gradient with optimisation barriers, which XLA's CPU
    # compiler removes: nn.remat would save nothing there
    return nn.transforms.lift_transform(_recomputed, module)


def _recomputed(fn: Callable) -> Callable:
    """Flax's lifted form of fn(scope, x) whose gradient starts from x alone.

    Forward and backward pass run together in a branch of a conditional that only the incoming gradient decides.
    """

    def inner(scope_fun, repack_fun, variables, rngs, x):
        def run(variables, x):
            scope = scope_fun(variables, rngs)
            y = fn(scope, x)
            return y, repack_fun(scope)

        def gradient(saved, slope):
            return jax.vjp(run, *saved)[1](slope)

        def backward(saved, slope):
            # false for the one NaN of these bits, so that the compiler cannot fold it away; the other branch gives NaN,
            # which is what such a gradient leads to anyway
            first = jax.lax.bitcast_convert_type(slope[0].ravel()[0].astype(jnp.float32), jnp.uint32)
            nothing = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), saved)
            return jax.lax.cond(first != _NEVER, gradient, lambda *_: nothing, saved, slope)

        recomputed = jax.custom_vjp(run)
        recomputed.defvjp(lambda variables, x: (run(variables, x), (variables, x)), backward)
        return recomputed(variables, x)

    return lift.pack(inner, (True,), (True,), (True,), name="remat", enable_kwargs=False)
