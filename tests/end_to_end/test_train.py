"""The whole path on a tiny world: training, evaluation, resume, and what must not change anything."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import own_video
from hitpro_jax import resume
from hitpro_jax.data import opening
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Setting
from hitpro_jax.run import read_options
from hitpro_jax.scoring.result import HEADLINE
from hitpro_jax.types import TrackletInfo
from tests.runs import (
    EPOCHS,
    STEPS,
    Run,
    checksums,
    dataset_of,
    evaluated,
    finish,
    lines,
    logged,
    run,
    tiny_config,
    torn,
)


def test_run_leaves_metrics_and_result(finished):
    workdir, result = finished
    metrics = lines(workdir)
    assert metrics[0]["step"] == 0
    assert "eval/i2v/mAP" in metrics[0]
    assert "eval/v2i/rank1" in metrics[0]
    assert result["protocol"] == "synthetic"
    assert result["step"] == STEPS * EPOCHS
    assert set(result["i2v"]) == set(result["v2i"]) == set(HEADLINE)
    assert [m["step"] for m in metrics if "train/loss" in m] == list(range(1, STEPS * EPOCHS + 1))
    refreshes = [m for m in metrics if "align/within/precision" in m]
    assert [m["step"] for m in refreshes] == [0, STEPS]
    assert {
        "align/cross/recall",
        "align/cross/threshold_rgb_to_ir",
        "bank/drift",
        "align/within/stability",
        "bank/similarity/other_modality",
        "align/same_view/precision",
    } <= set(refreshes[1])
    losses = [m["train/loss"] for m in metrics if "train/loss" in m]
    assert len(set(losses)) == len(losses)
    assert all(np.isfinite(losses))
    assert metrics[-1]["eval/i2v/mAP"] == result["i2v"]["mAP"]


def test_other_config_is_refused(finished, world):
    with pytest.raises(ValueError, match="optim.learning_rate"):
        run(tiny_config(world, **{"optim.learning_rate": 1e-5}), finished[0])


def test_refused_config_leaves_the_record_of_the_run(finished, world):
    before = {name: (finished[0] / name).read_text() for name in ("config.json", "metrics.jsonl")}
    with pytest.raises(ValueError, match="seed"):
        run(tiny_config(world, seed=5), finished[0])
    assert before == {name: (finished[0] / name).read_text() for name in before}


def test_other_tracklets_are_refused(finished, world, monkeypatch):
    monkeypatch.setattr(resume, "fingerprint", lambda tracklets: 0)
    with pytest.raises(ValueError, match="other tracklets"):
        run(tiny_config(world), finished[0])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_frames_of_query_and_gallery_stand_in_the_setting(finished, world, tmp_path, num_workers, capsys):
    root = torn(world, tmp_path / "world", {"query": {0: 1, 2: 1}, "gallery": {0: 1}})
    shutil.copytree(finished[0], tmp_path / "run")
    config = tiny_config(root, **{"data.allow_missing": True, "data.num_workers": num_workers})
    result = evaluated(config, tmp_path / "run")
    assert result["setting"].endswith(", NOT the published rows: 3 frames unreadable")
    assert "NOT the published rows: 3 frames unreadable" in " ".join(capsys.readouterr().out.split())
    assert "NOT" not in finished[1]["setting"]


@pytest.mark.usefixtures("stems_alone")
def test_missing_and_unreadable_frames_are_reported_in_a_run(world, tmp_path):
    root = torn(world, tmp_path / "world", {"gallery": {1: 1}})
    dataset = dataset_of(tiny_config(root))
    (tmp_path / "world" / dataset.query[0].frames[-1]).unlink()
    for frame in dataset.train[0].frames:
        (tmp_path / "world" / frame).write_bytes(b"torn")
    result = run(tiny_config(root, **{"data.allow_missing": True, "train.epochs": 1}), tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert result["setting"].endswith(", NOT the published rows: 1 frames missing, 1 frames unreadable")
    assert log.count("1 frames missing, 1 frames unreadable") == 2  # at the first step and at the last
    assert "left out: 4 frames that cannot be read\n" in log  # a training tracklet: two parts of two frames


def test_a_tracklet_without_a_frame_to_read_is_not_ranked(finished, world, tmp_path):
    root = torn(world, tmp_path / "world", {"gallery": {0: 1, 1: 2}})
    first = dataset_of(tiny_config(root)).gallery[1].frames[0]
    with pytest.raises(
        ValueError,
        match=(
            f"1 of [0-9]+ query or gallery tracklets have no frame that can be read, the first begins with "
            f"{root}/{first}: restore its files, or remove it"
        ),
    ):
        evaluated(tiny_config(root, **{"data.allow_missing": True}), finished[0])


def renumbered(world: str, root: Path) -> str:
    """The same world with every training person under the next one's number: on disk, in frame names, in track rows."""
    shutil.copytree(world, root)
    numbers = sorted(folder.name for folder in (root / "Train").iterdir())
    following = dict(zip(numbers, numbers[1:] + numbers[:1], strict=True))
    (root / "Train").rename(root / "before")
    (root / "Train").mkdir()
    for old, new in following.items():
        (root / "before" / old).rename(root / "Train" / new)
    names, rows = root / "info" / "train_name.txt", root / "info" / "track_train_info.txt"
    names.write_text("".join(f"{following[line[:4]]}{line[4:]}\n" for line in names.read_text().splitlines()))
    fields = [line.split() for line in rows.read_text().splitlines()]
    rows.write_text("".join(f"{m} {a} {b} {int(following[f'{int(p):04d}'])} {c}\n" for m, a, b, p, c in fields))
    return str(root)


