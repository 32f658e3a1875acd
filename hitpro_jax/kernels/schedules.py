"""Values that move with training progress, from strict to loose (paper). Choice: the shape of the way between."""

import math

import jax
import jax.numpy as jnp


def schedule(progress: float | jax.Array, start: float, end: float, *, kind: str = "linear") -> jax.Array:
    """Moves from start to end while progress x goes from 0 to 1.

    linear: start + (end - start) x;  cosine: start + (end - start) (1 - cos(pi x)) / 2;
    constant: (start + end) / 2;  reverse: linear from end to start.

    Args:
      progress: x, clipped to [0, 1].
      start: at 0.
      end: at 1.
      kind: static.

    Raises:
      ValueError: unknown kind.

    >>> [round(float(schedule(x, 0.95, 0.85)), 3) for x in (0, 2)]
    [0.95, 0.85]
    """
    x = jnp.clip(jnp.asarray(progress, jnp.float32), 0.0, 1.0)
    shapes = {
        "linear": lambda: x,
        "cosine": lambda: (1.0 - jnp.cos(math.pi * x)) / 2.0,
        "constant": lambda: jnp.full_like(x, 0.5),  # the middle: it differs from linear in shape alone
        "reverse": lambda: 1.0 - x,  # the control for the order strict first
    }
    if kind not in shapes:
        raise ValueError(f"unknown schedule {kind!r}; use one of {', '.join(shapes)}.")
    return start + (end - start) * shapes[kind]()


def ramp(progress: float | jax.Array, *, begin: float, length: float) -> jax.Array:
    """Rises linearly from 0 at `begin` to 1 at `begin + length`, both static; length 0 is a step.

    Source: levels enter progressively (paper).

    >>> [float(ramp(x, begin=0.25, length=0.5)) for x in (0.25, 0.5)]
    [0.0, 0.5]
    """
    beyond = jnp.asarray(progress, jnp.float32) - begin
    if length == 0:
        return jnp.where(beyond >= 0, 1.0, 0.0)
    return jnp.clip(beyond / length, 0.0, 1.0)
