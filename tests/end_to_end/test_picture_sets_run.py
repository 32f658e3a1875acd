"""SYSU-MM01, LLCM, RegDB and MARS by their configs, on made-up files in the published layouts: trained and scored."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import io

from hitpro_jax import train
from hitpro_jax.commands import evaluate
from hitpro_jax.commands import train as train_command
from hitpro_jax.scoring.result import HEADLINE
from tests.runs import opened
from tests.settings import changed

pytestmark = pytest.mark.usefixtures("tiny_backbone")

SIZE, PEOPLE, IMAGES = (16, 8), range(1, 9), 3
TRAINED, TESTED = (1, 2, 3, 4), (5, 6, 7, 8)
SMALL = {
    "data.image_size": SIZE,
    "data.num_workers": 0,
    "encoder.backbone": "tiny",
    "encoder.dtype": "float32",
    "batch.tracklets_per_modality": 4,
    "prototypes.batch_size": 8,
    "eval.batch_size": 8,
    "train.epochs": 1,
    "train.steps_per_epoch": 2,
    "optim.warmup_steps": 1,
}


def image(root: Path, path: str, pid: int, modality: str = "rgb") -> None:
    """A picture of noise around a person's colour."""
    colour = np.random.default_rng(pid).integers(40, 200, 3)
    picture = colour + np.random.default_rng([pid, len(path), hash_of(path)]).integers(-40, 40, (*SIZE, 3))
    picture = picture if modality == "rgb" else np.repeat(picture.mean(-1, keepdims=True), 3, -1)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / path), np.clip(picture, 0, 255).astype(np.uint8))


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return sum(i * ord(letter) for i, letter in enumerate(text, 1))


def ids(people) -> str:
    return ",".join(map(str, people))


