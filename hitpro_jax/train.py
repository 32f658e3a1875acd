"""The training loop: evaluate, refresh, save, contrast. Read from the top."""

import json
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hitpro_jax import diagnostics, evaluate, optim
from hitpro_jax.checkpoint import Checkpointer, abstract
from hitpro_jax.data import pipeline, sampling
from hitpro_jax.data.records import Dataset, Tracklet, anonymise, views
from hitpro_jax.distributed import Preempted, Preemption
from hitpro_jax.encode import CountingUnreadable, embed_all, layout_of
from hitpro_jax.methods.registry import make_method
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.models.pretrained.weights import load_into
from hitpro_jax.sharding import fetch, make_mesh, pad_rows, row_sharding, to_global
from hitpro_jax.steps import Steps, initial_state, make_steps, state_sharding
from hitpro_jax.types import RGB, TrackletInfo, TrainState
from hitpro_jax.workdir.writer import Writer

# Fields in which a run may differ from the checkpoint that it continues: they change no number, but for rounding.
FREE = (
    "data.root",
    "data.cache",
    "data.packed",
    "data.num_workers",
    "data.jobs",
    "mesh.cut_parameters",
    "train.log_every",
    "train.save_every",
    "train.save_steps",
)
BANK_BLOCK = 256  # rows


class Unlabelled(NamedTuple):
    """The training set as the training path sees it: no person ids, and an order that tells nothing."""

    tracklets: tuple[Tracklet, ...]
    modality: np.ndarray  # [N]
    camera: np.ndarray  # [N]
    view: np.ndarray  # [N] dense
    info: TrackletInfo  # the same on the devices, [P], padded and cut by rows


class Trainer(NamedTuple):
    """What the loop works with besides its state."""

    config: ConfigDict
    data: Unlabelled
    reader: pipeline.FrameReader
    steps: Steps
    where: TrainState  # shardings of the state
    mesh: Mesh
    writer: Writer


