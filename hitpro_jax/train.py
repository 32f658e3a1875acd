"""The training loop: evaluate, refresh, save, contrast. Read from the top."""

import math
import sys
from collections.abc import Callable, Iterator
from functools import partial

import jax

from hitpro_jax import diagnostics, evaluate
from hitpro_jax.checkpoint import require_writable
from hitpro_jax.data import pipeline, sampling
from hitpro_jax.distributed import Preempted, Preemption
from hitpro_jax.encode import UnreadableCounter, embed_all, layout_of
from hitpro_jax.options import TrainOptions
from hitpro_jax.resume import restore, save
from hitpro_jax.run import CHECKPOINTS, Run
from hitpro_jax.scoring.result import Result
from hitpro_jax.sharding import fetch, pad_rows, to_global
from hitpro_jax.types import Clips, TrainState


def train(run: Run) -> Result:
    """Trains until the last step, going on from the workdir's newest checkpoint; returns the final result.

    Args:
      run: of `open_run`.

    Raises:
      ValueError: faulty data, a checkpoint of another config, or a batch that does not fit the devices.
      SaveError: checkpoints cannot be written.
      FloatingPointError: the loss is not finite; the message names the step.
      Preempted: SIGTERM came; the state is saved.
    """
    workdir, options, last = run.workdir, run.options.train, run.last_step
    mesh = run.mesh
    workdir.log(f"devices: {mesh.size} x {mesh.devices.flat[0].device_kind}, processes: {jax.process_count()}")
    require_writable(workdir.path / CHECKPOINTS)
    run.require_fit()
    _ = run.reader  # opened first, so that a packed cache that does not fit is refused before anything is compiled
    _ = run.training
    with workdir.exclusive(), Preemption() as preemption, run.checkpoints() as checkpoints:
        keep = partial(save, run, checkpoints)
        state, step, ended = restore(run, checkpoints)
        if step < last:  # a finished run keeps the record of what trained it
            workdir.config(run.record)
            workdir.environment(sys.argv)
        if ended:
            state = refresh(run, state, step)
            keep(step, state)
        # fresh: this step's evaluation, refresh and save are still to be done
        result, fresh = None, step < 0
        step = max(step, 0)
        while True:
            epoch = step // options.steps_per_epoch
            if fresh and (step in (0, last) or due(epoch, options.eval_every)):
                result = run.evaluate(state.variables, step)
                evaluate.log(result, workdir)
            if fresh and step < last:
                state = refresh(run, state, step)
            leave = preemption.asked and step < last
            if fresh and (leave or step == last or save_due(options, step)):
                keep(step, state)
                if step == 0:
                    checkpoints.wait()  # a fault of saving is known before an epoch is trained
            if leave:
                raise Preempted(step)
            if step == last:
                break
            state = contrast(run, state, step, keep, preemption)
            step, fresh = (epoch + 1) * options.steps_per_epoch, True
    # no result: the run was killed between its last save and here, or had finished before
    return result or run.evaluate(state.variables, last)


def due(count: int, every: int) -> bool:
    """Whether something that happens every so often is due; 0 means never."""
    return every > 0 and count % every == 0


def save_due(options: TrainOptions, step: int) -> bool:
    """Whether `save_every` epochs or `save_steps` steps end with `step`.

    >>> options = TrainOptions(steps_per_epoch=4, save_every=2, save_steps=3)
    >>> [step for step in range(14) if save_due(options, step)]
    [0, 3, 6, 8, 9, 12]
    """
    epoch, within_epoch = divmod(step, options.steps_per_epoch)
    ends_epochs = within_epoch == 0 and due(epoch, options.save_every)
    return ends_epochs or (step > 0 and due(step, options.save_steps))


