"""Workdirs of earlier releases: their configs and checkpoints are read under today's names."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from configs import base
from hitpro_jax import checkpoint, legacy, sharding
from hitpro_jax.checkpoint import config_differences
from hitpro_jax.run import read_options


class Before(NamedTuple):
    """Fields of a baseline's memory as an earlier release named them."""

    owner: np.ndarray
    kin: np.ndarray


class Now(NamedTuple):
    scope: np.ndarray
    same_person: np.ndarray


class State(NamedTuple):
    params: dict
    memory: Before | Now


CONFIG = {"seed": 3, "data": {"root": "", "preset": "tiny", "camera_seed": 4, "trial": 2}}


def test_a_checkpoint_of_earlier_names_is_restored(tmp_path):
    arrays = np.arange(3.0), np.arange(6).reshape(3, 2)
    before = State({"method": {"centre": np.ones((2, 2))}}, Before(*arrays))
    with checkpoint.Checkpointer(tmp_path, config=CONFIG) as checkpoints:
        checkpoints.save(5, jax.tree.map(jax.numpy.asarray, before), {"epoch": 1})
    now = State({"method": {"proxies": np.zeros((2, 2))}}, Now(*(np.zeros_like(array) for array in arrays)))
    target = checkpoint.abstract(jax.tree.map(jax.numpy.asarray, now), sharding.replicated(sharding.make_mesh()))
    today = legacy.upgraded(CONFIG)
    with checkpoint.Checkpointer(tmp_path, config=today, log=pytest.fail) as checkpoints:
        state, meta, step = checkpoints.restore_latest(target)
    assert (meta, step) == ({"epoch": 1}, 5)
    np.testing.assert_array_equal(state.memory.scope, arrays[0])
    np.testing.assert_array_equal(state.memory.same_person, arrays[1])
    assert state.params["method"]["proxies"].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_another_value_under_an_earlier_name_is_still_refused(tmp_path):
    with checkpoint.Checkpointer(tmp_path, config=CONFIG) as checkpoints:
        checkpoints.save(5, {"x": jax.numpy.zeros(1)}, {})
    other = legacy.upgraded({**CONFIG, "data": {**CONFIG["data"], "preset": "small"}})
    target = checkpoint.abstract({"x": jax.numpy.zeros(1)}, sharding.replicated(sharding.make_mesh()))
    with (
        checkpoint.Checkpointer(tmp_path, config=other) as checkpoints,
        pytest.raises(ValueError, match="data.synthetic.preset: saved tiny, now small"),
    ):
        checkpoints.restore_latest(target)


def test_every_renamed_field_is_a_field_of_today():
    """The config of the release before the renames, at its defaults, is today's, but for the trials that are scored."""
    config = base.get_config().to_dict()
    old = {**config, "data": dict(config["data"])}
    for before, (after, *_) in legacy.RENAMED_FIELDS.items():
        _, section, field = after.split(".")
        old["data"][before.removeprefix("data.")] = config["data"][section][field]
    for section in {names[0].split(".")[1] for names in legacy.RENAMED_FIELDS.values()}:
        old["data"].pop(section, None)
    trials = "data.sysu_mm01.trial", "data.sysu_mm01.shots", "data.llcm.trial"
    assert config_differences(legacy.upgraded(old), config, trials) == []
    assert read_options(base.get_config()).seed == 0


def test_fields_that_came_later_are_filled_in_and_sections_of_ones_own_stay():
    saved = {"seed": 3, "data": {"cameras": {"one": {"camid": 1}}}}
    now = {"seed": 0, "data": {"cameras": {}, "root": ""}, "cap": {"k1": 20}}
    filled = {"seed": 3, "data": {"cameras": {"one": {"camid": 1}}, "root": ""}, "cap": {"k1": 20}}
    assert legacy.completed(saved, now) == filled
    assert legacy.completed({}, now) == now
    assert saved == {"seed": 3, "data": {"cameras": {"one": {"camid": 1}}}}


def test_the_trial_was_that_of_the_runs_own_data_set():
    data = legacy.upgraded({"data": {"name": "llcm", "trial": 4}})["data"]
    assert data == {"name": "llcm", "regdb": {"trial": 1}, "sysu_mm01": {"trial": 1}, "llcm": {"trial": 4}}


def test_a_config_of_today_stays_as_it_is():
    config = base.get_config().to_dict()
    assert legacy.upgraded(config) == config
