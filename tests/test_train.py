"""The training loop's pure functions: when something is due, and what is logged of a step. Runs: tests/end_to_end/."""

from types import SimpleNamespace

import numpy as np
import pytest

from hitpro_jax import train
from hitpro_jax.options import BatchOptions, TrainOptions


@pytest.mark.parametrize(("every", "counts"), [(0, []), (1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (9, [0])])
def test_something_is_due_every_so_often_and_never_for_0(every, counts):
    assert [count for count in range(7) if train.due(count, every)] == counts


@pytest.mark.parametrize(
    ("save_every", "save_steps", "steps"),
    [(1, 0, [0, 4, 8, 12]), (2, 0, [0, 8]), (0, 5, [5, 10]), (2, 3, [0, 3, 6, 8, 9, 12]), (0, 0, [])],
)
def test_saves_are_due_by_epochs_and_by_steps(save_every, save_steps, steps):
    options = TrainOptions(steps_per_epoch=4, save_every=save_every, save_steps=save_steps)
    assert [step for step in range(13) if train.save_due(options, step)] == steps


class Log:
    """A workdir that keeps what it is given."""

    def __init__(self):
        self.lines, self.shown = [], []

    def metrics(self, step, values):
        self.lines.append((step, values))

    def progress(self, step, total, *, loss, clips):
        self.shown.append((step, total, loss, clips))


def run_of(**fields) -> SimpleNamespace:
    options = SimpleNamespace(
        train=TrainOptions(epochs=2, steps_per_epoch=10, **fields), batch=BatchOptions(tracklets_per_modality=3)
    )
    return SimpleNamespace(options=options, workdir=Log())


def test_a_step_shows_its_loss_and_some_are_logged():
    run, metrics = run_of(log_every=2), {"loss": np.float32(0.5), "intra": np.float32(0.25)}
    for step in (1, 2, 3, 4):
        train.log_step(run, step, metrics)
    assert run.workdir.lines == [(step, {"train/loss": 0.5, "train/intra": 0.25}) for step in (2, 4)]
    assert run.workdir.shown == [(step, 20, 0.5, 12) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_refused_with_its_step_before_it_is_logged(loss):
    run = run_of(log_every=1)
    with pytest.raises(FloatingPointError, match=f"the loss of step 7 is {loss}: lower optim.learning_rate or set"):
        train.log_step(run, 7, {"loss": np.float32(loss)})
    assert run.workdir.lines == run.workdir.shown == []
