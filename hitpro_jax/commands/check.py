"""`--mode=check`, before asking for a pod: start-up, one compiled step and one refresh, and their cost on each device.

With `--topology` step and refresh are compiled for a TPU slice that is not here (see `compile_ahead`).
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from hitpro_jax.commands import compile_ahead
from hitpro_jax.data.pipeline import share_of
from hitpro_jax.encode import layout_of
from hitpro_jax.run import Run
from hitpro_jax.sharding import to_global
from hitpro_jax.train import epoch_batches, part_batches
from hitpro_jax.types import TrainState

TOPOLOGY = flags.DEFINE_string(
    "topology", None, "compile for a TPU slice that is not here, such as v5e-64, instead of running anything"
)
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
TIMED_STEPS = 3

Figures = dict[str, float]


def devices() -> Sequence[jax.Device] | None:
    """The devices of `--topology`; None for those that are here."""
    return compile_ahead.devices_of(TOPOLOGY.value, print) if TOPOLOGY.value else None


def main(run: Run) -> None:
    """Logs what the run would cost."""
    figures = check_ahead(run) if run.devices else check(run)
    for name, value in figures.items():
        run.workdir.log(f"{name:<32}{value:>16,.6g}")


def check(run: Run) -> Figures:
    """Runs what a training run starts with, and measures what it costs; nothing is saved.

    One batch is read, the step is compiled and run on it a few times; one batch of a refresh is embedded, and a bank of
    the run's full size is mined.

    Returns:
      Figures by name; bytes are those of one device.

    Raises:
      ValueError: the method takes no step.

    Choice: the bank is of random features, because embedding the whole set takes long. The clips/s of one
    batch show how long.
    """
    if not run.last_step:
        raise ValueError(f"method {run.options.method.name} takes no step to check: --mode=train only evaluates it")
    run.require_fit()
    training = run.training
    state = jax.device_put(training.state, training.shardings)
    figures = {"devices": run.mesh.size, "parameters": parameters(state)}

    batch = next(iter(epoch_batches(run, state, 0)))
    arguments = to_global(batch, run.mesh), training.data.bank_info, layout_of(batch.modality)
    with run.workdir.waiting("compiling the training step"):
        figures |= step_costs(training.steps.train.lower(state, *arguments).compile())
    with run.workdir.waiting("running a few steps"):
        state, metrics = training.steps.train(state, *arguments)  # the first one also loads the program
        jax.block_until_ready(state)
        start = time.monotonic()
        for _ in range(TIMED_STEPS):
            state, metrics = training.steps.train(state, *arguments)
        figures["loss"] = float(metrics["loss"])
    figures["steps/s"] = TIMED_STEPS / (time.monotonic() - start)
    figures["clips/s"] = figures["steps/s"] * len(batch.tracklet)

    figures |= embedding_costs(run, state)
    if not run.method.refresh_on_host:  # there is no compiled program whose cost could be read
        figures |= refresh_costs(run, state)
    return figures


def embedding_costs(run: Run, state: TrainState) -> Figures:
    """Cost and speed of embedding one batch of a refresh."""
    batch = next(iter(part_batches(run)))
    frames, mask = to_global((batch.frames, batch.mask), run.mesh)
    arguments = state.variables, frames, mask, layout_of(batch.modality)
    with run.workdir.waiting("compiling the embedding"):
        figures = costs(run.embed.lower(*arguments).compile(), "embedding")
        jax.block_until_ready(run.embed(*arguments))
    start = time.monotonic()
    jax.block_until_ready(run.embed(*arguments))
    return figures | {"embedding clips/s": len(batch.tracklet) / (time.monotonic() - start)}


def refresh_costs(run: Run, state: TrainState) -> Figures:
    """Cost and time of one compiled refresh; the state's buffers are donated."""
    info, training = run.training.data.bank_info, run.training
    dim = training.method.mined(state.memory).prototypes.shape[1]
    shape = share_of(len(info.valid), jax.process_count()), run.options.prototypes.parts
    features = np.random.default_rng(jax.process_index()).standard_normal((*shape, dim), np.float32)
    parts, mask = to_global((features, np.ones(shape, bool)), run.mesh)
    with run.workdir.waiting("compiling the refresh"):
        figures = costs(training.steps.refresh.lower(state, parts, mask, info).compile(), "refresh")
    with run.workdir.waiting("running the refresh"):
        start = time.monotonic()
        jax.block_until_ready(training.steps.refresh(state, parts, mask, info))
    figures["refresh seconds"] = time.monotonic() - start
    return figures


def check_ahead(run: Run) -> Figures:
    """Compiles the step and the refresh of HITSZ-VCM's size for devices that need not be here; reads no data.

    Returns:
      Figures by name; bytes and GFLOP are those of one device.

    Raises:
      ValueError: the method cannot be compiled whole, or a batch cannot be cut over the devices.
    """
    shapes = compile_ahead.stand_ins(run)
    state, clips, info = shapes.state, shapes.clips, shapes.info
    run.workdir.log(
        f"{len(clips.tracklet)} clips a step, a bank of {len(info.valid)} rows, "
        f"{run.mesh.size} x {run.mesh.devices.flat[0].device_kind}"
    )
    figures = {"devices": run.mesh.size, "parameters": parameters(state)}
    with run.workdir.waiting("compiling the training step"):
        figures |= step_costs(shapes.steps.train.lower(state, clips, info, shapes.layout).compile())
    with run.workdir.waiting("compiling the refresh"):
        figures |= costs(shapes.steps.refresh.lower(state, shapes.parts, shapes.mask, info).compile(), "refresh")
    return figures


def parameters(state: TrainState) -> int:
    """How many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def costs(compiled: jax.stages.Compiled, name: str) -> Figures:
    """Memory of one device, and collectives as they stand in a compiled program: in a loop they count once."""
    memory: Any = compiled.memory_analysis()
    sizes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
    figures = {f"{name} {kind} MiB": size / 2**20 for kind, size in sizes.items()}
    return figures | {f"{name} {kind}s": number for kind, number in collectives(compiled.as_text() or "").items()}


def step_costs(compiled: jax.stages.Compiled) -> Figures:
    """`costs` of the training step, and its arithmetic. XLA counts a loop's body once, but the step has no loop."""
    analysis: Any = compiled.cost_analysis()
    return costs(compiled, "step") | {"step GFLOP": analysis.get("flops", 0.0) / 1e9}


def collectives(text: str) -> Counter[str]:
    """How many of each collective a compiled program's text holds; starts of asynchronous ones count, ends do not.

    >>> dict(collectives("%a = f32[8] all-gather(%b), %c = f32[8] all-reduce-start(%d), %e = all-reduce-done(%c)"))
    {'all-gather': 1, 'all-reduce': 1}
    """
    return Counter(re.findall(rf"\b({'|'.join(COLLECTIVES)})(?:-start)?\(", text))
