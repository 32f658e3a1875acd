"""The order of the training loop: what happens at which step, from the start and from a checkpoint."""

import pytest

from hitpro_jax.models.backbones import BACKBONES
from tests.wiring import loop, tiny

GIVEN = {
    "train.epochs": 3,
    "train.steps_per_epoch": 4,
    "train.eval_every": 2,
    "train.save_every": 2,
    "train.save_steps": 3,
    "train.log_every": 5,
}


@pytest.fixture
def events(tmp_path, monkeypatch):
    """The events of the loop from a step on."""
    monkeypatch.setitem(BACKBONES, "tiny", tiny.backbone())
    root = tiny.write_folder(tmp_path / "noise")

    def seen(start: int = -1, ended: bool = False, **given) -> list[tuple]:
        with tiny.opened(tmp_path / "run", {"data.root": root, **GIVEN, **given}) as run:
            return loop.events(run, start, ended=ended)

    return seen


def train(first: int, last: int) -> list[tuple]:
    """Batches of the steps, by the number of the step before them."""
    return [("train", step) for step in range(first, last)]


def test_a_whole_run(events):
    assert events() == [
        ("evaluate", 0),
        ("refresh", 0),
        ("save", 0),
        ("wait",),  # a fault of saving is known before an epoch is trained
        *train(0, 3),
        ("save", 3),
        ("train", 3),
        ("refresh", 4),
        ("train", 4),
        ("train", 5),
        # logged while the next one runs, and before a save
        ("metrics", 5),
        ("save", 6),
        *train(6, 8),
        ("evaluate", 8),
        ("refresh", 8),
        ("save", 8),
        *[("train", 8), ("save", 9), ("train", 9), ("train", 10), ("metrics", 10), ("train", 11)],
        ("evaluate", 12),
        ("save", 12),
    ]


def test_a_run_goes_on_within_an_epoch(events):
    assert events(6)[:5] == [*train(6, 8), ("evaluate", 8), ("refresh", 8), ("save", 8)]


def test_a_run_goes_on_at_the_start_of_an_epoch_without_doing_its_evaluation_and_refresh_again(events):
    assert events(8)[:2] == [("train", 8), ("save", 9)]


def test_a_finished_run_that_becomes_longer_is_refreshed_first_and_not_evaluated_again(events):
    assert events(8, ended=True)[:3] == [("refresh", 8), ("save", 8), ("train", 8)]


def test_a_finished_run_is_only_evaluated(events):
    assert events(12) == [("evaluate", 12)]


def test_the_first_and_the_last_step_are_evaluated_whatever_the_config_says(events):
    given = {"train.eval_every": 0, "train.save_every": 0, "train.save_steps": 0, "train.log_every": 0}
    happened = events(**given)
    assert [event for event in happened if event[0] not in ("train", "refresh")] == [
        ("evaluate", 0),
        ("evaluate", 12),
        ("save", 12),
    ]
    assert [step for name, step in happened if name == "refresh"] == [0, 4, 8]
    assert [step for name, step in happened if name == "train"] == list(range(12))


def test_a_method_that_does_not_train_is_evaluated_and_saved(events):
    assert events(**{"method.name": "frozen"}) == [("evaluate", 0), ("save", 0), ("wait",)]
