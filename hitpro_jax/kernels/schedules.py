"""Values that move with training progress: "progressing" from strict to loose (paper), how is our choice."""

import math

import jax
import jax.numpy as jnp


def schedule(progress: float | jax.Array, start: float, end: float, *, kind: str = "linear") -> jax.Array:
    """Moves from start to end while progress goes from 0 to 1.

    linear: start + (end - start) x;  cosine: start + (end - start) (1 - cos(pi x)) / 2;
    constant: (start + end) / 2;  reverse: linear from end to start.
    Choice: linear by default; the paper only says that mining progresses. `constant` holds the middle, so
    that it differs from `linear` in shape alone; `reverse` is the control for the order, strict first.

    Args:
      progress: x = epoch / epochs, scalar, may be traced; clipped to [0, 1].
      start, end: values at progress 0 and 1.
      kind: "linear", "cosine", "constant" or "reverse", static.

    Returns:
      float32 scalar.

    Raises:
      ValueError: unknown kind.

    >>> [round(float(schedule(x, 0.95, 0.85)), 3) for x in (0, 0.5, 1, 2)]
    [0.95, 0.9, 0.85, 0.85]
    """
    x = jnp.clip(jnp.asarray(progress, jnp.float32), 0.0, 1.0)
    shapes = {
        "linear": lambda: x,
        "cosine": lambda: (1.0 - jnp.cos(math.pi * x)) / 2.0,
        "constant": lambda: jnp.full_like(x, 0.5),
        "reverse": lambda: 1.0 - x,
    }
    if kind not in shapes:
        raise ValueError(f"unknown schedule {kind!r}; use one of {', '.join(shapes)}.")
    return start + (end - start) * shapes[kind]()


def ramp(progress: float | jax.Array, *, begin: float, length: float) -> jax.Array:
    """Rises from 0 at `begin` to 1 at `begin + length`: the entry of a loss level into training.

    Levels enter progressively (paper); starts of 10 % and 20 % are from CAP and SDCL. Choice: a linear ramp.

    Args:
      progress: scalar in [0, 1], may be traced.
      begin: progress before which the value is 0.
      length: progress that the rise takes; 0 for a step at `begin`.

    Returns:
      float32 scalar in [0, 1].

    >>> [float(ramp(x, begin=0.25, length=0.5)) for x in (0.25, 0.5, 1.0)]
    [0.0, 0.5, 1.0]
    """
    beyond = jnp.asarray(progress, jnp.float32) - begin
    if length == 0:
        return jnp.where(beyond >= 0, 1.0, 0.0)
    return jnp.clip(beyond / length, 0.0, 1.0)
