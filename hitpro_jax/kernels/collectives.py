"""A bank cut over devices: the few places where a clip's row of similarities [B, P] crosses the cut.

Inside `jax.shard_map` each of n devices holds P / n rows of the bank, and so P / n columns of the similarities.
`axis` names the mesh axis of the cut; with None the bank is whole and these are the plain functions. Ids count over
the whole bank; what crosses the wire is O(B), never the bank.
"""

import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import local_place


def bank_size(local: int, axis: str | None) -> int:
    """P, from the rows P / n of this device."""
    return local if axis is None else local * jax.lax.axis_size(axis)


def place_of(ids: jax.Array, local: int, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """(place on this device, whether it is here) of ids of the whole bank; -1 is nowhere."""
    return local_place(ids, 0 if axis is None else jax.lax.axis_index(axis) * local, local)


def take_rows(table: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """table[ids] of a table [P / n, ...] for ids [B]; zero for -1.

    >>> take_rows(jnp.array([5, 6]), jnp.array([1, -1]), None).tolist()
    [6, 0]
    """
    place, here = place_of(ids, table.shape[0], axis)
    return _sum(jnp.where(here.reshape(here.shape + (1,) * (table.ndim - 1)), table[place], 0), axis)


def take_columns(values: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """Entries ids [B, K] of the rows of [B, P / n]; zero for -1.

    >>> take_columns(jnp.array([[5., 6.]]), jnp.array([[1, -1]]), None).tolist()
    [[6.0, 0.0]]
    """
    place, here = place_of(ids, values.shape[1], axis)
    return _sum(jnp.where(here, jnp.take_along_axis(values, place, axis=1), 0.0), axis)


def sum_columns(values: jax.Array, axis: str | None) -> jax.Array:
    """Sums [B] over the columns of [B, P / n]."""
    return _sum(jnp.sum(values, axis=1), axis)


def log_sum_exp(logits: jax.Array, axis: str | None) -> jax.Array:
    """Log sum_j exp(l_j) [B] over the columns of [B, P / n]; -inf leaves a column out, one at least must stay.

    >>> log_sum_exp(jnp.array([[0., 0., -jnp.inf]]), None).round(2).tolist()
    [0.6899999976158142]
    """
    top = jax.lax.stop_gradient(jnp.max(logits, axis=1))
    if axis is not None:
        top = jax.lax.pmax(top, axis)
    return top + jnp.log(sum_columns(jnp.exp(logits - top[:, None]), axis))


def largest(values: jax.Array, count: int, axis: str | None) -> jax.Array:
    """The `count` largest entries [B, count] of the rows of [B, P / n], best first; fewer if there are fewer.

    >>> largest(jnp.array([[1., 3., 2.]]), 2, None).tolist()
    [[3.0, 2.0]]
    """
    best, _ = jax.lax.top_k(values, min(count, values.shape[1]))
    if axis is None:
        return best
    best = jax.lax.all_gather(best, axis, axis=1, tiled=True)
    return jax.lax.top_k(best, min(count, best.shape[1]))[0]


def _sum(values: jax.Array, axis: str | None) -> jax.Array:
    return values if axis is None else jax.lax.psum(values, axis)
