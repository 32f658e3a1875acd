"""How a run goes on: what a checkpoint holds of its state, which ones it may take up, and what is then another run."""

from typing import NamedTuple

import jax
import numpy as np

from hitpro_jax import optim
from hitpro_jax.checkpoint import Checkpointer, Saved, Table, abstract
from hitpro_jax.data import sampling
from hitpro_jax.options import TrainOptions
from hitpro_jax.run import Run, fingerprint
from hitpro_jax.sharding import fetch
from hitpro_jax.types import PyTree, TrainState

FIRST_ORDER = 1  # of tracklets, in checkpoints that do not name theirs


class Start(NamedTuple):
    """Where the training loop begins."""

    state: TrainState  # on the devices
    step: int  # optimiser steps done; -1: the evaluation, refresh and save of step 0 are still to be done
    ended: bool = False  # a shorter run ended here, without the refresh that a longer one has


def save(run: Run, checkpoints: Checkpointer, step: int, state: TrainState) -> None:
    """Saves a state; the memory goes without the rows that fill it up for these devices.

    Args:
      run: the run.
      checkpoints: of its workdir.
      step: optimiser steps done.
      state: whose buffers may be donated afterwards.
    """
    training = run.training
    rows = len(training.data.bank_info.valid), len(training.data.tracklets)
    checkpoints.save(step, state._replace(memory=unpadded(state.memory, *rows)), meta_of(run))


def meta_of(run: Run) -> dict:
    """What belongs to a checkpoint besides arrays and config: encoder, tracklets, and the order in which they come."""
    return {
        "encoder": run.encoder_record,
        "data": fingerprint(run.training.data.tracklets),
        "order": sampling.ORDER,
    }


def unpadded(memory: PyTree, rows: int, tracklets: int) -> PyTree:
    """A memory on the host without its padding rows; every process has to call it.

    Args:
      memory: arrays on the devices; those with P rows are tables of tracklets or of at most as many classes.
      rows: P.
      tracklets: N, at most P.

    Returns:
      NumPy arrays of their own, [N, ..] instead of [P, ..].

    Choice: on the host, because N rows need not divide by the devices. Process 0 writes it.
    Cost: the memory once on every host.
    """

    def cut(array: jax.Array) -> np.ndarray:
        # a copy: on a CPU the array would be the device's own, which the next step gives away
        return np.array(fetch(array)[:tracklets] if array.shape[:1] == (rows,) else fetch(array))

    return jax.tree.map(cut, memory)


def laid_out(memory: PyTree, empty: PyTree, shardings: PyTree) -> PyTree:
    """A memory of `unpadded` on the devices, for another number of rows.

    Args:
      memory: NumPy arrays [N, ..], the same on every process.
      empty: what `Method.init` gives for P rows; the last P - N are put behind those of the memory.
      shardings: of its arrays.

    Returns:
      Arrays [P, ..].

    Cost: the memory once more on every host. Nothing goes from process to process.
    """

    def place(array: np.ndarray, empty: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
        whole = np.concatenate([array, np.asarray(empty)[len(array) :]]) if array.ndim else array
        # not device_put, which compares the arrays of all processes
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: np.asarray(whole[part]))

    return jax.tree.map(place, memory, empty, shardings)


def restore(run: Run, checkpoints: Checkpointer) -> Start:
    """The newest checkpoint, laid out for this run's devices, or step 0; drops metrics of lost steps.

    Args:
      run: whose workdir is read.
      checkpoints: of the workdir.

    Raises:
      ValueError: see `newest`.
    """
    training, found = run.training, newest(run, checkpoints)
    if found is None:
        run.workdir.rewind(-1)
        return Start(jax.device_put(training.state, training.shardings), -1)
    state, saved = found
    run.workdir.rewind(saved.step)
    run.workdir.log(f"going on from the checkpoint at step {saved.step}")
    if saved.step < run.last_step and saved.meta.get("order", FIRST_ORDER) != sampling.ORDER:
        run.workdir.log(
            "note: the checkpoint is of an earlier release, which took tracklets in another order and had some rules "
            "that are others now (CHANGELOG.md); from here on the run is as today's"
        )
    ended = False
    if run.method.trains and (line := change_of_length(run, saved)):
        run.workdir.log(line)
        ended = saved.step == planned(saved, run.options.train) < run.last_step
    return Start(state, saved.step, ended)


