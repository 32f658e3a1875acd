"""Devices that are not here, and shapes for them: for compiling a run before asking for the machines."""

import importlib.util
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import topologies

from hitpro_jax.checkpoint import abstract
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.registry import make_method
from hitpro_jax.run import Run, TrainingSet, bank_rows
from hitpro_jax.sharding import row_sharding
from hitpro_jax.steps import Steps
from hitpro_jax.types import INTERLEAVED, Clips, Layout, TrackletInfo, TrainState

# chips of a v5e or v6e slice, and how they lie
GRIDS = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}


def devices_of(topology: str, log: Callable[[str], None]) -> Sequence[jax.Device]:
    """The devices of a TPU slice, to compile for and not to run on; as many CPU devices where libtpu is missing.

    Called before anything else touches a device.

    Args:
      topology: v5e-N or v6e-N with N chips; or the compiler's own name for other generations, such as v5p:2x2x4.
      log: receives a note where libtpu is missing.

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
        log(
            f"note: libtpu is not installed, so this is compiled for {count} CPU devices instead: collectives and bank "
            "are cut alike, memory and arithmetic are the CPU compiler's (pip install libtpu)"
        )
        jax.config.update("jax_num_cpu_devices", count)
        return jax.devices("cpu")
    # without these libtpu asks the cloud which machine this is, for minutes where there is no cloud
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


class StandIns(NamedTuple):
    """What the compiler needs to see of a run: its steps, and shapes with shardings instead of arrays."""

    steps: Steps
    state: TrainState
    clips: Clips
    info: TrackletInfo  # [P]
    parts: jax.ShapeDtypeStruct  # [P, S, D] float32
    mask: jax.ShapeDtypeStruct  # [P, S] bool
    layout: Layout


def stand_ins(run: Run) -> StandIns:
    """The shapes of a run on HITSZ-VCM, of which nothing is read: its published size and twelve views.

    Raises:
      ValueError: the method's refresh is not compiled, or a batch cannot be cut over the devices.
    """
    options, mesh = run.options, run.mesh
    if run.method.refresh_on_host or not run.method.trains:
        raise ValueError(f"--topology compiles the whole method, which {options.method.name} is not: leave it out")
    run.require_fit()
    clips = options.batch.clips
    row = np.arange(bank_rows(hitsz_vcm.PUBLISHED["train"]["tracklets"], mesh), dtype=np.int32)
    # two modalities of six cameras, whose views are 2 camera + modality
    info = TrackletInfo(row % 2, row // 2 % 6, row % 12, np.ones(len(row), bool))
    method = make_method(options, Setting(12, mesh if mesh.size > 1 else None, None))
    steps, state, shardings = run.build(TrainingSet((), info, info), method)
    dim = method.mined(state.memory).prototypes.shape[1]

    def rows(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=row_sharding(mesh))

    number = rows((clips,), np.int32)
    shape = clips, options.batch.clip_length
    frames = rows((*shape, *options.data.image_size, 3), np.uint8)
    parts = len(row), options.prototypes.parts
    return StandIns(
        steps,
        abstract(state, shardings),
        Clips(frames, rows(shape, bool), number, number, number, number),
        abstract(info, row_sharding(mesh)),
        rows((*parts, dim), np.float32),
        rows(parts, bool),
        INTERLEAVED,
    )
