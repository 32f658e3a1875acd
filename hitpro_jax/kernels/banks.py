"""Rows against rows, on one device or many: the loop under every search, and look-ups in tables cut by rows.

A bank of P rows is cut over the n devices of a mesh. Every device keeps its own rows and lets the parts of the bank
pass by, one at a time, round the ring of devices; so none ever holds more than two parts, O(P / n). Without a mesh
there is one part, the whole bank.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec


def fold_rows(
    function: Callable[..., Any],
    rows: Any,
    state: Any,
    bank: Any,
    *shared: Any,
    block: int,
    mesh: Mesh | None = None,
) -> Any:
    """state_i <- function(state_i, row_i, part, offset, *shared) for every part of the bank.

    P rows, Q rows of the bank, n devices.

    Args:
      function: pure; of one row's state, one row (both without the leading axis), a part of the bank (rows offset,
        offset + 1, ..), that offset, and `shared`. It must not matter in which order parts come. With a mesh it may
        close over static values alone.
      rows: pytree of arrays [P, ...].
      state: pytree of arrays [P, ...], before the first part.
      bank: pytree of arrays [Q, ...]. Where n does not divide Q, zero rows are put behind it.
      *shared: pytrees of arrays that every device holds whole.
      block: rows vectorised together, static; it bounds the temporary memory.
      mesh: of one axis; cuts rows, state and bank.

    Returns:
      The last state, pytree of arrays [P, ...].

    Memory on each device: O((P + Q) / n + block x temporaries of a row). Communication: each part of the bank goes
    round the ring once.

    >>> add = lambda total, row, part, offset: total + row * part.sum()
    >>> fold_rows(add, jnp.arange(3), jnp.zeros(3, int), jnp.ones(4, int), block=2).tolist()
    [0, 4, 8]
    """

    def each(state: Any, rows: Any, part: Any, offset: jax.Array | int, *shared: Any) -> Any:
        return jax.vmap(lambda *row: function(*row, part, offset, *shared))(state, rows)

    return fold_blocks(each, rows, state, bank, *shared, block=block, mesh=mesh)


def fold_blocks(
    function: Callable[..., Any],
    rows: Any,
    state: Any,
    bank: Any,
    *shared: Any,
    block: int,
    mesh: Mesh | None = None,
) -> Any:
    """`fold_rows` by whole blocks: for a function that treats neighbouring rows together.

    Args:
      function: as of `fold_rows`, but of `block` rows and their states at once, both with a leading axis. The last
        block of a device is filled up with zero rows, whose states are dropped.
      rows, state, bank, *shared, block, mesh: see `fold_rows`.

    Returns:
      The last state, pytree of arrays [P, ...].

    >>> add = lambda total, rows, part, offset: total + rows * part.sum()
    >>> fold_blocks(add, jnp.arange(3), jnp.zeros(3, int), jnp.ones(4, int), block=2).tolist()
    [0, 4, 8]
    """

    def visit(rows: Any, state: Any, part: Any, offset: jax.Array | int, *shared: Any) -> Any:
        count, size = _length(rows), min(block, _length(rows))
        blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), padded((state, rows), size))
        done = jax.lax.map(lambda x: function(*x, part, offset, *shared), blocks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], done)

    if _length(bank) == 0 or _length(rows) == 0:
        return state
    if mesh is None:
        return visit(rows, state, bank, 0, *shared)
    (axis,), count = mesh.axis_names, _length(rows)

    def local(rows: Any, state: Any, part: Any, *shared: Any) -> Any:
        size, place = _length(part), jax.lax.axis_index(axis)
        ring = [(i, (i - 1) % mesh.size) for i in range(mesh.size)]

        def turn(k: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, part = carry
            state = visit(rows, state, part, (place + k) % mesh.size * size, *shared)
            return state, jax.lax.ppermute(part, axis, ring)

        return jax.lax.fori_loop(0, mesh.size, turn, (state, part))[0]

    cut = PartitionSpec(axis)
    specs = (cut, cut, cut) + (PartitionSpec(),) * len(shared)
    whole = (padded(tree, mesh.size) for tree in (rows, state, bank))
    result = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=cut)(*whole, *shared)
    return jax.tree.map(lambda x: x[:count], result)


def each_row(function: Callable[..., Any], rows: tuple, *, block: int, mesh: Mesh | None = None) -> Any:
    """function(*row) for every row by itself, `block` rows at a time.

    Args:
      function: pure, closing over static values alone; of one row of every array.
      rows: arrays [P, ...].
      block, mesh: see `fold_rows`.

    Returns:
      pytree of arrays [P, ...].

    >>> each_row(lambda x, y: x * y, (jnp.arange(3), jnp.arange(3)), block=2).tolist()
    [0, 1, 4]
    """
    return each_part(lambda *rows: jax.lax.map(lambda row: function(*row), rows, batch_size=block), rows, mesh=mesh)


def each_part(function: Callable[..., Any], rows: tuple, *, mesh: Mesh | None = None) -> Any:
    """function(*rows) on every device's own rows.

    Choice: for what the compiler would otherwise gather whole, such as a top-k of each row.

    Args:
      function: pure, closing over static values alone; treats rows one by one. Where the device count divides P, it
        may also move rows and return more or fewer than it got.
      rows: arrays [P, ...].
      mesh: see `fold_rows`.

    Returns:
      pytree of arrays [P, ...].

    >>> each_part(lambda x: 2 * x, (jnp.arange(3),)).tolist()
    [0, 2, 4]
    """
    if mesh is None:
        return function(*rows)
    cut = PartitionSpec(*mesh.axis_names)
    result = jax.shard_map(function, mesh=mesh, in_specs=cut, out_specs=cut)(*padded(rows, mesh.size))
    count = _length(rows)
    return result if count % mesh.size == 0 else jax.tree.map(lambda x: x[:count], result)


def lookup(table: Any, index: jax.Array, *, block: int, mesh: Mesh | None = None) -> Any:
    """The rows `index` of a table that may be cut over devices.

    Args:
      table: pytree of arrays [Q, ...].
      index: [P, M] int32; outside [0, Q) (such as -1) it stands for none.
      block, mesh: see `fold_rows`.

    Returns:
      pytree of arrays [P, M, ...]; zero for none.

    >>> lookup(jnp.array([7, 8, 9]), jnp.array([[2, -1]]), block=1).tolist()
    [[9, 0]]
    """

    def row(found: Any, index: jax.Array, part: Any, offset: jax.Array) -> Any:
        place, here = local_place(index, offset, _length(part))

        def pick(old: jax.Array, values: jax.Array) -> jax.Array:
            return jnp.where(here.reshape(here.shape + (1,) * (values.ndim - 1)), values[place], old)

        return jax.tree.map(pick, found, part)

    empty = jax.tree.map(lambda x: jnp.zeros(index.shape + x.shape[1:], x.dtype), table)
    return fold_rows(row, index, empty, table, block=block, mesh=mesh)


def local_place(index: jax.Array, offset: jax.Array | int, size: int) -> tuple[jax.Array, jax.Array]:
    """Where ids lie in rows offset .. offset + size - 1: (place, safe to index with; whether it is there).

    >>> place, here = local_place(jnp.array([-1, 4, 9]), 4, 3)
    >>> place.tolist(), here.tolist()
    ([0, 0, 0], [False, True, False])
    """
    place = index - offset
    here = (index >= 0) & (place >= 0) & (place < size)
    return jnp.where(here, place, 0), here


def padded(tree: Any, multiple: int) -> Any:
    """Zero rows behind every array, up to a multiple.

    >>> padded(jnp.array([7, 8, 9]), 2).tolist()
    [7, 8, 9, 0]
    """
    extra = -_length(tree) % multiple
    return jax.tree.map(lambda x: jnp.pad(x, ((0, extra),) + ((0, 0),) * (x.ndim - 1)), tree)


def _length(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
