"""The fixed bars of a finished run find what its thresholds find, and a step higher they do not."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import thresholds
from hitpro_jax import resume
from hitpro_jax.diagnostics import PREFIX
from hitpro_jax.run import open_run, read_options
from hitpro_jax.sharding import fetch
from hitpro_jax.workdir import Workdir
from tests import runs


@pytest.mark.parametrize("border", [-1.0, -0.5, 0.0, 0.123, 0.999, 1.0])
def test_the_highest_bar_that_is_enough_is_found(border):
    assert thresholds.highest(lambda bar: bar <= border) == border


def test_flags_are_those_of_a_run():
    bars = {"within": 0.618, "across": 0.55}
    assert thresholds.flags_of(bars) == ["--config.within.fixed=0.618", "--config.across.fixed=0.55"]


def test_the_config_of_a_run_of_an_earlier_release_has_todays_fields(tmp_path):
    config = runs.tiny_config("world").to_dict()
    del config["encoder"]["order"], config["init"]["run"]
    config["within"]["kappa"] = [0.25, 0.5]
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = read_options(thresholds.config_of(tmp_path))
    assert (options.encoder.order, options.init.run) == ("none", "")
    assert (options.within.kappa, options.data.root) == ((0.25, 0.5), "world")


@pytest.mark.slow
def test_bars_of_a_finished_run_find_as_much_as_its_thresholds(finished, world):
    path, _ = finished
    with Workdir(path) as workdir:
        run = open_run(runs.tiny_config(world), workdir)
        bars = thresholds.equal_bars(run)
        training = run.training
        with run.checkpoints(read_only=True) as checkpoints:
            state, _ = resume.newest(run, checkpoints)
        progress = 1.0 - 1.0 / run.options.train.epochs
        mine = jax.jit(partial(thresholds.mined, training.method))

        def found(bars):
            memory = mine(state.memory, training.data.bank_info, progress, bars)
            figures = training.describe(fetch(training.method.mined(memory)), None)
            return np.array([figures[f"{prefix}/recall_any"] for prefix in PREFIX.values()])

        wanted, step = found({}), 1 / thresholds.STEPS
        assert set(bars) == {"within", "across"}
        assert (found(bars) >= wanted).all()
        assert found({"within": bars["within"] + step})[0] < wanted[0]
        assert found(bars | {"across": bars["across"] + step})[1] < wanted[1]


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.thresholds", f"--workdir={tmp_path}"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert done.stdout == ""
    assert "holds no finished run: run it to its end first" in done.stderr
