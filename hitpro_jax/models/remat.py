"""Rematerialisation that saves memory on every backend: `nn.remat` for modules, with another form on CPUs.

`jax.checkpoint` ties the second forward pass to the incoming gradient with optimisation barriers. XLA's CPU compiler
removes them, and memory is the same with `nn.remat` as without (measured). There, forward and backward pass of the
module run together in the branch of a conditional that only the incoming gradient decides.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import lift

_NEVER = 0x7FC12345  # bits of one particular NaN


def remat(module: type[nn.Module]) -> type[nn.Module]:
    """The module's class with its inner activations recomputed in the backward pass; parameters keep their names.

    The module takes one array [N, ..] and returns one, and draws no random numbers.
    """
    if jax.default_backend() != "cpu":
        return nn.remat(module)
    return nn.transforms.lift_transform(_recomputed, module)


def _recomputed(fn):
    """Flax's lifted form of fn(scope, x) whose gradient starts from x alone."""

    def inner(scope_fun, repack_fun, variables, rngs, x):
        def run(variables, x):
            scope = scope_fun(variables, rngs)
            y = fn(scope, x)
            return y, repack_fun(scope)

        def gradient(saved, slope):
            return jax.vjp(run, *saved)[1](slope)

        def backward(saved, slope):
            # false for one NaN alone, so that the compiler cannot know it, and the other branch's NaN is no lie
            first = jax.lax.bitcast_convert_type(slope[0].ravel()[0].astype(jnp.float32), jnp.uint32)
            nothing = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), saved)
            return jax.lax.cond(first != _NEVER, gradient, lambda *_: nothing, saved, slope)

        recomputed = jax.custom_vjp(run)
        recomputed.defvjp(lambda variables, x: (run(variables, x), (variables, x)), backward)
        return recomputed(variables, x)

    return lift.pack(inner, (True,), (True,), (True,), name="remat", enable_kwargs=False)
