"""BUPTCampus on the whole path: what training may not see of the aligned pairs, and commands on the twin."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from configs import buptcampus as config_file
from hitpro_jax import diagnostics, main
from hitpro_jax import run as runs
from hitpro_jax.data import opening
from hitpro_jax.data.records import Tracklet, anonymise
from hitpro_jax.data.sets import buptcampus
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.registry import make_method
from hitpro_jax.run import identities_of, training_set
from hitpro_jax.scoring.result import HEADLINE
from hitpro_jax.sharding import make_mesh
from hitpro_jax.types import IR, RGB
from tests.runs import opened, run, tiny_encoder

REPO = Path(__file__).parents[2]
STEPS = 2
TINY = {
    "data.num_workers": 0,
    "encoder.backbone": "resnet_small",
    "encoder.as_product": True,
    "encoder.dtype": "float32",
    "data.image_size": (64, 32),
    "eval.frames": 2,
    "eval.batch_size": 8,
    "batch.tracklets_per_modality": 2,
    "batch.clip_length": 2,
    "prototypes.parts": 2,
    "prototypes.clip_length": 2,
    "prototypes.batch_size": 8,
    "train.epochs": 2,
    "train.steps_per_epoch": STEPS,
    "train.eval_every": 0,
    "train.log_every": 1,
    "loss.within_begin": 0.0,
    "loss.across_begin": 0.01,
    "optim.warmup_steps": 1,
    # thresholds that an untrained encoder's tracklets pass
    "across.rho": (0.5, 0.4),
    "across.kappa": (-3.0, -4.0),
}
PAIRINGS = ["ir2rgb", "rgb2ir", "rgb2rgb", "ir2ir", "all"]


def command(word: str, root, workdir: Path, *arguments: str) -> str:
    """Runs the command line in this process, which saves its start; returns the workdir's log."""
    fields = [f"--config.{name}={str(value).strip('()')}" for name, value in {**TINY, "data.root": root}.items()]
    argv = ["main", f"--config={REPO / 'configs' / 'buptcampus.py'}{word}", f"--workdir={workdir}", *fields, *arguments]
    with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
        patch.setattr(runs, "make_encoder", tiny_encoder)
        patch.setattr(sys, "argv", argv)  # where ml_collections looks for fields
        flags.FLAGS(argv)
        main.main(argv[:1])
    return (workdir / "log.txt").read_text()