def test_person_ids_change_no_trained_number(finished, world, tmp_path, monkeypatch):
    """All training ids replaced, those in paths too: every array of the last checkpoint stays the same to the bit."""
    load = opening.load
    known = dataset_of(tiny_config(world)).train

    def scrambled(data, own):
        dataset, protocol = load(data, own)
        train_records = tuple(replace(r, pid=(7 * i) % 5) for i, r in enumerate(dataset.train))
        assert {r.pid for r in train_records} != {r.pid for r in dataset.train}
        assert not any(
            new.frames[0].split("/")[1] == old.frames[0].split("/")[1]
            for new, old in zip(dataset.train, known, strict=True)
        )
        return replace(dataset, train=train_records), protocol

    monkeypatch.setattr(opening, "load", scrambled)
    result = run(tiny_config(renumbered(world, tmp_path / "world")), tmp_path / "run")
    assert checksums(tmp_path / "run") == checksums(finished[0])
    assert result == finished[1]
    judged = [
        [value for m in lines(w) for name, value in m.items() if "recall" in name or "precision" in name]
        for w in (tmp_path / "run", finished[0])
    ]
    assert judged[0] != judged[1]  # the diagnostics did see other ids


def test_pixels_and_seed_do_change_it(finished, world, tmp_path):
    run(tiny_config(world, seed=1), tmp_path)
    assert checksums(tmp_path) != checksums(finished[0])


@pytest.mark.parametrize("field", ["train.steps_per_epoch", "prototypes.parts", "eval.frames"])
def test_a_zero_that_makes_no_sense_is_refused(world, tmp_path, field):
    with pytest.raises(ValueError, match=f"{field} is 0: give a whole number at least 1"):
        run(tiny_config(world, **{field: 0}), tmp_path)


@pytest.mark.usefixtures("stems_alone")
def test_a_finished_run_becomes_longer(world, tmp_path):
    """Where nothing depends on progress it is bit for bit the run that had so many epochs from the start."""
    fields = dict.fromkeys(("optim.schedule", "within.schedule", "across.schedule"), "constant") | {"loss.ramp": 0.0}
    whole = run(tiny_config(world, **fields), tmp_path / "whole")
    run(tiny_config(world, **fields, **{"train.epochs": 1}), tmp_path / "run")
    result = run(tiny_config(world, **fields), tmp_path / "run")
    assert result == whole
    assert result["step"] == STEPS * EPOCHS
    assert checksums(tmp_path / "run") == checksums(tmp_path / "whole")
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert "note: train.epochs is 2, and was 1: " in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(ValueError, match="train.epochs is 1, but the checkpoint at step 8 has begun epoch 2"):
        run(tiny_config(world, **fields, **{"train.epochs": 1}), tmp_path / "run")


@pytest.mark.usefixtures("stems_alone")
def test_a_loss_that_is_not_finite_stops_the_run(world, tmp_path):
    with pytest.raises(FloatingPointError, match="step [2-4] "):
        run(tiny_config(world, **{"optim.learning_rate": 1e30, "optim.name": "sgd"}), tmp_path)


@pytest.mark.usefixtures("stems_alone")
def test_own_video_trains_on_one_view(tmp_path, capsys):
    config = own_video.get_config()
    config.update_from_flattened_dict(
        {
            "data.root": str(tmp_path / "crops"),
            "init.weights": "",
            "batch.tracklets_per_modality": 2,
            "batch.clip_length": 2,
            "prototypes.parts": 2,
            "prototypes.clip_length": 2,
            "eval.frames": 2,
            "train.epochs": 1,
            "train.steps_per_epoch": 2,
        }
    )
    result = run(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "level 3" in printed
    assert "level 2" in printed
    assert result["protocol"] == "first_half_to_second_half"
    assert 0 < result["halves"]["mAP"] <= 100
    assert not any("precision" in name for m in lines(tmp_path / "run") for name in m)  # there are no ids to judge by


def saving(workdir: Path) -> bool:
    return any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize("moments", [[saving, logged(3)], [logged(STEPS), saving, logged(2 * STEPS - 1)]])
def test_killed_and_run_again_ends_bit_for_bit_the_same(world, tmp_path, moments):
    """SIGKILL in the middle of a save, of an epoch and at its end, against an uninterrupted command."""
    finish(world, tmp_path / "whole")
    for moment in moments:
        for leftover in (tmp_path / "killed").glob("checkpoints/*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover)  # of the kill before: it must not pass for a new save
        with Run(world, tmp_path / "killed") as command:
            command.wait_for(moment)
            command.processes[0].kill()
            assert command.end() == [-signal.SIGKILL], "the run ended before it could be killed"
    finish(world, tmp_path / "killed")
    assert checksums(tmp_path / "killed") == checksums(tmp_path / "whole")
    for name in ("metrics.jsonl", "result.json"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_memory_of_mining_stays_far_below_n_by_n(world):
    """The whole refresh compiled for N = 50,000 prototypes needs a small part of the 10 GB of an N x N table."""
    rows, dim = 50_000, 192
    method = registry.make_method(read_options(tiny_config(world)), Setting(12, None, None))
    memory = jax.eval_shape(lambda: method.init(rows, dim))
    shaped = jax.ShapeDtypeStruct
    info = TrackletInfo(*(shaped((rows,), np.int32) for _ in range(3)), shaped((rows,), np.bool_))
    parts = shaped((rows, 4, dim), np.float32), shaped((rows, 4), np.bool_)
    compiled = jax.jit(method.refresh).lower(memory, *parts, info, shaped((), np.float32)).compile()
    analysis = compiled.memory_analysis()
    assert analysis.temp_size_in_bytes + analysis.output_size_in_bytes < 0.1 * rows * rows * 4
