"""Mesh and named shardings: every device in one row; clips and bank cut by rows, parameters copied or cut."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hitpro_jax.options import BatchOptions
from hitpro_jax.types import PyTree

AXIS = "data"
ROWS_PER_GATHER = 4096  # rows of each process that go from host to host at once
SMALLEST_CUT = 2**16  # entries of the smallest parameter that is cut over the devices


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of one axis `data`.

    Args:
      devices: its devices; None: all devices of all processes.

    Returns:
      The mesh.
    """
    row = np.asarray(jax.devices() if devices is None else devices)
    # Auto, because the compiler then places gathers and segment sums over sharded rows; Explicit axes reject them
    return Mesh(row, (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole: parameters, optimiser state, scalars."""
    return NamedSharding(mesh, PartitionSpec())


def row_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of an array cut along its leading axis: rows of a bank [P, ..], clips of a batch [B, ..]."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def parameter_sharding(tree: PyTree, mesh: Mesh, *, cut: bool) -> PyTree:
    """Sharding of every array of parameters or optimiser state: copied to all devices, or cut over them.

    Args:
      tree: pytree of arrays or `jax.ShapeDtypeStruct`s.
      mesh: mesh over all devices.
      cut: cut every array, except small ones, along its longest axis that the device count divides, as in FSDP; one
        without such an axis stays whole.

    Returns:
      Pytree of `NamedSharding`s.

    Choice: no `model` axis. ResNet-50 and ViT-B/16 fit on one device many times over, and cutting their matrices would
    add a transfer to every layer. What grows is bank and batch, and these are cut by rows.
    """

    def sharding_of(array) -> NamedSharding:
        axes = [axis for axis, size in enumerate(array.shape) if size % mesh.size == 0]
        if not cut or array.size < SMALLEST_CUT or not axes:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: array.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    return jax.tree.map(sharding_of, tree)


def fetch(tree: PyTree) -> PyTree:
    """Whole arrays in host memory, on every process; every process has to call it.

    Args:
      tree: pytree of arrays under any of this module's shardings, or of host arrays.

    Returns:
      The same pytree of NumPy arrays.
    """

    def whole(array: jax.Array | np.ndarray) -> np.ndarray:
        if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        sharding = array.sharding
        if isinstance(sharding, NamedSharding) and tuple(sharding.spec)[:1] == (AXIS,):
            return gather_rows(local_rows(array))
        return multihost_utils.process_allgather(array, tiled=True)  # parameters may be cut along any axis

    return jax.tree.map(whole, tree)


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """The rows of all processes in host memory, on every process; every process has to call it.

    Args:
      rows: [P / processes, ..] of this process, equally many on every process.

    Returns:
      [P, ..], in the order of the processes.

    Cost: gathered ROWS_PER_GATHER rows a process at a time, so that no device ever holds a whole bank.
    """
    # once even without rows, as every process takes part in every call
    starts = range(0, len(rows) or 1, ROWS_PER_GATHER)
    gathered = [multihost_utils.process_allgather(rows[start : start + ROWS_PER_GATHER]) for start in starts]
    # a piece is [processes, rows, ..]: pieces side by side first, then process after process
    return np.concatenate(np.concatenate(gathered, axis=1))


def local_rows(array: jax.Array) -> np.ndarray:
    """This process's part of an array that is cut by rows, in host memory.

    Args:
      array: [P, ..] under `row_sharding`.

    Returns:
      [P / processes, ..].
    """
    if getattr(array, "is_fully_addressable", True):
        return np.asarray(array)
    # by their first row, since devices need not be in the order of rows
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def pad_rows(rows: int, mesh: Mesh) -> int:
    """Smallest multiple of the device count that holds so many rows; 0 stays 0."""
    return -(-rows // mesh.size) * mesh.size


def require_cut(batch: BatchOptions, devices: int, processes: int = 1) -> None:
    """Refuses a training batch that cannot be cut over the devices.

    Args:
      batch: of which the number of clips counts.
      devices: of all processes.
      processes: each of several reads an even number of clips, so that they alternate RGB and infrared.

    Raises:
      ValueError: it cannot; the sentence names batches and device counts that fit.

    >>> require_cut(BatchOptions(tracklets_per_modality=4, clips_per_tracklet=2), 8)
    """
    each = 1 if processes == 1 else 2 * processes
    unit = math.lcm(devices, each)
    if batch.clips % unit == 0:
        return
    evenly = f" of {processes} processes, an even number for each" if processes > 1 else ""
    step = unit // math.gcd(unit, 2 * batch.clips_per_tracklet)
    counts = range(processes, batch.clips + 1, processes)
    fitting = ", ".join(str(count) for count in counts if batch.clips % math.lcm(count, each) == 0)
    raise ValueError(
        f"a batch of {batch.clips} clips cannot be cut over {devices} devices{evenly}: make "
        f"batch.tracklets_per_modality a multiple of {step}" + f", or take {fitting} devices" * bool(fitting)
    )


def to_global(batch: PyTree, mesh: Mesh) -> PyTree:
    """Global arrays, cut by rows, from this process's part of the host batch.

    Args:
      batch: pytree of host arrays [B / processes, ..], equally many rows on every process; process p holds the p-th
        part of the global batch.
      mesh: mesh over all devices.

    Returns:
      The same pytree of `jax.Array` [B, ..] under `row_sharding(mesh)`.

    Raises:
      ValueError: the rows do not divide by this process's devices.
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