@pytest.fixture(scope="session")
def finished(twins, tmp_path_factory) -> tuple[Path, str]:
    """A run of the training command on the twin: its workdir and its log."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, command(":full_no_camera", twins / "BUPTCampus", workdir)


def checksums(workdir: Path) -> dict[str, int]:
    """CRC32 of every array of the last checkpoint."""
    record = workdir / "checkpoints" / str(2 * STEPS) / "record" / "metadata"
    return json.loads(json.loads(record.read_text())["text"])["crc32"]


def test_the_command_trains_and_scores_every_pairing(finished):
    workdir, printed = finished
    result = json.loads((workdir / "result.json").read_text())
    assert (result["protocol"], result["step"]) == ("full_no_camera", 2 * STEPS)
    assert result["setting"] == "2 frames of 64x32, no camera rule"
    assert [key for key, value in result.items() if isinstance(value, dict)] == PAIRINGS
    assert all(set(result[key]) == set(HEADLINE) and 0 < result[key]["mAP"] <= 100 for key in PAIRINGS)
    assert "protocol full_no_camera has 10 frames of 256x128, this run scores 2 frames of 64x32" in printed
    scores = [line for line in printed.splitlines() if "rank-1" in line]
    assert len(scores) == 2
    assert all("full_no_camera (2 frames of 64x32, no camera rule): ir2rgb" in line for line in scores)
    assert "(2 queries)" in scores[0]
    assert "(3 queries)" in scores[0]


def test_the_evaluation_command_scores_by_another_protocol(finished, twins):
    workdir, _ = finished
    log = command(":full", twins / "BUPTCampus", workdir, "--mode=eval")
    scored = json.loads((workdir / "eval" / f"{2 * STEPS}.json").read_text())
    assert (scored["protocol"], scored["setting"]) == ("full", "2 frames of 64x32, camera rule")
    assert list(scored)[3:] == PAIRINGS
    assert "full (2 frames of 64x32, camera rule), step 4" in log


def dataset_opened(config, workdir):
    with opened(config, workdir) as made:
        return made.dataset


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("auxnet", "protocol auxnet finds no query or no gallery row for ir2rgb"),  # no 64 RGB rows on the twin
        ("official", "unknown data.protocol 'official' of buptcampus; choose one of full, full_no_camera, auxnet"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused_in_one_sentence(word, message, twins, tmp_path):
    config = config_file.get_config(word)
    config.data.root = str(twins / "BUPTCampus")
    with pytest.raises(ValueError, match=message):
        dataset_opened(config, tmp_path)


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(ValueError, match="data.root is not set: give the folder of BUPTCampus"):
        dataset_opened(config_file.get_config(), tmp_path)


# ------------------------------------------------------------------- the pairing of RGB and IR is not for training


def paired(people, modality) -> tuple[int, int]:
    """Of how many people both tracklets have the same index within their modality, and lie next to each other."""
    people, modality = np.asarray(people), np.asarray(modality)
    same_index = (people[modality == RGB] == people[modality == IR]).sum()
    return int(same_index), int((people[:-1] == people[1:]).sum())


def test_training_tracklets_carry_no_id_and_no_common_order(tmp_path):
    """Loaded from a list of 400 rows: neither the index of a tracklet nor its neighbours show its aligned twin."""
    count = 400
    rows = {
        "train": [f"{pid} RGB/IR W4 1" for pid in range(count)],
        "query": [f"{count} RGB W4 1"],
        "gallery": [f"{count} IR W4 1"],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    (tmp_path / "data_paths.json").write_text(
        json.dumps(
            {
                str(pid): {word: {"W4": {"1": [f"{pid}/{word}.jpg"]}} for word in ("RGB", "IR")}
                for pid in range(count + 1)
            }
        )
    )
    loaded = buptcampus.load(str(tmp_path)).train
    tracklets, pids = anonymise(loaded, seed=0)
    assert {type(t) for t in tracklets} == {Tracklet}
    assert {field.name for field in dataclasses.fields(Tracklet)} == {"frames", "modality", "camid"}
    assert paired([r.pid for r in loaded], [r.modality for r in loaded]) == (count, count)
    same_index, neighbours = paired(pids, [t.modality for t in tracklets])
    assert same_index < 10
    assert neighbours < 10


def opaque(root: Path, copy: Path) -> str:
    """The twin with the frames of all tracklets under numbers drawn by lot: no path tells of a person or a row."""
    shutil.copytree(root, copy)
    tree = json.loads((copy / "data_paths.json").read_text())
    lists = [
        tids[tid]
        for people in tree.values()
        for cameras in people.values()
        for tids in cameras.values()
        for tid in tids
    ]
    numbers = iter(np.random.default_rng(0).permutation(sum(map(len, lists))).tolist())
    for frames in lists:
        for index, frame in enumerate(frames):
            frames[index] = f"{next(numbers)}.jpg"
            (copy / "DATA" / frame).rename(copy / "DATA" / frames[index])
    (copy / "data_paths.json").write_text(json.dumps(tree))
    return str(copy)


@pytest.mark.usefixtures("stems_alone")
def test_neither_ids_nor_paths_change_a_trained_number(finished, twins, tmp_path, monkeypatch):
    """Opaque file names and an id of its own for every tracklet: each array of the last checkpoint stays the same."""
    load = opening.load

    def scrambled(data, own):
        dataset, protocol = load(data, own)
        assert not any("RGB" in frame or "IR" in frame for r in dataset.train for frame in r.frames)
        alone = tuple(dataclasses.replace(r, pid=i) for i, r in enumerate(dataset.train))
        return dataclasses.replace(dataset, train=alone), protocol

    monkeypatch.setattr(opening, "load", scrambled)
    config = config_file.get_config("full_no_camera")
    config.update_from_flattened_dict({**TINY, "data.root": opaque(twins / "BUPTCampus", tmp_path / "opaque")})
    result = run(config, tmp_path / "run")
    assert checksums(tmp_path / "run") == checksums(finished[0])
    assert result == json.loads((finished[0] / "result.json").read_text())


# ----------------------------------------------------------------------------------------- aligned twins as positives


def test_the_config_keeps_twins_out_of_the_positives_of_a_run(finished):
    figures = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    refreshes = [m for m in figures if "align/cross/per_tracklet" in m]
    assert len(refreshes) == 2
    for m in refreshes:
        assert m["align/cross/per_tracklet"] > 0
        assert m["align/cross/twin_share"] == 0


CROSSING = ["hitpro", "adca", "pgm", "sdcl", "supervised"]  # methods with positives across
EASY = {  # values with which few tracklets form clusters, and all stages begin at once
    "clusters.k1": 4,
    "clusters.k2": 2,
    "clusters.min_samples": 2,
    "adca.begin": 0.0,
    "adca.similarity": 0.3,
    "pgm.begin": 0.0,
}


@pytest.mark.usefixtures("stems_alone")
@pytest.mark.parametrize("name", CROSSING)
@pytest.mark.parametrize("ban", [True, False])
def test_ban_same_camera_bars_the_own_camera(name, ban, tmp_path):
    """People in three cameras, whose two tracklets in a camera have the same feature up to a little noise."""
    rng, people, cameras, parts = np.random.default_rng(0), 8, 6, 2
    rows = [(pid, camera, modality) for pid in range(people) for camera in range(cameras) for modality in (0, 1)]
    pids, camera, modality = np.array(rows).T
    config = config_file.get_config()
    assert config.across.ban_same_camera  # as shipped
    config.update_from_flattened_dict({**TINY, **EASY, "method.name": name, "across.ban_same_camera": ban})
    data = training_set(tuple(Tracklet((), int(m), int(c)) for m, c in zip(modality, camera)), make_mesh())
    with opened(config, tmp_path) as made:
        identities = identities_of(pids, len(data.bank_info.valid), name) if name == "supervised" else None
        method = make_method(made.options, Setting(data.num_views, None, identities))
        steps, state, _ = made.build(data, method)
    bank = np.zeros((state.memory.prototypes.shape[0], parts, state.memory.prototypes.shape[1]), np.float32)
    moments = rng.normal(size=(people, 1, bank.shape[2])) + 0.5 * rng.normal(size=(people, cameras, bank.shape[2]))
    features = moments[pids, camera] + 0.05 * rng.normal(size=(len(rows), bank.shape[2]))
    bank[: len(rows)] = (features / np.linalg.norm(features, axis=1, keepdims=True))[:, None]
    mask = np.repeat(np.arange(len(bank))[:, None] < len(rows), parts, 1)
    mined = method.mined(jax.device_get(steps.refresh(state, bank, mask, data.bank_info).memory))
    index = mined.across.index[: len(rows)]
    own_camera = (index >= 0) & (camera[index] == camera[:, None])
    assert (index >= 0).sum() > len(rows)
    assert (modality[index] != modality[:, None])[index >= 0].all()
    assert own_camera.any() != ban
    figures = diagnostics.describe(mined, None, data.info, pids, ban_same_camera=ban)
    assert figures["align/cross/twin_share"] == 0 if ban else 0.1 < figures["align/cross/twin_share"] < 1
    assert 0 < figures["align/cross/recall"] <= 1


@pytest.mark.usefixtures("stems_alone")
@pytest.mark.parametrize("name", CROSSING[1:])
def test_no_method_aligns_twins_on_the_whole_path(name, twins, tmp_path):
    """The share of twins is written and printed at every refresh, and recall counts both sides alike."""
    config = config_file.get_config()
    fields = {**TINY, **EASY, "data.root": str(twins / "BUPTCampus"), "method.name": name}
    config.update_from_flattened_dict(fields)
    run(config, tmp_path)
    figures = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    refreshes = [m for m in figures if "align/cross/per_tracklet" in m]
    assert len(refreshes) == 2
    for m in refreshes:
        assert m["align/cross/per_tracklet"] > 0
        assert m["align/cross/twin_share"] == 0
        assert all(m[f"align/{stage}/recall"] <= 1 for stage in ("within", "cross", "same_view"))
    assert (tmp_path / "log.txt").read_text().count(", twins 0.00; reliability") == 2
