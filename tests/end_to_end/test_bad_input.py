"""Every kind of bad input gives one clear sentence: no traceback, and nothing written outside the workdir.

Where each kind is tested; "here" means through `main`, as a user meets it:
  truncated JPEG                 here; test_images.py (every cut of JPEG, PNG and BMP)
  zero-byte file                 here; test_records.py
  wrong row count                here; test_hitsz_vcm.py (fields, published counts), test_folder.py, test_pictures.py
  range beyond the names         here; test_hitsz_vcm.py, test_mars.py
  non-integer                    here; test_hitsz_vcm.py, test_folder.py, test_pictures.py, test_mot.py
  CRLF                           test_hitsz_vcm.py, test_folder.py, test_pictures.py: reads like LF; here: a lone CR
  blank line                     here; test_hitsz_vcm.py, test_pictures.py: harmless where a row's number means nothing
  unknown camera                 here; test_hitsz_vcm.py, test_mars.py, test_llcm.py, test_buptcampus.py
  duplicate rows                 here; test_hitsz_vcm.py, test_folder.py, test_pictures.py, test_mot.py
  a tracklet without frames      here; test_folder.py; by missing files test_records.py
  one camera only, one modality  here (trains, with a note for each); test_train.py: own video
  unreadable folder              here; a file instead of it test_records.py and test_folder.py
  a path that leaves the root    here; test_hitsz_vcm.py, test_folder.py, test_pictures.py
  a 20,000-pixel image           here; test_images.py
  no labels at all               here: trains and says that nothing is scored
"""

import errno
import json
import os
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from hitpro_jax import main
from tests.data.sets.test_hitsz_vcm import FILES
from tests.data.test_images import huge_png

ROOT = Path(__file__).resolve().parents[2]
HEAD = "tracklet,modality,camera\n"
CAMERAS = [("rgb", 1), ("ir", 1), ("rgb", 2), ("ir", 2)]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `main` on a config of own tracklets in tmp_path/data; gives its exit code and the lines it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, config="own_folder"):
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "main",
                f"--config={ROOT}/configs/{config}.py",
                f"--workdir={tmp_path}/run",
                f"--config.data.root={tmp_path}/data",
                *arguments,
            ],
        )
        code = 0
        with flagsaver.flagsaver():
            flags.FLAGS(sys.argv)
            try:
                main.main([])
            except SystemExit as end:
                code = end.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out
        return code, printed.out.splitlines()

    return run


