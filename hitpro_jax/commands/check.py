"""Before asking for a pod: start-up, one compiled step and one refresh, and what they cost on each device."""

import re
import time
from collections import Counter
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hitpro_jax import evaluate, train
from hitpro_jax.checkpoint import abstract
from hitpro_jax.data.pipeline import share_of
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.encode import layout_of
from hitpro_jax.sharding import make_mesh, row_sharding, to_global
from hitpro_jax.steps import Steps
from hitpro_jax.types import INTERLEAVED, TrackletInfo, TrainState
from hitpro_jax.workdir.writer import Writer

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
STEPS = 3  # that are timed


def check(config: ConfigDict, writer: Writer) -> dict[str, float]:
    """Runs what a training run starts with, and tells what it costs; nothing is saved.

    One batch is read, the step is compiled and run on it a few times; one batch of a refresh is embedded, and a bank of
    the run's full size is mined. Choice: of random features, as embedding the whole set is what takes long and what the
    clips/s already tell.

    Returns:
      The figures that were told, by name; bytes are those of one device.
    """
    if not train.last_step(config):
        raise ValueError(f"method {config.method.name} takes no step to check: --mode=train only evaluates it")
    mesh = make_mesh()
    dataset, _, reader = evaluate.open_data(config, writer.say)
    trainer, state, _ = train.prepare(config, dataset, reader, mesh, writer)
    steps, data = trainer.steps, trainer.data
    figures = {"devices": mesh.size, "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params))}
    state = jax.device_put(state, trainer.where)

    batch = next(iter(train.epoch_batches(trainer, state, 0)))
    clips = to_global({name: batch[name] for name in ("frames", "mask", "tracklet")}, mesh)
    layout = layout_of(batch["modality"])
    with writer.waiting("compiling the training step"):
        figures |= step_costs(steps.train.lower(state, clips, data.info, layout).compile())
    with writer.waiting("running a few steps"):
        for turn in range(STEPS + 1):
            if turn == 1:  # the first one also loads the program
                jax.block_until_ready(state)
                start = time.monotonic()
            state, metrics = steps.train(state, clips, data.info, layout)
        figures["loss"] = float(metrics["loss"])
    figures["steps/s"] = STEPS / (time.monotonic() - start)
    figures["clips/s"] = figures["steps/s"] * len(clips["tracklet"])

    figures |= embedding_costs(trainer, state)
    if hasattr(steps.refresh, "lower"):  # a refresh that works on the host has no cost to read off
        figures |= refresh_costs(trainer, state)
    tell(figures, writer)
    return figures


def embedding_costs(trainer: train.Trainer, state: TrainState) -> dict[str, float]:
    """Cost and speed of embedding one batch of a refresh."""
    batch = next(iter(train.part_batches(trainer)))
    clips = to_global({name: batch[name] for name in ("frames", "mask")}, trainer.mesh)
    words = state.variables, clips["frames"], clips["mask"], layout_of(batch["modality"])
    with trainer.writer.waiting("compiling the embedding"):
        figures = costs(trainer.steps.embed.lower(*words).compile(), "embedding")
        jax.block_until_ready(trainer.steps.embed(*words))
    start = time.monotonic()
    jax.block_until_ready(trainer.steps.embed(*words))
    return figures | {"embedding clips/s": len(clips["frames"]) / (time.monotonic() - start)}


def refresh_costs(trainer: train.Trainer, state: TrainState) -> dict[str, float]:
    """Cost and time of one compiled refresh; the state's buffers are given up."""
    config, data, steps, mesh, writer = trainer.config, trainer.data, trainer.steps, trainer.mesh, trainer.writer
    rows, options = len(data.info.valid), config.prototypes
    dim = state.memory.prototypes.shape[1]
    shape = share_of(rows, jax.process_count()), options.parts
    parts = np.random.default_rng(jax.process_index()).standard_normal((*shape, dim), np.float32)
    parts, mask = to_global((parts, np.ones(shape, bool)), mesh)
    with writer.waiting("compiling the refresh"):
        figures = costs(steps.refresh.lower(state, parts, mask, data.info).compile(), "refresh")
    with writer.waiting("running the refresh"):
        start = time.monotonic()
        jax.block_until_ready(steps.refresh(state, parts, mask, data.info))
    figures["refresh seconds"] = time.monotonic() - start
    return figures


def check_ahead(config: ConfigDict, writer: Writer, devices: Sequence[jax.Device]) -> dict[str, float]:
    """Compiles the step and the refresh of HITSZ-VCM's size for devices that need not be here; reads no data.

    Returns:
      The figures that were told, by name; bytes and GFLOP are those of one device.
    """
    if config.method.name != "hitpro":
        raise ValueError(f"--topology compiles hitpro alone, not {config.method.name}: leave it out")
    mesh = make_mesh(devices)
    rows = train.bank_size(hitsz_vcm.PUBLISHED["train"]["tracklets"], mesh)
    steps, state, where, clips, info = stand_ins(config, rows, mesh)
    state, clips, info = abstract((state, clips, info), (where, row_sharding(mesh), row_sharding(mesh)))
    if len(clips["tracklet"]) % mesh.size:
        raise ValueError(
            f"a batch of {len(clips['tracklet'])} clips cannot be cut over {mesh.size} devices: make "
            "2 x batch.tracklets_per_modality x batch.clips_per_tracklet a multiple of them"
        )
    writer.say(f"{len(clips['tracklet'])} clips a step, a bank of {rows} rows, {mesh.size} x {devices[0].device_kind}")
    figures = {"devices": mesh.size, "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params))}
    with writer.waiting("compiling the training step"):
        figures |= step_costs(steps.train.lower(state, clips, info, INTERLEAVED).compile())
    parts = rows, config.prototypes.parts
    mask = jax.ShapeDtypeStruct(parts, bool)
    parts = jax.ShapeDtypeStruct((*parts, state.memory.prototypes.shape[1]), np.float32)
    with writer.waiting("compiling the refresh"):
        figures |= costs(steps.refresh.lower(state, parts, mask, info).compile(), "refresh")
    tell(figures, writer)
    return figures


def stand_ins(config: ConfigDict, rows: int, mesh: Mesh) -> tuple[Steps, TrainState, TrainState, dict, TrackletInfo]:
    """The steps of a config, their first state and its shardings, the shapes of a batch, and a group of 12 views."""
    batch = config.batch
    clips = 2 * batch.tracklets_per_modality * batch.clips_per_tracklet
    shape, place = (clips, batch.clip_length), np.arange(rows, dtype=np.int32)
    info = TrackletInfo(place % 2, place // 2 % 6, place % 12, np.ones(rows, bool))
    data = train.Unlabelled((), info.modality, info.camera, info.view, info)
    steps, state, where = train.build(config, data, mesh, lambda line: None)
    batch = {
        "frames": jax.ShapeDtypeStruct((*shape, *config.data.image_size, 3), np.uint8),
        "mask": jax.ShapeDtypeStruct(shape, bool),
        "tracklet": jax.ShapeDtypeStruct((clips,), np.int32),
    }
    return steps, state, where, batch, info


def tell(figures: dict[str, float], writer: Writer) -> None:
    """One line a figure."""
    for name, value in figures.items():
        writer.say(f"{name:<32}{value:>16,.6g}")


def costs(compiled: jax.stages.Compiled, name: str) -> dict[str, float]:
    """Memory of one device, and collectives as they stand in a compiled program: in a loop they count once."""
    memory = compiled.memory_analysis()
    sizes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
    figures = {f"{name} {kind} MiB": size / 2**20 for kind, size in sizes.items()}
    return figures | {f"{name} {kind}s": number for kind, number in collectives(compiled.as_text()).items()}


def step_costs(compiled: jax.stages.Compiled) -> dict[str, float]:
    """Those of the training step, and its arithmetic, which XLA counts rightly because nothing loops in it."""
    return costs(compiled, "step") | {"step GFLOP": compiled.cost_analysis().get("flops", 0.0) / 1e9}


def collectives(text: str) -> Counter[str]:
    """How many of each collective a compiled program's text holds; starts of asynchronous ones count, ends do not.

    >>> dict(collectives("%a = f32[8] all-gather(%b), %c = f32[8] all-reduce-start(%d), %e = all-reduce-done(%c)"))
    {'all-gather': 1, 'all-reduce': 1}
    """
    return Counter(re.findall(rf"\b({'|'.join(COLLECTIVES)})(?:-start)?\(", text))
