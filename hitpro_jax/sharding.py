"""Mesh and named shardings: every device in one row; clips and bank cut by rows, parameters copied or cut."""

from collections.abc import Sequence

import chex
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
PASSED = 4096  # rows of a process that pass from host to host at once


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


def parameter_sharding(tree: chex.ArrayTree, mesh: Mesh, *, cut: bool) -> chex.ArrayTree:
    """Sharding of every array of parameters or optimiser state: copied to all devices, or cut over them.

    Cut (as in FSDP): along the longest axis that the device count divides; small arrays and those without such an
    axis stay whole. Choice: no `model` axis. ResNet-50 and ViT-B/16 fit on one device many times over, and cutting
    their matrices would add a transfer to every layer; what grows is bank and batch, and these are cut by rows.

    Args:
      tree: pytree of arrays or `jax.ShapeDtypeStruct`s.
      cut: cut arrays of 2^16 entries and more.

    Returns:
      pytree of `NamedSharding`s.
    """

    def place(array) -> NamedSharding:
        axes = [axis for axis, size in enumerate(array.shape) if size % mesh.size == 0]
        if not cut or array.size < 2**16 or not axes:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: array.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    return jax.tree.map(place, tree)


def fetch(tree: chex.ArrayTree) -> chex.ArrayTree:
    """The whole arrays of `tree` in host memory, on every process."""

    def whole(array: jax.Array) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        if tuple(array.sharding.spec)[:1] != (AXIS,):  # parameters may be cut along any axis
            return multihost_utils.process_allgather(array, tiled=True)
        return gather_rows(local_rows(array))

    return jax.tree.map(whole, tree)


def gather_rows(mine: np.ndarray) -> np.ndarray:
    """The rows of all processes, which have equally many, in host memory on every process.

    `PASSED` rows of each pass at a time, so that no device ever holds a whole bank.
    """
    passed = [
        multihost_utils.process_allgather(mine[start : start + PASSED]) for start in range(0, len(mine) or 1, PASSED)
    ]
    return np.concatenate(np.concatenate(passed, axis=1))


def local_rows(array: jax.Array) -> np.ndarray:
    """This process's part of an array cut by rows, in host memory."""
    if getattr(array, "is_fully_addressable", True):
        return np.asarray(array)
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


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
      The same pytree of `jax.Array [B, ...]` under `row_sharding(mesh)`.

    Raises:
      ValueError: if the rows do not divide by this process's devices.
    """
    sharding = row_sharding(mesh)
    devices = mesh.local_mesh.size
    for array in jax.tree.leaves(batch):
        if len(array) % devices:
            raise ValueError(
                f"a batch of {len(array)} clips a process cannot be cut over its {devices} devices: "
                f"make the batch size a multiple of {mesh.size}"
            )
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)
