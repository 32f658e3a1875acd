"""Every baseline through the whole loop on a tiny world: ids, resume, devices, and who may see labels."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hitpro_jax import distributed, train
from hitpro_jax import run as runs
from hitpro_jax.commands import check
from hitpro_jax.data import opening
from hitpro_jax.data.records import anonymise
from hitpro_jax.methods import registry
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.scoring.result import HEADLINE
from tests.end_to_end.test_train import renumbered
from tests.runs import EPOCHS, STEPS, checksums, evaluated, lines, opened, run, tiny_config
from tests.wiring import tiny

UNSUPERVISED = [name for name in registry.METHODS if name not in ("hitpro", "supervised")]
TERMS = {
    "cluster_contrast": {"cluster"},
    "adca": {"cluster"},
    "pgm": {"cluster", "cross"},
    "cap": {"intra", "inter"},
    "sdcl": {"cluster", "within", "across"},
    "supervised": {"identity", "triplet"},
}
# few tracklets, and every part of a method from the first step on
SMALL = {
    "clusters.k1": 4,
    "clusters.k2": 2,
    "clusters.min_samples": 2,
    "clusters.eps": 0.7,
    "cap.k1": 4,
    "cap.eps": 0.7,
    "adca.begin": 0.0,
    "adca.similarity": 0.3,
    "pgm.begin": 0.0,
    "cap.begin": 0.0,
    "sdcl.begin": 0.0,
    "train.eval_every": 0,
    "loss.frame": 0.0,
}


pytestmark = pytest.mark.usefixtures("stems_alone")


def config_of(world, name: str, **overrides):
    return tiny_config(world, **SMALL, **overrides, **{"method.name": name})


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """An uninterrupted run of each method: its workdir and result; made when first asked for."""
    done = {}

    def of(name: str) -> tuple[Path, dict]:
        if name not in done:
            workdir = tmp_path_factory.mktemp(name)
            done[name] = workdir, run(config_of(world, name), workdir)
        return done[name]

    return of


@pytest.mark.parametrize("name", TERMS)
def test_a_baseline_trains_and_is_scored(finished, name):
    workdir, result = finished(name)
    metrics = lines(workdir)
    assert result["step"] == STEPS * EPOCHS
    assert set(result["i2v"]) == set(HEADLINE)
    steps = [m for m in metrics if "train/loss" in m]
    assert {key.removeprefix("train/") for key in steps[0]} == TERMS[name] | {"step", "loss", "grad_norm"}
    losses = [m["train/loss"] for m in steps]
    assert len(losses) == STEPS * EPOCHS
    assert all(0 < loss < np.inf for loss in losses)
    assert all(max(m[f"train/{term}"] for m in steps) > 0 for term in TERMS[name])
    refreshes = [m for m in metrics if "clusters/number" in m]
    assert [m["step"] for m in refreshes] == [0, STEPS]
    assert refreshes[0]["clusters/number"] >= 2
    for m in refreshes:
        found = m["align/within/precision"], m["align/cross/precision"], m["clusters/purity"]
        assert (found == (1.0, 1.0, 1.0)) == (name == "supervised")
        assert max(found) > 0
        assert (m["align/cross/per_tracklet"] > 0) == (name in ("adca", "pgm", "sdcl", "supervised"))


def test_frozen_is_the_encoder_before_training(finished):
    workdir, result = finished("frozen")
    other = lines(finished("cap")[0])[0]
    assert result["step"] == 0
    assert not any("train/loss" in m for m in lines(workdir))
    for direction in ("i2v", "v2i"):
        assert {name: result[direction][name] for name in HEADLINE} == {
            name: other[f"eval/{direction}/{name}"] for name in HEADLINE
        }


def stop_at(step: int, monkeypatch):
    class Asked(distributed.Preemption):
        def reached(self, reached: int) -> bool:
            self.asked = reached == step
            return self.asked

    monkeypatch.setattr(train, "Preemption", Asked)


@pytest.fixture(scope="module")
def renumbered_world(world, tmp_path_factory) -> str:
    """The same world with every training person under another's number, on disk and in every list."""
    return renumbered(world, tmp_path_factory.mktemp("renumbered") / "world")


def scatter_persons(monkeypatch):
    """Tracklets of one person are no longer of one: nothing that reads ids can come out the same."""
    load = opening.load

    def scrambled(data, own):
        dataset, protocol = load(data, own)
        records = tuple(replace(r, pid=(7 * i) % 5) for i, r in enumerate(dataset.train))
        return replace(dataset, train=records), protocol

    monkeypatch.setattr(opening, "load", scrambled)


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_other_ids_and_an_interruption_change_no_trained_number(
    finished, renumbered_world, tmp_path, monkeypatch, name
):
    """Person ids replaced everywhere, the run stopped within an epoch and gone on with: the same to the bit."""
    workdir, result = finished(name)
    scatter_persons(monkeypatch)
    if name != "frozen":
        stop_at(STEPS + 1, monkeypatch)
        with pytest.raises(distributed.Preempted):
            run(config_of(renumbered_world, name), tmp_path)
        monkeypatch.setattr(train, "Preemption", distributed.Preemption)
    assert run(config_of(renumbered_world, name), tmp_path) == result
    if name == "frozen":
        return
    assert checksums(tmp_path) == checksums(workdir)
    judged = [[m["clusters/purity"] for m in lines(w) if "clusters/purity" in m] for w in (tmp_path, workdir)]
    assert len(judged[0]) == len(judged[1]) == EPOCHS
    assert judged[0] != judged[1]
    clean = [[{k: v for k, v in m.items() if k.startswith("train/")} for m in lines(w)] for w in (tmp_path, workdir)]
    assert clean[0] == clean[1]


