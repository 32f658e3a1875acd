"""Before asking for a pod: start-up, one compiled step and one refresh, and what they cost on each device."""

import re
import time
from collections import Counter

import jax
import numpy as np
from ml_collections import ConfigDict

from hitpro_jax import evaluate, train
from hitpro_jax.data.pipeline import share_of
from hitpro_jax.embedding import layout_of
from hitpro_jax.sharding import make_mesh, to_global
from hitpro_jax.writers import Writer

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
STEPS = 3  # that are timed


def check(config: ConfigDict, writer: Writer) -> dict[str, float]:
    """Runs what a training run starts with, and tells what it costs; nothing is saved.

    One batch is read, the step is compiled and run on it a few times, and a bank of the run's full size is mined;
    Choice: of random features, as embedding the whole set is what takes long and what the clips/s already tell.

    Returns:
      The figures that were told, by name; bytes are those of one device.
    """
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
        figures |= costs(steps.train.lower(state, clips, data.group, layout).compile(), "step")
    with writer.waiting("running a few steps"):
        for turn in range(STEPS + 1):
            if turn == 1:  # the first one also loads the program
                jax.block_until_ready(state)
                start = time.monotonic()
            state, metrics = steps.train(state, clips, data.group, layout)
        figures["loss"] = float(metrics["loss"])
    figures["steps/s"] = STEPS / (time.monotonic() - start)
    figures["clips/s"] = figures["steps/s"] * len(clips["tracklet"])

    rows, options = len(data.group.valid), config.prototypes
    dim = state.memory.prototypes.shape[1]
    shape = share_of(rows, jax.process_count()), options.parts
    parts = np.random.default_rng(jax.process_index()).standard_normal((*shape, dim), np.float32)
    parts, mask = to_global((parts, np.ones(shape, bool)), mesh)
    with writer.waiting("compiling the refresh"):
        figures |= costs(steps.refresh.lower(state, parts, mask, data.group).compile(), "refresh")
    with writer.waiting("running the refresh"):
        start = time.monotonic()
        jax.block_until_ready(steps.refresh(state, parts, mask, data.group))
    figures["refresh seconds"] = time.monotonic() - start
    for name, value in figures.items():
        writer.say(f"{name:<32}{value:>16,.6g}")
    return figures


def costs(compiled: jax.stages.Compiled, name: str) -> dict[str, float]:
    """Memory of one device, arithmetic and collectives of a compiled program."""
    memory, arithmetic = compiled.memory_analysis(), compiled.cost_analysis()
    sizes = {"arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes}
    figures = {f"{name} {kind} MiB": size / 2**20 for kind, size in sizes.items()}
    figures[f"{name} GFLOP"] = arithmetic.get("flops", 0.0) / 1e9
    return figures | {f"{name} {kind}s": number for kind, number in collectives(compiled.as_text()).items()}


def collectives(text: str) -> Counter[str]:
    """How many of each collective a compiled program's text holds; starts of asynchronous ones count, ends do not.

    >>> dict(collectives("%a = f32[8] all-gather(%b), %c = f32[8] all-reduce-start(%d), %e = all-reduce-done(%c)"))
    {'all-gather': 1, 'all-reduce': 1}
    """
    return Counter(re.findall(rf"\b({'|'.join(COLLECTIVES)})(?:-start)?\(", text))
