"""The training loop by itself: what is computed is a stand-in that notes that it was asked for, and when."""

import numpy as np
import pytest

from hitpro_jax import train
from hitpro_jax.resume import Start
from hitpro_jax.run import Run
from hitpro_jax.steps import Steps
from tests.batches import clips_of


class Nothing:
    """A result without scores."""

    scores = ()


class Checkpoints:
    """Of no folder; `seen` gets their waits for a save."""

    def __init__(self, seen: list[tuple]):
        self._seen = seen

    def wait(self):
        self._seen.append(("wait",))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


def events(run: Run, start: int = -1, *, ended: bool = False) -> list[tuple]:
    """What the loop does, each with its step: evaluate, refresh, train, metrics, save.

    Args:
      run: of which the config alone counts.
      start: step of the checkpoint that is gone on from; -1 for none.
      ended: a shorter run ended there.
    """
    seen, training = [], run.training

    def batches(run, state, step):
        assert state == "state"
        within_epoch = step % run.options.train.steps_per_epoch
        for offset in range(run.options.train.steps_per_epoch - within_epoch):
            yield clips_of([step + offset, step + offset])

    def step(state, clips, info, layout):
        seen.append(("train", int(clips.tracklet[0])))
        return state, {"loss": np.float32(1.0)}

    def refresh(run, state, step):
        seen.append(("refresh", step))
        return state

    def evaluate(variables, step):
        seen.append(("evaluate", step))
        return Nothing()

    def restore(run, checkpoints):
        return Start(StandIn("state"), start, ended)

    def save(run, checkpoints, step, state):
        seen.append(("save", step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(run.__dict__, "training", training._replace(steps=Steps(None, step)))
        patch.setattr(run, "checkpoints", lambda: Checkpoints(seen))
        patch.setattr(run, "evaluate", evaluate)
        patch.setattr(run.workdir, "metrics", lambda step, values: seen.append(("metrics", step)))
        for function in (refresh, restore, save):
            patch.setattr(train, function.__name__, function)
        patch.setattr(train, "epoch_batches", batches)
        train.train(run)
    return seen


class StandIn(str):
    """A state."""

    variables = None