def test_supervised_goes_on_where_it_was_stopped(finished, world, tmp_path, monkeypatch):
    workdir, result = finished("supervised")
    stop_at(STEPS + 1, monkeypatch)
    with pytest.raises(distributed.Preempted):
        run(config_of(world, "supervised"), tmp_path)
    monkeypatch.setattr(train, "Preemption", distributed.Preemption)
    assert run(config_of(world, "supervised"), tmp_path) == result
    assert checksums(tmp_path) == checksums(workdir)


def test_a_checkpoint_with_parameters_of_the_methods_own_is_scored(finished, world):
    workdir, result = finished("supervised")
    again = evaluated(config_of(world, "supervised"), workdir)
    for direction in ("i2v", "v2i"):
        assert again[direction] == pytest.approx(result[direction])


def test_another_method_does_not_go_on_with_a_checkpoint(finished, world):
    with pytest.raises(ValueError, match="method.name: saved cap, now pgm"):
        run(config_of(world, "pgm"), finished("cap")[0])


def test_only_supervised_is_given_person_ids(world, tmp_path, monkeypatch):
    seen = {}

    def spy(options, setting):
        seen[options.method.name] = setting.identities
        return registry.make_method(options, setting)

    monkeypatch.setattr(runs, "make_method", spy)
    for name in registry.METHODS:
        with opened(config_of(world, name), tmp_path / name) as run:
            assert run.training.state.step == 0
    assert {name for name, labels in seen.items() if labels is not None} == {"supervised"}
    labels = seen["supervised"]
    _, pids = anonymise(run.dataset.train, run.options.seed)
    same = pids[:, None] == pids
    assert ((labels[: len(pids), None] == labels[: len(pids)]) == same).all()
    assert (labels[len(pids) :] == -1).all()


def test_check_runs_a_baseline_and_has_nothing_to_say_of_frozen(world, tmp_path):
    with opened(config_of(world, "pgm"), tmp_path) as run:
        figures = check.check(run)
    assert figures["step GFLOP"] > 0
    assert "refresh seconds" not in figures
    with opened(config_of(world, "frozen"), tmp_path) as run, pytest.raises(ValueError, match="frozen takes no step"):
        check.check(run)


DEVICES = """
import sys
from pathlib import Path
import jax, pytest
from hitpro_jax import run
from tests.end_to_end import test_baselines_run as this
from tests.runs import tiny_encoder
assert jax.device_count() == 2
run.make_encoder = tiny_encoder
this.run(this.config_of(sys.argv[1], "pgm"), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_devices_find_what_one_does(finished, world, tmp_path):
    """A baseline's memory is copied to all devices, its clips are cut."""
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, world, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    workdir, _ = finished("pgm")
    names = "train/loss", "clusters/number", "align/cross/per_tracklet"
    one, two = ([m[name] for m in lines(w)[:4] for name in names if name in m] for w in (workdir, tmp_path))
    assert len(one) == len(two) > 3
    np.testing.assert_allclose(two, one, rtol=1e-3)


# ------------------------------------------------------------------------------------------------- too little data


@pytest.fixture
def trained_on_little(tmp_path, monkeypatch):
    """A function of fields: the losses and the log of a run on twelve tracklets of noise a modality."""
    monkeypatch.setitem(BACKBONES, "tiny", tiny.backbone())
    root = tiny.write_folder(tmp_path / "noise")

    def finished(table: str = "", **fields) -> tuple[list[float], str]:
        if table:
            Path(root, "tracklets.csv").write_text(table)
        with tiny.opened(tmp_path / "run", {"data.root": root, "train.log_every": 1, **fields}) as run:
            train.train(run)
        written = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        losses = [line["train/loss"] for line in written if "train/loss" in line]
        return losses, (tmp_path / "run" / "log.txt").read_text()

    return finished


@pytest.mark.parametrize("name", ["cluster_contrast", "cap"])
def test_clusters_that_teach_nothing_are_said_at_start_and_at_every_refresh(trained_on_little, name):
    losses, log = trained_on_little(**{"method.name": name, "clusters.min_samples": 13})
    assert losses == [0.0] * 6
    assert log.count("note: 12 visible tracklets can hardly form two clusters") == 1
    for kind in ("visible", "infrared"):
        assert log.count(f"warning: the 12 {kind} tracklets form no cluster") == 3
    assert log.count("; RGB clusters: 0, smallest/median/largest 0/0/0, outliers 12; IR clusters: 0, ") == 3


def test_one_cluster_of_each_modality_is_said(trained_on_little):
    losses, log = trained_on_little(**{"method.name": "cluster_contrast", "clusters.eps": 0.9})
    assert losses == pytest.approx([0.0] * 6, abs=1e-6)
    assert log.count("warning: the 12 infrared tracklets form one cluster") == 3
    assert log.count("IR clusters: 1, smallest/median/largest 12/12/12, outliers 0") == 3


def test_hitpro_without_any_term_says_so(trained_on_little):
    table = "tracklet,modality,camera,pid,split\ntrain0,rgb,0,0,train\ntrain1,ir,1,0,train\n"
    losses, log = trained_on_little(table, **{"across.enabled": False, "train.epochs": 1})
    assert losses == [0.0] * 2
    assert log.count("note: no view has two tracklets, so level 1 (in a camera) has no terms") == 1
    assert log.count("warning: nothing is learned, as no level of the loss has a term") == 1