def refresh(run: Run, state: TrainState, step: int) -> TrainState:
    """Embeds every training tracklet, builds prototypes and mines positives; logs what was found.

    Args:
      run: the run.
      state: whose buffers are donated.
      step: optimiser steps done.
    """
    training, workdir, parts_of = run.training, run.workdir, run.options.prototypes.parts
    rows, batches = len(training.data.bank_info.valid), UnreadableCounter(part_batches(run))
    with workdir.waiting("embedding all tracklets and mining") as wait:
        embed = wait.counting(run.embed, len(training.data.tracklets) * parts_of)
        parts, mask = embed_all(embed, state.variables, batches, rows, parts_of, run.mesh)
        if unreadable := batches.total():
            workdir.log(f"left out: {unreadable} frames that cannot be read")
        # fetched before the refresh, which donates these buffers
        before = fetch(training.method.mined(state.memory)) if step > 0 else None
        state = training.steps.refresh(state, *to_global((parts, mask), run.mesh), training.data.bank_info)
        mined = fetch(training.method.mined(state.memory))
        figures = training.describe(mined, before)
    workdir.metrics(step, figures)
    workdir.log(f"epoch {step // run.options.train.steps_per_epoch + 1}: {diagnostics.summary(figures)}")
    for line in training.method.warnings(mined, training.data.info):
        workdir.log(line)
    return state


def part_batches(run: Run) -> Iterator[Clips]:
    """This process's clips of a refresh, `prototypes.batch_size` of all at once, rounded up to suit the devices."""
    options, data = run.options.prototypes, run.training.data
    return pipeline.part_clips(
        run.reader,
        data.tracklets,
        parts=options.parts,
        clip_length=options.clip_length,
        batch_size=pad_rows(options.batch_size, run.mesh),
        rows=len(data.bank_info.valid),
        reading=run.reading,
    )


def contrast(run: Run, state: TrainState, step: int, save: Callable, preemption: Preemption) -> TrainState:
    """Optimiser steps from `step` to the end of its epoch; metrics are fetched while the next step runs.

    Args:
      run: the run.
      state: whose buffers are donated.
      step: optimiser steps done.
      save: (step, state), for saves within the epoch.
      preemption: asked after every step.

    Raises:
      Preempted: SIGTERM came; the state is saved.
    """
    training, pending, start = run.training, None, step
    for batch in epoch_batches(run, state, step):
        clips, layout = to_global(batch, run.mesh), layout_of(batch.modality)
        what, after = ("compiling the training step", 3.0) if step == start else (f"step {step + 1}", 10.0)
        with run.workdir.waiting(what, after):
            state, metrics = training.steps.train(state, clips, training.data.bank_info, layout)
            if pending:
                log_step(run, *pending)
        step += 1
        pending = step, metrics
        asked = preemption.reached(step)
        within_epoch = step % run.options.train.steps_per_epoch
        # at the end of an epoch evaluation and refresh come before the save
        if within_epoch and (asked or save_due(run.options.train, step)):
            log_step(run, *pending)
            pending = None
            save(step, state)
            if asked:
                raise Preempted(step)
    if pending:
        log_step(run, *pending)
    return state


def epoch_batches(run: Run, state: TrainState, step: int) -> Iterator[Clips]:
    """The rest of the epoch that `step` lies in: a pure function of seed, step and the mined positives."""
    options, data, size = run.options, run.training.data, len(run.training.data.tracklets)
    epoch, within_epoch = divmod(step, options.train.steps_per_epoch)
    # the bank stays on its devices: the plan needs the tables alone
    mined = run.training.method.mined(state.memory)
    within, across, label = fetch(
        ((mined.within.index, mined.within.weight), (mined.across.index, mined.across.weight), mined.label)
    )
    partners = sampling.Partners(*(table[:size] for table in (*within, *across)))
    plan = sampling.plan_epoch(
        options.seed,
        epoch,
        data.info.view,
        data.info.modality,
        steps=options.train.steps_per_epoch,
        batch=options.batch,
        partners=partners,
        eligible=None if label is None else label[:size] >= 0,
    )
    return pipeline.train_batches(
        run.reader,
        data.tracklets,
        plan,
        clip_length=options.batch.clip_length,
        seed=options.seed,
        epoch=epoch,
        start_step=within_epoch,
        augmentation=options.augment,
        reading=run.reading,
    )


def log_step(run: Run, step: int, metrics: dict[str, jax.Array]) -> None:
    """Progress line and metrics of one finished step; stops the run when its loss is not finite.

    Raises:
      FloatingPointError: it is not.
    """
    options, loss = run.options.train, float(metrics["loss"])
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss of step {step} is {loss}: lower optim.learning_rate or set "
            "optim.clip_norm, then start again in another workdir"
        )
    if due(step, options.log_every):
        run.workdir.metrics(step, {f"train/{name}": value for name, value in jax.device_get(metrics).items()})
    run.workdir.progress(step, options.steps, loss=loss, clips=run.options.batch.clips)