@pytest.fixture
def data(tmp_path):
    """A folder of eight tracklets of four frames, two cameras in both modalities, and its table."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for name in "abcdefgh":
        (root / name).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(root / name / f"{i}.jpg"), rng.integers(0, 256, (64, 32, 3), np.uint8))
    table(root, [(name, *CAMERAS[i % 4]) for i, name in enumerate("abcdefgh")])
    return root


def table(root, rows):
    (root / "tracklets.csv").write_text(HEAD + "".join(f"{','.join(map(str, row))}\n" for row in rows))


def add_row(root, row):
    with open(root / "tracklets.csv", "a", newline="") as file:
        file.write(row)


def outside(tmp_path):
    return {str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "run")}


def truncated(root):
    path = root / "c" / "2.jpg"
    path.write_bytes(path.read_bytes()[:-50])


FOLDER = [
    (truncated, r"frame .*data/c/2.jpg is cut short: restore it, or set data.allow_missing"),
    (lambda root: (root / "c/2.jpg").write_bytes(b""), r"1 listed frames are missing or empty .*first c/2.jpg"),
    (
        lambda root: (root / "c/2.jpg").write_bytes(huge_png(20_000, 20_000)),
        r"frame .*data/c/2.jpg is 20,000 x 20,000 pixels",
    ),
    (lambda root: add_row(root, "i,rgb\n"), r"tracklets.csv:10: 2 fields instead of 3"),
    (lambda root: add_row(root, "i,rgb,-2\n"), r"tracklets.csv:10: camera '-2'"),
    (lambda root: add_row(root, "a,rgb,2\n"), r"tracklets.csv:10: tracklet 'a' is already on line 2"),
    (lambda root: add_row(root, "i,rgb,2\r"), r"tracklets.csv:10: folder .*data/i cannot be read"),
    (lambda root: ((root / "i").mkdir(), add_row(root, "i,rgb,2\n")), r"tracklets.csv:10: folder 'i' holds no jpg"),
    (lambda root: add_row(root, "../data/a,rgb,2\n"), r"tracklets.csv:10: '../data/a' is not a path below"),
    (lambda root: os.remove(root / "tracklets.csv"), r"there is no table .*tracklets.csv"),
]


@pytest.mark.parametrize(("harm", "message"), FOLDER)
def test_bad_own_data_is_one_sentence(data, tmp_path, command, harm, message):
    harm(data)
    before = outside(tmp_path)
    code, lines = command("--mode=pack", f"--config.data.packed={tmp_path}/run/packed", "--config.data.jobs=1")
    assert code == 1
    assert lines[-1].startswith("error: "), lines
    assert re.search(message, lines[-1]), lines
    assert outside(tmp_path) == before
    assert not (tmp_path / "run" / "packed").exists()
    assert not (tmp_path / "run" / "packed.partial").exists()


def test_every_missing_frame_is_listed_where_there_are_several(data, tmp_path, command):
    """One alone is in the sentence and gets no file."""
    gone = ["b/1.jpg", "c/0.jpg", "c/2.jpg"]
    (data / "c/2.jpg").write_bytes(b"")
    code, (*_, last) = command()
    assert code == 1
    assert last.endswith("first c/2.jpg: complete the copy, or set data.allow_missing")
    assert not (tmp_path / "run/missing.txt").exists()
    for frame in gone:
        (data / frame).write_bytes(b"")
    code, (*_, last) = command()
    assert code == 1
    assert re.search(rf"3 listed .*data.allow_missing; {tmp_path}/run/missing.txt lists all 3 files$", last), last
    assert (tmp_path / "run/missing.txt").read_text().splitlines() == gone


VCM = [
    ({"track_train_info": ["2 1 24 1 3", "1 25 4x 1 3"]}, r"track_train_info.txt:2: .*five integers"),
    ({"track_train_info": ["2 1 24 1 3", "1 25 49 1 3"]}, r"track_train_info.txt:2: rows 25 to 49 are not a range"),
    ({"track_test_info": ["2 1 24 502 3", "", "1 25 48 502 3"]}, r"track_test_info.txt:2: '' is not five integers"),
    ({"track_train_info": ["2 1 24 1 3"] * 2}, r"track_train_info.txt:2: the row .* is that of line 1"),
    ({"track_train_info": ["2 1 24 1"]}, r"track_train_info.txt:1: .*five integers"),
    (
        {"track_train_info": ["2 1 24 1 3", "1 25 48 1 99"]},
        r"track_train_info.txt:2: camera 99 is in no name of train_name.txt: correct the row, or restore both files",
    ),
    (
        {"track_test_info": ["2 1 24 502 0", "1 25 48 502 3"]},
        r"track_test_info.txt:1: camera 0 is in no name of test_name.txt: correct the row",
    ),
    ({"train_name": ["../../0001M2D3T1F1.jpg"]}, r"train_name.txt:1: .*is not a frame name"),
    ({"query_IDX": ["2", "9"]}, r"query_IDX.txt:2: row 9 is not one of the 4"),
]


@pytest.mark.parametrize(("changes", "message"), VCM)
def test_a_bad_index_of_hitsz_vcm_is_one_sentence(tmp_path, command, changes, message):
    (tmp_path / "data" / "info").mkdir(parents=True)
    for name, lines in FILES.items():
        text = "\r\n".join(changes.get(name.removesuffix(".txt"), lines)) + "\r\n"
        (tmp_path / "data" / "info" / name).write_bytes(text.encode())
    code, lines = command(config="vcm")
    assert code == 1
    assert lines[-1].startswith("error: ")
    assert re.search(message, lines[-1]), lines


def test_a_folder_without_permission_is_named(data, tmp_path, command, monkeypatch):
    """As root every folder opens, so the test refuses instead of the system."""
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("data/c"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    code, lines = command()
    assert code == 1
    assert re.match("error: .*tracklets.csv:4: folder .*Permission denied", lines[-1])


SMALL = [
    f"--config.{field}={value}"
    for field, value in {
        "train.epochs": 1,
        "train.steps_per_epoch": 1,
        "batch.tracklets_per_modality": 2,
        "batch.clip_length": 2,
        "prototypes.parts": 2,
        "prototypes.clip_length": 2,
        "prototypes.batch_size": 4,
        "init.weights": "",
        "optim.warmup_steps": 1,
        "data.min_frames": 2,
    }.items()
]


@pytest.mark.slow
def test_one_camera_without_labels_trains_and_says_what_is_missing(data, tmp_path, command):
    table(data, [(name, "rgb", 1) for name in "abcdefgh"])
    before = outside(tmp_path)
    code, lines = command(*SMALL)
    assert code == 0, lines
    notes = [line for line in lines if line.startswith("note: ")]
    expected = ("random weights", "no labelled query and gallery, so nothing is scored", "so level 3", "so level 2")
    assert len(notes) == 4
    assert all(note in line for note, line in zip(expected, notes, strict=True))
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == {"protocol": "none", "step": 1}
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in metrics for name in line}
    assert "bank/reliability" in names
    assert not any(name.startswith("eval/") for name in names)
    assert outside(tmp_path) == before
    code, lines = command("--mode=eval", *SMALL)
    assert code == 1
    assert "has no labelled query and gallery to score" in lines[-1]