def newest(run: Run, checkpoints: Checkpointer) -> tuple[TrainState, Saved] | None:
    """The state of the newest checkpoint, laid out for this run's devices; None: there is none.

    Raises:
      ValueError: the checkpoint was saved with another config, on other tracklets, or has more steps than the run.
    """
    training, seen = run.training, []

    def target(saved: Saved) -> TrainState:
        require_same_tracklets(run, saved)
        require_length(run.options.train, saved.step, run.last_step)
        seen[:] = [saved]
        return stored(
            training.state, training.shardings, len(training.data.bank_info.valid), len(training.data.tracklets)
        )

    restored = checkpoints.restore_latest(target)
    if restored is None:
        return None
    state, (saved,) = restored[0], seen
    memory = laid_out(state.memory, training.state.memory, training.shardings.memory)
    return state._replace(memory=memory), saved


def stored(state: TrainState, shardings: TrainState, rows: int, tracklets: int) -> TrainState:
    """Shapes and places of what a checkpoint holds of a state.

    Args:
      state: arrays of this run's devices.
      shardings: of the state.
      rows: P of its memory.
      tracklets: N.
    """

    def table(array: jax.Array) -> Table:
        return Table((tracklets, *array.shape[1:]) if array.shape[:1] == (rows,) else array.shape, array.dtype)

    on_devices = abstract(state._replace(memory=None), shardings._replace(memory=None))
    return on_devices._replace(memory=jax.tree.map(table, state.memory))


def require_same_tracklets(run: Run, saved: Saved) -> None:
    """Refuses a checkpoint of other data; a copy that has moved is the same.

    Raises:
      ValueError: it is.
    """
    if saved.meta["data"] != fingerprint(run.training.data.tracklets):
        raise ValueError(
            f"the checkpoint in {run.workdir.path} was trained on other tracklets than those of "
            f"{run.reader.root}: restore the data, or choose another workdir"
        )


def require_length(options: TrainOptions, step: int, last: int) -> None:
    """Refuses a length that the checkpoint has passed.

    Args:
      options: of this run.
      step: of the checkpoint.
      last: of this run.

    Raises:
      ValueError: last < step.
    """
    if step > last:
        done = -(-step // options.steps_per_epoch)
        raise ValueError(
            f"train.epochs is {options.epochs}, but the checkpoint at step {step} has begun epoch {done}: give at "
            f"least {done} epochs, or choose another workdir"
        )


def planned(saved: Saved, options: TrainOptions) -> int:
    """Optimiser steps of the run that saved the checkpoint, as it was planned then."""
    return (saved.config or {}).get("train", {}).get("epochs", options.epochs) * options.steps_per_epoch


def change_of_length(run: Run, saved: Saved) -> str | None:
    """What another length changes from here on; None where it is the same."""
    options, before, now = run.options, planned(saved, run.options.train), run.options.train.steps
    if before == now:
        return None
    was, is_now = (float(np.asarray(optim.make_schedule(options.optim, n)(saved.step))) for n in (before, now))
    return (
        f"note: train.epochs is {options.train.epochs}, and was {before // options.train.steps_per_epoch}: the "
        f"learning rate of the next step is {is_now:.3g} instead of {was:.3g} (optim.schedule={options.optim.schedule} "
        f"over {now} steps), and progress, which thresholds and weights of the loss follow, is "
        f"{saved.step / now:.2f} instead of {saved.step / before:.2f}; this is not the run that would have had "
        f"{options.train.epochs} epochs from the start"
    )
