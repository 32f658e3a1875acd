"""A bank cut over devices: the steps at which a clip's row of similarities [B, P] crosses the cut.

For `jax.shard_map`, where each device holds P / n rows; `axis` names the mesh axis, None: the bank is whole. Ids count
over the bank. Communication: O(B).
"""

import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import local_position


def bank_size(local: int, axis: str | None) -> int:
    """P, from this device's rows.

    >>> bank_size(3, None)
    3
    """
    return local if axis is None else local * jax.lax.axis_size(axis)


def position_of(ids: jax.Array, local: int, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """Positions of ids among this device's rows, and which are present; -1 never is.

    >>> position_of(jnp.array([1, -1]), 2, None)[1].tolist()
    [True, False]
    """
    return local_position(ids, 0 if axis is None else jax.lax.axis_index(axis) * local, local)


def take_rows(table: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """table[ids] of a table [P / n, ...] for ids [B]; zero for -1.

    >>> take_rows(jnp.array([5, 6]), jnp.array([1, -1]), None).tolist()
    [6, 0]
    """
    position, present = position_of(ids, table.shape[0], axis)
    # one device holds the row and the others add zeros, so that the sum is exact
    return _sum(jnp.where(present.reshape(present.shape + (1,) * (table.ndim - 1)), table[position], 0), axis)


def take_columns(values: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """Entries ids [B, K] of the rows of [B, P / n]; zero for -1.

    >>> take_columns(jnp.array([[5., 6.]]), jnp.array([[1, -1]]), None).tolist()
    [[6.0, 0.0]]
    """
    position, present = position_of(ids, values.shape[1], axis)
    return _sum(jnp.where(present, jnp.take_along_axis(values, position, axis=1), 0.0), axis)


def sum_columns(values: jax.Array, axis: str | None) -> jax.Array:
    """Sums [B] over the columns of [B, P / n].

    >>> sum_columns(jnp.array([[1., 2.]]), None).tolist()
    [3.0]
    """
    return _sum(jnp.sum(values, axis=1), axis)


def log_sum_exp(logits: jax.Array, axis: str | None) -> jax.Array:
    """Log sum_j exp(l_j) [B] over the columns of [B, P / n], one of them finite.

    >>> log_sum_exp(jnp.array([[1., -jnp.inf]]), None).tolist()
    [1.0]
    """
    # a constant: the maximum cancels, and `pmax` has no derivative
    top = jax.lax.stop_gradient(jnp.max(logits, axis=1))
    if axis is not None:
        top = jax.lax.pmax(top, axis)
    return top + jnp.log(sum_columns(jnp.exp(logits - top[:, None]), axis))


def largest(values: jax.Array, count: int, axis: str | None) -> jax.Array:
    """The `count` largest entries of the rows of [B, P / n], or all, best first.

    >>> largest(jnp.array([[1., 3., 2.]]), 2, None).tolist()
    [[3.0, 2.0]]
    """
    best, _ = jax.lax.top_k(values, min(count, values.shape[1]))
    if axis is None:
        return best
    # the best of all are among the best of each device
    best = jax.lax.all_gather(best, axis, axis=1, tiled=True)
    return jax.lax.top_k(best, min(count, best.shape[1]))[0]


def _sum(values: jax.Array, axis: str | None) -> jax.Array:
    return values if axis is None else jax.lax.psum(values, axis)
