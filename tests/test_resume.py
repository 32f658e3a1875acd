"""Going on: padding comes and goes; what another release, length or data set means for a checkpoint."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from hitpro_jax import legacy, resume
from hitpro_jax import run as runs
from hitpro_jax.data import sampling
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.options import LossOptions, TrainOptions, flat
from tests.runs import REPO
from tests.settings import changed
from tests.wiring import tiny

ROWS = (32, 33, 36)  # of a bank of 24 tracklets on one, on three and on four devices, say


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    return tiny.write_folder(tmp_path_factory.mktemp("noise") / "folder")


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setattr(runs, "BANK_MULTIPLE", ROWS[0])
    monkeypatch.setitem(BACKBONES, "tiny", tiny.backbone())


@pytest.fixture
def opened(root, tmp_path):
    """Opens a run on noise in a workdir of this test."""
    return lambda name="run", **given: tiny.opened(tmp_path / name, {"data.root": root, **given})


def marked(run):
    """The state at step 0 with numbers in every array that are all different; padding rows stay as they are."""
    count = len(run.training.data.tracklets)

    def fill(array):
        array = np.array(array)
        rows = array[:count] if array.ndim else array
        rows[...] = (np.arange(rows.size) % 100).reshape(rows.shape).astype(array.dtype)
        return array

    state = jax.tree.map(fill, run.training.state)
    return jax.device_put(state, run.training.shardings)


def saved(run, step: int = 4) -> None:
    """A checkpoint of `marked` in the run's workdir."""
    with run.checkpoints() as checkpoints:
        resume.save(run, checkpoints, step, marked(run))


def gone_on(run) -> resume.Start:
    with run.checkpoints() as checkpoints:
        return resume.restore(run, checkpoints)


def log(run) -> str:
    return (run.workdir.path / "log.txt").read_text()


# ------------------------------------------------------------------------------------------------- any devices


@pytest.mark.parametrize("method", ["hitpro", "cap", "supervised"])
@pytest.mark.parametrize("rows", ROWS)
def test_checkpoints_hold_no_padding_and_are_taken_up_with_any(opened, monkeypatch, method, rows):
    with opened(**{"method.name": method}) as run:
        saved(run)
        (folder,) = (run.workdir.path / "checkpoints").glob("4/record/metadata")
        leaves = json.loads(json.loads(folder.read_text())["text"])["leaves"]
        assert not [name for name, kind in leaves.items() if f"[{ROWS[0]}" in kind]
        assert leaves[".memory.prototypes"] == f"float32[{tiny.TRACKLETS}, {tiny.DIM}]"
    monkeypatch.setattr(runs, "bank_rows", lambda tracklets, mesh: rows)
    with opened(**{"method.name": method}) as run:
        state, step, ended = gone_on(run)
        assert (step, ended) == (4, False)
        for array, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(marked(run)), strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)
        assert len(state.memory.prototypes) == rows


def test_a_checkpoint_of_an_earlier_release_holds_padding_and_is_taken_up_too(opened, monkeypatch):
    with opened() as run, run.checkpoints() as checkpoints:
        checkpoints.save(4, marked(run), resume.meta_of(run))
    monkeypatch.setattr(runs, "bank_rows", lambda tracklets, mesh: 27)
    with opened() as run:
        memory = gone_on(run).state.memory
        assert len(memory.prototypes) == 27
        for array, wanted in zip(jax.tree.leaves(memory), jax.tree.leaves(marked(run).memory), strict=True):
            np.testing.assert_array_equal(array, wanted)


def test_what_is_saved_is_not_the_devices_own_array():
    """The next step gives its buffers away while the checkpoint is being written."""
    array = jax.numpy.arange(6.0)
    for rows in (6, 9):  # a table, and another array
        assert not np.shares_memory(resume.unpadded(array, rows, 6), np.asarray(array))


SEVERAL = """
import sys, shutil
from pathlib import Path
import jax
from hitpro_jax import run as runs, train
from hitpro_jax.workdir import Workdir
from tests.runs import tiny_config, tiny_encoder

runs.make_encoder = tiny_encoder
world, folder = sys.argv[1], Path(sys.argv[2])
fields = {"optim.name": "sgd", "optim.learning_rate": 0.002, "batch.tracklets_per_modality": 30, "batch.clip_length": 1}
fields["mesh.cut_parameters"] = True
for devices in (8, 1, 2, 3, 5, 6):
    workdir = folder / str(devices)
    if devices < 8:
        shutil.copytree(folder / "8", workdir)
        shutil.rmtree(workdir / "checkpoints" / "8")
    with Workdir(workdir) as files:
        result = train.train(runs.open_run(tiny_config(world, **fields), files, jax.devices()[:devices]))
        files.result(result)
"""


@pytest.mark.slow
def test_a_run_of_eight_devices_goes_on_with_any_other_number(world, tmp_path):
    """120 clips a step, which all of them divide; real processes: tests/end_to_end/test_processes.py."""
    from tests.end_to_end.test_processes import assert_same_run

    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, world, str(tmp_path)],
        cwd=REPO,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for devices in (1, 2, 3, 5, 6):
        text = (tmp_path / str(devices) / "log.txt").read_text()
        assert f"devices: {devices} x cpu" in text
        assert "going on from the checkpoint at step 6" in text
        assert_same_run(tmp_path / str(devices), tmp_path / "8")


# -------------------------------------------------------------------------------------------- other releases


@pytest.fixture
def one_more_field(monkeypatch):
    """A later release, whose section `loss` has one more field, `later`, of default 7."""
    defaults = runs.defaults

    def later():
        config = defaults()
        config["loss"]["later"] = 7
        return config

    monkeypatch.setattr(runs, "defaults", later)

    def of(run, value):
        run.record["loss"]["later"] = value
        return run

    return of


