"""Mesh and named shardings: every device in one row, arrays cut along their leading axis or copied to all."""

from collections.abc import Sequence

import chex
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of one axis `data` over `devices` (default: all devices of all processes).

    Choice: axis type Auto, because the compiler then places gathers and segment sums over sharded rows by
    itself, where Explicit axes reject them.
    """
    devices = np.asarray(jax.devices() if devices is None else devices)
    return Mesh(devices, (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole: parameters, optimiser state, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of an array cut along its leading axis: rows of a bank `[P, ...]`, clips of a batch `[B, ...]`."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


batch_sharding = row_sharding


def pad_rows(rows: int, mesh: Mesh) -> int:
    """Smallest multiple of the device count that holds `rows` rows; 0 stays 0."""
    return -(-rows // mesh.size) * mesh.size


def to_global(batch: chex.ArrayTree, mesh: Mesh) -> chex.ArrayTree:
    """Global arrays, cut by rows, from this process's part of the host batch.

    Args:
      batch: pytree of host arrays `[B / processes, ...]`, equally many rows on every process; process p holds
        the p-th part of the global batch.
      mesh: mesh over all devices.

    Returns:
      The same pytree of `jax.Array [B, ...]` under `batch_sharding(mesh)`.

    Raises:
      ValueError: if the rows do not divide by this process's devices.
    """
    sharding = batch_sharding(mesh)
    devices = mesh.local_mesh.size
    for array in jax.tree.leaves(batch):
        if len(array) % devices:
            raise ValueError(f"a batch of {len(array)} clips a process cannot be cut over its {devices} devices: "
                             f"make the batch size a multiple of {mesh.size}")
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)