def train(config: ConfigDict, writer: Writer) -> dict:
    """Trains until the last step, going on from the workdir's newest checkpoint; returns the final result.

    A config of an image method is to have passed `registry.adapt`, as it does on the command line.

    Raises:
      ValueError: faulty data, or a checkpoint of another config.
      FloatingPointError: the loss is not finite; the message names the step.
      Preempted: SIGTERM came; the state is saved.
    """
    refuse_zeros(config)
    mesh = make_mesh()
    writer.say(f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, processes: {jax.process_count()}")
    dataset, protocol, reader = evaluate.open_data(config, writer.say)
    trainer, state, pids = prepare(config, dataset, reader, mesh, writer)
    steps, data = trainer.steps, trainer.data
    observe = Observer(data, pids if (pids >= 0).all() else None, config.across.ban_same_camera)

    def scores(state: TrainState) -> tuple[evaluate.Protocol, dict[str, dict]]:
        return evaluate.evaluate_aloud(writer, steps.embed, state.variables, dataset, protocol, reader, config, mesh)

    per_epoch, last = config.train.steps_per_epoch, last_step(config)
    record = json.loads(config.to_json_best_effort())
    with (
        writer.exclusive(),
        Preemption() as preemption,
        Checkpointer(writer.path / "checkpoints", config=record, ignore=FREE, say=writer.say) as checkpointer,
    ):
        meta = {"encoder": evaluate.encoder_of(config), "data": fingerprint(data.tracklets)}
        state, step = restore(checkpointer, state, trainer, meta)
        if step < last:  # a finished run keeps the word of what trained it
            writer.config(record)
            writer.environment(sys.argv)
        result, fresh = None, step < 0  # fresh: this step's evaluation, refresh and save are still to be done
        step = max(step, 0)
        while True:
            epoch = step // per_epoch
            if fresh and (step in (0, last) or due(epoch, config.train.eval_every)):
                result = scores(state)
                evaluate.log(writer, step, *result)
            if fresh and step < last:
                state = refresh(trainer, state, observe, step)
            leave = preemption.asked and step < last
            if fresh and (leave or step == last or save_due(config, step)):
                checkpointer.save(step, state, meta)
            if leave:
                raise Preempted(step)
            if step == last:
                break
            state = contrast(trainer, state, step, partial(checkpointer.save, meta=meta), preemption)
            step, fresh = (epoch + 1) * per_epoch, True
    applied, found = result or scores(state)  # none: killed between the last save and here, or finished before
    return evaluate.result_of(applied, last, found)


def prepare(
    config: ConfigDict, dataset: Dataset, reader: pipeline.FrameReader, mesh: Mesh, writer: Writer
) -> tuple[Trainer, TrainState, np.ndarray]:
    """What the loop works with, the state at step 0 on the host, and the person ids that the trainer never sees.

    Choice: only here do ids go to a method, and only to `supervised`, which `make_method` sees to.
    """
    tracklets, pids = anonymise(dataset.train, config.seed)
    data = unlabelled(tracklets, mesh)
    for line in missing_levels(data) if config.method.name == "hitpro" else ():
        writer.say(line)
    labels = identities(pids, len(data.info.valid)) if config.method.name == "supervised" else None
    steps, state, where = build(config, data, mesh, writer.say, labels)
    return Trainer(config, data, reader, steps, where, mesh, writer), state, pids


def last_step(config: ConfigDict) -> int:
    """Optimiser steps of the whole run; `frozen` takes none, so that it is only evaluated."""
    return 0 if config.method.name == "frozen" else config.train.epochs * config.train.steps_per_epoch


def identities(pids: np.ndarray, rows: int) -> np.ndarray:
    """Person ids as dense labels from 0 on, int32 [rows], -1 for padding.

    Raises:
      ValueError: a tracklet has no id.
    """
    if (pids < 0).any():
        raise ValueError(
            f"method supervised needs a person id for every training tracklet, and {(pids < 0).sum()} "
            "have none: label them, or choose another method.name"
        )
    labels = np.unique(pids, return_inverse=True)[1].astype(np.int32)
    return np.pad(labels, (0, rows - len(labels)), constant_values=-1)


def refuse_zeros(config: ConfigDict) -> None:
    """Raises ValueError where a number that must be at least 1 is less, or an image size is not two of them."""
    size = config.data.image_size
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"data.image_size is {tuple(size)}: give height and width, such as (288,144)")
    for name in (
        "train.epochs",
        "train.steps_per_epoch",
        "batch.tracklets_per_modality",
        "batch.clips_per_tracklet",
        "batch.clip_length",
        "prototypes.parts",
        "prototypes.clip_length",
        "prototypes.batch_size",
        "eval.frames",
        "eval.batch_size",
    ):
        section, field = name.split(".")
        if config[section][field] < 1:
            raise ValueError(f"{name} is {config[section][field]}: give at least 1")


def due(count: int, every: int) -> bool:
    """Whether something that happens every so often is due; 0 means never."""
    return every > 0 and count % every == 0


def save_due(config: ConfigDict, step: int) -> bool:
    """Whether `train.save_every` epochs or `train.save_steps` steps end with `step`.

    >>> train = {"steps_per_epoch": 4, "save_every": 2, "save_steps": 3}
    >>> [step for step in range(14) if save_due(ConfigDict({"train": train}), step)]
    [0, 3, 6, 8, 9, 12]
    """
    epoch, within = divmod(step, config.train.steps_per_epoch)
    return within == 0 and due(epoch, config.train.save_every) or step > 0 and due(step, config.train.save_steps)


def unlabelled(tracklets: tuple[Tracklet, ...], mesh: Mesh) -> Unlabelled:
    """Arrays of what each tracklet may know of itself; padding rows are not valid and belong to no view."""
    size = bank_size(len(tracklets), mesh)
    modality = np.array([t.modality for t in tracklets], np.int32)
    camera = np.array([t.camid for t in tracklets], np.int32)
    view, _ = views(tracklets)
    padded = [np.pad(column, (0, size - len(column))) for column in (modality, camera, view)]
    info = TrackletInfo(*padded, valid=np.arange(size) < len(tracklets))
    return Unlabelled(tracklets, modality, camera, view, jax.device_put(info, row_sharding(mesh)))


