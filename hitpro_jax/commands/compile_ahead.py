"""Devices that are not here: for compiling a run before asking for the machines."""

import importlib.util
import math
import os
import re
from collections.abc import Callable, Sequence

import jax
from jax.experimental import topologies

GRIDS = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}


def devices_of(topology: str, say: Callable[[str], None]) -> Sequence[jax.Device]:
    """The devices of a TPU slice, to compile for and not to run on; as many CPU devices where libtpu is missing.

    Called before anything else touches a device.

    Args:
      topology: v5e-N or v6e-N with N chips; or the compiler's own name for other generations, such as v5p:2x2x4.

    Raises:
      ValueError: a topology that the compiler does not know.
    """
    flat = re.fullmatch(r"(v5e|v6e)-(\d+)", topology)
    known = flat and int(flat[2]) in GRIDS
    if not known and not re.fullmatch(r"v\w+:\d+(x\d+)+", topology):
        raise ValueError(
            f"--topology={topology} is not known: give v5e-N or v6e-N with N of "
            f"{', '.join(map(str, GRIDS))}, or the compiler's own name such as v5p:2x2x4"
        )
    name = f"{flat[1]}:{GRIDS[int(flat[2])]}" if known else topology
    if importlib.util.find_spec("libtpu") is None:
        count = math.prod(map(int, name.split(":")[1].split("x")))
        say(
            f"note: libtpu is not installed, so this is compiled for {count} CPU devices instead: collectives and bank "
            "are cut alike, memory and arithmetic are the CPU compiler's (pip install libtpu)"
        )
        jax.config.update("jax_num_cpu_devices", count)
        return jax.devices("cpu")
    # libtpu asks the cloud who it is, for minutes where there is none, unless it is told
    for variable, value in (
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("TPU_ACCELERATOR_TYPE", "v5litepod-1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_WORKER_ID", "0"),
    ):
        os.environ.setdefault(variable, value)
    chips = {"chips_per_host_bounds": [1, 1, 1]} if name.endswith(":1x1") else {}
    try:
        return topologies.get_topology_desc(name, platform="tpu", **chips).devices
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise ValueError(f"--topology={topology} cannot be compiled for: {str(error).splitlines()[0]}") from error