def test_a_run_goes_on_where_a_later_release_has_one_more_field(opened, one_more_field):
    with opened() as run:
        saved(run)
    with opened() as run:
        assert gone_on(one_more_field(run, 7)).step == 4
        saved(run, 5)  # with the field
    with opened() as run:
        assert gone_on(one_more_field(run, 7)).step == 5


def test_another_value_of_the_new_field_is_refused_with_both(opened, one_more_field):
    with opened() as run:
        saved(run)
    with opened() as run, pytest.raises(ValueError, match=r"another config \(loss.later: saved 7, now 8\)"):
        gone_on(one_more_field(run, 8))


def test_a_field_whose_default_changes_a_run_stands_in_a_list_with_the_value_of_before(
    opened, one_more_field, monkeypatch
):
    monkeypatch.setitem(legacy.ADDED_FIELDS, "loss.later", 0)
    with opened() as run:
        saved(run)
    with opened() as run, pytest.raises(ValueError, match="loss.later: saved 0, now 7"):
        gone_on(one_more_field(run, 7))
    with opened() as run:
        assert gone_on(one_more_field(run, 0)).step == 4


def test_sections_and_encoder_fields_that_came_later_are_taken_at_their_defaults(opened):
    with opened() as run:
        del run.record["cap"], run.record["data"]["regdb"], run.record["encoder"]["remat"]
        saved(run)
    with opened() as run:
        assert run.trained_variables()[1] == 4
        assert gone_on(run).step == 4


def test_a_field_that_is_gone_must_have_had_the_value_of_today(opened, monkeypatch):
    with opened() as run:
        run.record["loss"]["before"] = 3
        saved(run)
    with opened() as run, pytest.raises(ValueError, match="loss.before: saved 3, now nothing"):
        gone_on(run)
    for value, fits in ((2, False), (3, True)):
        monkeypatch.setitem(legacy.REMOVED_FIELDS, "loss.before", value)
        with opened() as run:
            if fits:
                assert gone_on(run).step == 4
            else:
                with pytest.raises(ValueError, match="loss.before"):
                    gone_on(run)


def test_every_listed_field_is_one_of_today_or_none():
    known = set(flat(runs.defaults()))
    assert legacy.ADDED_FIELDS.keys() <= known
    assert not legacy.REMOVED_FIELDS.keys() & known


def test_defaults_are_the_config_of_base():
    assert runs.defaults() == changed("base").to_dict()
    assert runs.defaults()["loss"]["alpha"] == LossOptions().alpha


def test_another_order_of_tracklets_is_said(opened, monkeypatch):
    with opened() as run:
        saved(run)
        gone_on(run)
        assert "another order" not in log(run)
    monkeypatch.setattr(sampling, "ORDER", sampling.ORDER + 1)
    with opened() as run:
        assert gone_on(run).step == 4
        assert "note: the checkpoint is of an earlier release, which took tracklets in another order" in log(run)


def test_a_checkpoint_that_names_no_order_is_of_the_first(opened, monkeypatch):
    meta_of = resume.meta_of
    monkeypatch.setattr(resume, "meta_of", lambda run: {n: v for n, v in meta_of(run).items() if n != "order"})
    with opened() as run:
        saved(run)
        gone_on(run)
        assert ("another order" in log(run)) == (sampling.ORDER > resume.FIRST_ORDER)


# ------------------------------------------------------------------------------------------------------ length


@pytest.mark.parametrize(("step", "ended"), [(4, True), (3, False)])
def test_a_longer_run_goes_on_and_says_what_changes(opened, step, ended):
    fields = {"optim.schedule": "cosine", "optim.learning_rate": 0.1}
    with opened(**{"train.epochs": 2}, **fields) as run:
        saved(run, step)
    with opened(**{"train.epochs": 3}, **fields) as run:
        start = gone_on(run)
        assert (start.step, start.ended) == (step, ended)
        (line,) = [line for line in log(run).splitlines() if "train.epochs" in line]
    if ended:
        # a warm-up of one step: half a cosine from step 1 to 6, and to 4
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * 3 / 5))
        assert line == (
            f"note: train.epochs is 3, and was 2: the learning rate of the next step is {rate:.3g} instead of 0 "
            "(optim.schedule=cosine over 6 steps), and progress, which thresholds and weights of the loss follow, is "
            "0.67 instead of 1.00; this is not the run that would have had 3 epochs from the start"
        )


def test_a_shorter_run_goes_on_as_long_as_it_is_not_past_its_end(opened):
    with opened(**{"train.epochs": 4}) as run:
        saved(run, 4)
    with opened(**{"train.epochs": 2}) as run:
        assert gone_on(run)[1:] == (4, False)
    sentence = "train.epochs is 1, but the checkpoint at step 4 has begun epoch 2: give at least 2 epochs"
    with opened(**{"train.epochs": 1}) as run, pytest.raises(ValueError, match=sentence):
        gone_on(run)


def test_the_same_length_says_nothing(opened):
    with opened() as run:
        saved(run)
        assert gone_on(run)[1:] == (4, False)
        assert "train.epochs" not in log(run)


def test_a_length_that_is_not_over_is_not_refused():
    resume.require_length(TrainOptions(epochs=2, steps_per_epoch=4), 8, 8)


def test_other_tracklets_are_refused_before_arrays_are_compared(opened, root):
    with opened() as run:
        saved(run)
    shutil.copytree(root, f"{root}.less")
    (tiny.Path(root + ".less") / "tracklets.csv").write_text((tiny.Path(root) / "fewer.csv").read_text())
    with (
        opened(**{"data.root": f"{root}.less"}) as run,
        pytest.raises(ValueError, match="was trained on other tracklets than those of"),
    ):
        gone_on(run)