def texts(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def write_sysu(root: Path) -> None:
    for camera in range(1, 7):
        for pid in PEOPLE:
            for n in range(1, IMAGES + 1):
                image(root, f"cam{camera}/{pid:04d}/{n:04d}.jpg", pid, "ir" if camera in (3, 6) else "rgb")
    texts(root, {"exp/train_id.txt": ids(TRAINED[:3]), "exp/val_id.txt": "4", "exp/test_id.txt": ids(TESTED)})


def write_llcm(root: Path) -> None:
    for kind, modality in (("vis", "rgb"), ("nir", "ir")):
        rows = []
        for camera in (1, 2, 3):
            for n in range(IMAGES):
                for pid in TRAINED:
                    path = f"{kind}/{pid:04d}/{pid:04d}_c0{camera}_s1_f{n}_{kind}.jpg"
                    image(root, path, pid, modality)
                    rows.append(f"{path} {pid - 1}\n")
                for pid in TESTED:
                    image(root, f"test_{kind}/cam{camera}/{pid:04d}/{n}.jpg", pid, modality)
        texts(root, {f"idx/train_{kind}.txt": "".join(rows)})
    texts(root, {"idx/test_id.txt": ids(TESTED)})


def write_regdb(root: Path) -> None:
    for kind, modality in (("Visible", "rgb"), ("Thermal", "ir")):
        for pid in PEOPLE:
            for n in range(IMAGES):
                image(root, f"{kind}/{pid}/{n}.bmp", pid, modality)
        for trial in range(1, 11):
            order = np.random.default_rng(trial).permutation(PEOPLE)
            for half, people in (("train", order[:4]), ("test", order[4:])):
                rows = [
                    f"{kind}/{pid}/{n}.bmp {label}\n" for label, pid in enumerate(sorted(people)) for n in range(IMAGES)
                ]
                texts(root, {f"idx/{half}_{kind.lower()}_{trial}.txt": "".join(rows)})


def write_mars(root: Path) -> None:
    for half, people in (("train", TRAINED), ("test", (*TESTED, 0, -1))):
        names, rows = [], []
        for pid in people:
            for camera in (1, 2, 3):
                word = "00-1" if pid < 0 else f"{pid:04d}"
                frames = [f"{word}C{camera}T0001F{n:03d}.jpg" for n in range(1, IMAGES + 1)]
                for name in frames:
                    image(root, f"bbox_{half}/{word}/{name}", 1)  # all of one colour: not every query is answered
                rows.append((len(names) + 1, len(names) + IMAGES, pid, camera))
                names += frames
        texts(root, {f"info/{half}_name.txt": "\n".join(names)})
        io.savemat(str(root / f"info/tracks_{half}_info.mat"), {f"track_{half}_info": np.array(rows)})
    # two tracklets of each of two people, one of each of the others
    io.savemat(str(root / "info/query_IDX.mat"), {"query_IDX": np.array([[1, 2, 4, 5, 7, 10]])})


WRITERS = {"sysu_mm01": write_sysu, "llcm": write_llcm, "regdb": write_regdb, "mars": write_mars}


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, root in made.items():
        WRITERS[name](root)
    return made


def config_of(name: str, root: Path, **fields):
    return changed(name, **{**SMALL, "data.root": str(root), **fields})


def counting(run) -> list[int]:
    """Gets the number of real frames of every batch that is embedded from now on."""
    embed, frames = run.embed, []

    def counted(variables, given, mask, layout):
        frames.append(int(np.asarray(mask).sum()))
        return embed(variables, given, mask, layout)

    run.embed = counted
    return frames


def read(workdir: Path, name: str) -> dict:
    return json.loads((workdir / name).read_text())


def trained_and_scored(name: str, root: Path, workdir: Path, **fields) -> tuple[dict, dict, str]:
    """What result.json and eval/2.json hold, and the log."""
    config = config_of(name, root, **fields)
    with opened(config, workdir) as run:
        train_command.main(run)
    with opened(config, workdir) as run:
        evaluate.main(run)
    return read(workdir, "result.json"), read(workdir, "eval/2.json"), (workdir / "log.txt").read_text()


@pytest.mark.parametrize("name", ["sysu_mm01", "llcm", "regdb"])
def test_each_picture_is_encoded_once_in_a_refresh_and_in_an_evaluation(name, roots, tmp_path):
    with opened(config_of(name, roots[name]), tmp_path) as run:
        batches = list(train.part_batches(run))
        assert {batch.frames.shape[1] for batch in batches} == {1}
        pictures = len(run.dataset.train)
        assert sum(int(batch.mask.sum()) for batch in batches) == pictures
        seen = np.concatenate([batch.tracklet for batch in batches])
        assert sorted(seen[seen >= 0]) == list(range(pictures))
        clips = next(train.epoch_batches(run, run.training.state, 0))
        assert clips.frames.shape[1] == 1
        assert len(set(clips.tracklet.tolist())) == len(clips.tracklet)
        frames = counting(run)
        run.evaluate(run.initial_variables, 0)
        assert sum(frames) == len(run.dataset.query) + len(run.dataset.gallery)


@pytest.mark.parametrize(
    ("name", "keys"), [("sysu_mm01", ["i2v", "i2v_indoor"]), ("llcm", ["i2v", "v2i"])], ids=["sysu_mm01", "llcm"]
)
def test_ten_trials_are_scored_in_one_file(name, keys, roots, tmp_path):
    result, scored, log = trained_and_scored(name, roots[name], tmp_path)
    assert scored == result
    assert list(result) == ["protocol", "setting", "step", *keys, "std", "trials"]
    assert result["protocol"] == f"{name} trials 0 to 9"
    assert "1 frame of 16x8" in result["setting"]
    assert result["setting"].endswith("mean and std over 10 trials")
    assert [trial["trial"] for trial in result["trials"]] == list(range(10))
    for key in keys:
        for figure in HEADLINE:
            values = [trial[key][figure] for trial in result["trials"]]
            assert result[key][figure] == pytest.approx(np.mean(values))
            assert result["std"][key][figure] == pytest.approx(np.std(values, ddof=1))
        assert result["std"][key]["mAP"] > 0
    assert f"{result['i2v']['mAP']:.2f} ± {result['std']['i2v']['mAP']:.2f}" in log
    alone = config_of(name, roots[name], **{f"data.{name}.trial": 4})
    with opened(alone, tmp_path) as run:
        evaluate.main(run)
    one = read(tmp_path, "eval/2.json")
    assert "trials" not in one
    for key in keys:
        assert one[key] == pytest.approx(result["trials"][4][key])


def test_regdb_scores_the_trial_that_it_was_trained_on_and_no_other(roots, tmp_path):
    trial = {"data.regdb.trial": 3}
    result, scored, _ = trained_and_scored("regdb", roots["regdb"], tmp_path, **trial)
    assert scored == result
    assert list(result) == ["protocol", "setting", "step", "i2v", "v2i"]
    assert result["protocol"] == "regdb trial 3"
    for other in (0, 5):
        with (
            opened(config_of("regdb", roots["regdb"], **{"data.regdb.trial": other}), tmp_path) as run,
            pytest.raises(ValueError, match=r"was trained on trial 3 of regdb.*: give --config.data.regdb.trial=3"),
        ):
            evaluate.main(run)


def test_regdb_does_not_start_from_an_encoder_of_another_trial(roots, tmp_path):
    """Which has been trained on people that this one tests; from a run on another data set it does."""
    source = {}
    for name in ("regdb", "llcm"):
        source[name] = str(tmp_path / name)
        with opened(config_of(name, roots[name]), tmp_path / name) as run:
            train.train(run)
    frozen = {"method.name": "frozen", "data.regdb.trial": 0}
    for number, fields in enumerate([frozen, {"data.regdb.trial": 2}]):
        given = config_of("regdb", roots["regdb"], **fields, **{"init.run": source["regdb"]})
        with (
            opened(given, tmp_path / f"refused {number}") as run,
            pytest.raises(ValueError, match=r"regdb was trained on trial 1 of .*: give --config.data.regdb.trial=1"),
        ):
            train.train(run)
    for number, fields in enumerate([{"init.run": source["regdb"]}, {**frozen, "init.run": source["llcm"]}]):
        with opened(config_of("regdb", roots["regdb"], **fields), tmp_path / f"starts {number}") as run:
            assert train.train(run).scores


def test_regdb_without_training_scores_all_ten_trials(roots, tmp_path):
    fields = {"data.regdb.trial": 0, "method.name": "frozen"}
    with opened(config_of("regdb", roots["regdb"], **fields), tmp_path) as run:
        result = train.train(run).to_json()
    assert result["protocol"] == "regdb trials 1 to 10"
    assert [trial["trial"] for trial in result["trials"]] == list(range(1, 11))
    with opened(config_of("regdb", roots["regdb"], **{**fields, "data.regdb.trial": 7}), tmp_path / "one") as run:
        assert train.train(run).to_json()["i2v"] == pytest.approx(result["trials"][6]["i2v"])
    with (
        opened(config_of("regdb", roots["regdb"], **{"data.regdb.trial": 0}), tmp_path / "trained") as run,
        pytest.raises(
            ValueError, match="data.regdb.trial is 0, the test sets of all trials, .* choose one to train on"
        ),
    ):
        train.train(run)


def test_mars_by_both_galleries(roots, tmp_path):
    result, scored, log = trained_and_scored("mars", roots["mars"], tmp_path)
    assert scored == result
    remarks = (
        "gallery with queries, junk left out: 3 gallery rows, 0 queries, 0 training rows, "
        "3 distractors in the gallery, 0 of 6 queries not counted: no true match in another camera"
    )
    assert result["setting"] == f"6 frames of 16x8, camera rule, {remarks}"
    assert all(remark in log.splitlines() for remark in remarks.split(", ")[-2:])
    without = config_of("mars", roots["mars"], **{"data.mars.gallery": "without_queries"})
    with opened(without, tmp_path) as run:
        evaluate.main(run)
    other = read(tmp_path, "eval/2.json")
    assert "gallery without queries" in other["setting"]
    assert other["all"]["mAP"] != result["all"]["mAP"]
