"""Rows against rows, on one device or many, and look-ups in tables cut by rows.

A bank is cut over n devices. Its parts go round the ring of devices, so that none holds more than two.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec


@dataclass(frozen=True)
class Tiling:
    """How work over rows is cut: into blocks, and over the devices of a mesh. Static."""

    block: int = 512  # rows vectorised together; it bounds the temporary memory
    mesh: Mesh | None = None  # of one axis; None: everything on one device

    @property
    def axis(self) -> str | None:
        """Name of the mesh axis, if any."""
        return None if self.mesh is None else self.mesh.axis_names[0]

    @property
    def devices(self) -> int:
        """Number of devices, n."""
        return 1 if self.mesh is None else self.mesh.size

    def fold_rows(self, function: Callable[..., Any], rows: Any, state: Any, bank: Any, *shared: Any) -> Any:
        """state_i <- function(state_i, row_i, part, offset, *shared) for every part of the bank.

        Args:
          function: pure; offset is the index of the part's first row. With a mesh it closes over static values alone.
          rows: pytree [P, ...].
          state: pytree [P, ...].
          bank: pytree [Q, ...]; zero rows may fill it up.
          *shared: pytrees that every device holds whole.

        Returns:
          The last state. It must not depend on the order of parts.

        Cost: O((P + Q) / n + block x temporaries of a row) memory, O(Q) communication.

        >>> add = lambda total, row, part, offset: total + row * part.sum()
        >>> Tiling().fold_rows(add, jnp.arange(3), jnp.zeros(3, int), jnp.ones(4, int)).tolist()
        [0, 4, 8]
        """

        def each(state: Any, rows: Any, part: Any, offset: jax.Array | int, *shared: Any) -> Any:
            return jax.vmap(lambda *row: function(*row, part, offset, *shared))(state, rows)

        return self.fold_blocks(each, rows, state, bank, *shared)

    def fold_blocks(self, function: Callable[..., Any], rows: Any, state: Any, bank: Any, *shared: Any) -> Any:
        """`fold_rows` by whole blocks, for a function that treats neighbouring rows together.

        Args:
          function: of `block` rows and states; zero rows fill up the last block.
          rows: as there.
          state: as there.
          bank: as there.
          *shared: as there.

        Returns:
          The last state.

        >>> add = lambda total, rows, part, offset: total + rows
        >>> Tiling().fold_blocks(add, jnp.arange(3), jnp.zeros(3, int), jnp.ones(4)).tolist()
        [0, 1, 2]
        """
        count = _length(rows)
        # blocks of no rows cannot be cut
        if _length(bank) == 0 or count == 0:
            return state
        visit = partial(_visit, function, self.block)
        if self.mesh is None:
            return visit(rows, state, bank, 0, *shared)
        cut = PartitionSpec(self.axis)
        specs = (cut, cut, cut) + (PartitionSpec(),) * len(shared)
        whole = (padded(tree, self.devices) for tree in (rows, state, bank))
        ring = partial(_round_the_ring, visit, self.mesh)
        result = jax.shard_map(ring, mesh=self.mesh, in_specs=specs, out_specs=cut)(*whole, *shared)
        return jax.tree.map(lambda x: x[:count], result)

    def each_row(self, function: Callable[..., Any], rows: tuple) -> Any:
        """function(*row) for every row of the arrays [P, ...], `block` at a time.

        >>> Tiling().each_row(lambda x, y: x * y, (jnp.arange(3), jnp.arange(3))).tolist()
        [0, 1, 4]
        """
        return self.each_part(lambda *rows: jax.lax.map(lambda row: function(*row), rows, batch_size=self.block), rows)

    def each_part(self, function: Callable[..., Any], rows: tuple) -> Any:
        """function(*rows) on every device's own rows.

        Args:
          function: treats rows one by one. Where n divides P it may return another number of rows.
          rows: arrays [P, ...].

        Returns:
          Arrays [P, ...].

        >>> Tiling().each_part(lambda x: 2 * x, (jnp.arange(3),)).tolist()
        [0, 2, 4]
        """
        if self.mesh is None:
            return function(*rows)
        # by hand, because the compiler would gather all rows for a top-k of each
        cut, count = PartitionSpec(self.axis), _length(rows)
        result = jax.shard_map(function, mesh=self.mesh, in_specs=cut, out_specs=cut)(*padded(rows, self.devices))
        # only padding is cut off: a function that returns another number of rows has none
        return result if count % self.devices == 0 else jax.tree.map(lambda x: x[:count], result)

    def lookup(self, table: Any, index: jax.Array) -> Any:
        """Rows `index` [P, M] of the arrays [Q, ...] of a table; zero outside [0, Q).

        >>> Tiling().lookup(jnp.array([7, 8, 9]), jnp.array([[2, -1]])).tolist()
        [[9, 0]]
        """

        def row(found: Any, index: jax.Array, part: Any, offset: jax.Array) -> Any:
            position, present = local_position(index, offset, _length(part))

            def pick(old: jax.Array, values: jax.Array) -> jax.Array:
                return jnp.where(present.reshape(present.shape + (1,) * (values.ndim - 1)), values[position], old)

            return jax.tree.map(pick, found, part)

        empty = jax.tree.map(lambda x: jnp.zeros(index.shape + x.shape[1:], x.dtype), table)
        return self.fold_rows(row, index, empty, table)


ONE_DEVICE = Tiling()


def local_position(index: jax.Array, offset: jax.Array | int, size: int) -> tuple[jax.Array, jax.Array]:
    """Positions of ids in a part of `size` rows from `offset` on (0 where absent), and which are present.

    >>> local_position(jnp.array([-1, 4, 9]), 4, 3)[1].tolist()
    [False, True, False]
    """
    position = index - offset
    present = (index >= 0) & (position >= 0) & (position < size)
    return jnp.where(present, position, 0), present


def padded(tree: Any, multiple: int) -> Any:
    """Zero rows behind every array, up to a multiple.

    >>> padded(jnp.array([7, 8, 9]), 2).tolist()
    [7, 8, 9, 0]
    """
    extra = -_length(tree) % multiple
    return jax.tree.map(lambda x: jnp.pad(x, ((0, extra),) + ((0, 0),) * (x.ndim - 1)), tree)


def _visit(
    function: Callable[..., Any], block: int, rows: Any, state: Any, part: Any, offset: jax.Array | int, *shared: Any
) -> Any:
    """All rows of a device and one part, block by block."""
    count, size = _length(rows), min(block, _length(rows))
    blocks = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), padded((state, rows), size))
    # a loop, not a vmap: the temporaries of one block exist at a time
    done = jax.lax.map(lambda x: function(*x, part, offset, *shared), blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], done)


def _round_the_ring(visit: Callable[..., Any], mesh: Mesh, rows: Any, state: Any, part: Any, *shared: Any) -> Any:
    """Inside `shard_map`: a device's rows and every part, its own first."""
    (axis,), devices = mesh.axis_names, mesh.size
    size, device = _length(part), jax.lax.axis_index(axis)
    ring = [(i, (i - 1) % devices) for i in range(devices)]

    def turn(k: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, part = carry
        # parts move to the device before: after k turns this is the part of device + k
        state = visit(rows, state, part, (device + k) % devices * size, *shared)
        return state, jax.lax.ppermute(part, axis, ring)

    return jax.lax.fori_loop(0, devices, turn, (state, part))[0]


def _length(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