def bank_size(tracklets: int, mesh: Mesh) -> int:
    """Rows of the bank: whole blocks, so that all device counts that divide a block share checkpoints."""
    return pad_rows(-(-tracklets // BANK_BLOCK) * BANK_BLOCK, mesh)


def missing_levels(data: Unlabelled) -> list[str]:
    """Tells the user which levels of the loss can have no terms on this data."""
    lines = []
    if len(set(data.modality)) == 1:
        kind = "visible" if data.modality[0] == RGB else "infrared"
        lines.append(f"note: all tracklets are {kind}, so level 3 (cross-modality) has no terms; going on without it")
    cameras = {m: len(set(data.camera[data.modality == m])) for m in set(data.modality)}
    if all(number == 1 for number in cameras.values()):
        lines.append("note: no modality has two cameras, so level 2 (cross-camera) has no terms; going on without it")
    return lines


def build(
    config: ConfigDict,
    data: Unlabelled,
    mesh: Mesh,
    say: Callable[[str], None] = print,
    labels: np.ndarray | None = None,
) -> tuple[Steps, TrainState, TrainState]:
    """Encoder, optimiser, method and their compiled steps; the state at step 0, on the host, and its shardings.

    Says where the weights come from. labels: identities, see `make_method`.
    """
    encoder = make_encoder(**config.encoder)
    variables = init_variables(encoder, tuple(config.data.image_size), config.seed)
    if config.init.weights:
        variables = load_into(variables, config.init.weights, say)
    else:
        say(f"note: {config.encoder.backbone} starts from random weights; people use pretrained ones: set init.weights")
    last = config.train.epochs * config.train.steps_per_epoch
    optimiser = optim.make_optimiser(
        config.optim.name,
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        schedule=config.optim.schedule,
        adapt_steps=config.optim.adapt_steps,
        warmup_steps=config.optim.warmup_steps,
        total_steps=last,
        clip_norm=config.optim.clip_norm or None,
        groups={"backbone/.*": config.optim.backbone_rate},
    )
    method = make_method(config, int(data.view.max()) + 1, mesh if mesh.size > 1 else None, labels)
    dim = variables["params"]["neck"]["scale"].shape[0]
    memory = method.empty(data.info.valid.shape[0], dim)
    start = partial(
        initial_state,
        variables,
        optimiser,
        memory,
        method.parameters(dim, config.seed) if hasattr(method, "parameters") else None,
    )
    where = state_sharding(jax.eval_shape(start), method, mesh, cut_parameters=config.mesh.cut_parameters)
    return make_steps(encoder, optimiser, method, last, mesh, where), start(), where


def fingerprint(tracklets: tuple[Tracklet, ...]) -> int:
    """CRC32 of the training set's frames, modalities and cameras in their order: a run belongs to its data."""
    return zlib.crc32("\n".join(f"{t.modality} {t.camid} {' '.join(t.frames)}" for t in tracklets).encode())


def restore(checkpointer: Checkpointer, state: TrainState, trainer: Trainer, meta: dict) -> tuple[TrainState, int]:
    """The newest checkpoint's state and step, or the given state and -1; forgets metrics of lost steps.

    Raises:
      ValueError: the checkpoint was saved with another config or on other tracklets.
    """
    restored = checkpointer.restore_latest(abstract(state, trainer.where))
    if restored and restored[1]["data"] != meta["data"]:
        raise ValueError(
            f"the checkpoint in {trainer.writer.path} was trained on other tracklets than those of "
            f"{trainer.reader.root}: restore the data, or choose another workdir"
        )
    step = restored[2] if restored else -1
    trainer.writer.rewind(step)
    if not restored:
        return jax.device_put(state, trainer.where), -1
    trainer.writer.say(f"going on from the checkpoint at step {step}")
    return restored[0], step


def part_batches(trainer: Trainer) -> Iterator[pipeline.Batch]:
    """This process's clips of a refresh, `prototypes.batch_size` of all at once, rounded up to suit the devices."""
    options = trainer.config.prototypes
    return pipeline.part_clips(
        trainer.reader,
        trainer.data.tracklets,
        parts=options.parts,
        clip_length=options.clip_length,
        batch_size=pad_rows(options.batch_size, trainer.mesh),
        rows=len(trainer.data.info.valid),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=trainer.config.data.num_workers,
    )


def refresh(trainer: Trainer, state: TrainState, observe, step: int) -> TrainState:
    """Embeds every training tracklet, builds prototypes and mines positives; logs what was found."""
    options, batches = trainer.config.prototypes, CountingUnreadable(part_batches(trainer))
    with trainer.writer.waiting("embedding all tracklets and mining") as wait:
        embed = wait.counting(trainer.steps.embed, len(trainer.data.tracklets) * options.parts)
        parts, mask = embed_all(
            embed, state.variables, batches, len(trainer.data.info.valid), options.parts, trainer.mesh
        )
        if unreadable := batches.total():
            trainer.writer.say(f"left out: {unreadable} frames that cannot be read")
        before = fetch(state.memory) if step > 0 else None
        state = trainer.steps.refresh(state, *to_global((parts, mask), trainer.mesh), trainer.data.info)
        figures = observe(fetch(state.memory), before)
    trainer.writer.metrics(step, figures)
    trainer.writer.say(f"epoch {step // trainer.config.train.steps_per_epoch + 1}: {diagnostics.summary(figures)}")
    return state


class Observer(NamedTuple):
    """The diagnostics of a refresh; the only holder of the training set's person ids (None without labels)."""

    data: Unlabelled
    pids: np.ndarray | None
    ban_same_camera: bool = False

    def __call__(self, memory: Any, before: Any) -> dict[str, float]:
        data = self.data
        return diagnostics.describe(
            memory, before, data.modality, data.camera, data.view, self.pids, ban_same_camera=self.ban_same_camera
        )


def contrast(trainer: Trainer, state: TrainState, step: int, save: Callable, preemption: Preemption) -> TrainState:
    """Optimiser steps from `step` to the end of its epoch; metrics are fetched while the next step runs."""
    options, pending, start = trainer.config.train, None, step
    for batch in epoch_batches(trainer, state, step):
        # a clip of which no frame could be read has no tracklet: it takes part in no loss and moves no prototype
        tracklet = np.where(batch["mask"].any(1), batch["tracklet"], -1)
        clips = to_global({"frames": batch["frames"], "mask": batch["mask"], "tracklet": tracklet}, trainer.mesh)
        what, after = ("compiling the training step", 3.0) if step == start else (f"step {step + 1}", 10.0)
        with trainer.writer.waiting(what, after):
            state, metrics = trainer.steps.train(state, clips, trainer.data.info, layout_of(batch["modality"]))
            if pending:
                log_step(trainer, *pending)
        step += 1
        pending = step, metrics
        asked = preemption.reached(step)
        within = step % options.steps_per_epoch  # at its end evaluation and refresh come before the save
        if within and (asked or save_due(trainer.config, step)):
            log_step(trainer, *pending)
            pending = None
            save(step, state)
            if asked:
                raise Preempted(step)
    if pending:
        log_step(trainer, *pending)
    return state


def epoch_batches(trainer: Trainer, state: TrainState, step: int):
    """The rest of the epoch that `step` lies in: a pure function of seed, step and the mined positives."""
    config, data, size = trainer.config, trainer.data, len(trainer.data.tracklets)
    epoch, within_epoch = divmod(step, config.train.steps_per_epoch)
    within, across = fetch((state.memory.within, state.memory.across))
    label = fetch(getattr(state.memory, "label", None))
    plan = sampling.plan_epoch(
        config.seed,
        epoch,
        data.view,
        data.modality,
        steps=config.train.steps_per_epoch,
        tracklets_per_modality=config.batch.tracklets_per_modality,
        clips_per_tracklet=config.batch.clips_per_tracklet,
        partner_share=config.batch.partner_share,
        within_index=within.index[:size],
        within_weight=within.weight[:size],
        cross_index=across.index[:size],
        cross_weight=across.weight[:size],
        eligible=None if label is None else label[:size] >= 0,
    )
    return pipeline.train_batches(
        trainer.reader,
        data.tracklets,
        plan,
        clip_length=config.batch.clip_length,
        seed=config.seed,
        epoch=epoch,
        start_step=within_epoch,
        augmentation=config.augment.to_dict(),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_workers=config.data.num_workers,
    )


def log_step(trainer: Trainer, step: int, metrics: dict[str, jax.Array]) -> None:
    """Progress line and metrics of one finished step; stops the run when its loss is not finite."""
    options, loss = trainer.config.train, float(metrics["loss"])
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss of step {step} is {loss}: lower optim.learning_rate or set "
            "optim.clip_norm, then start again in another workdir"
        )
    if due(step, options.log_every):
        trainer.writer.metrics(step, {f"train/{name}": value for name, value in jax.device_get(metrics).items()})
    clips = trainer.config.batch.tracklets_per_modality * trainer.config.batch.clips_per_tracklet * 2
    trainer.writer.progress(step, options.epochs * options.steps_per_epoch, loss=loss, clips=clips)
