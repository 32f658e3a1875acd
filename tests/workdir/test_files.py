"""The files of a run: valid at every moment, whole after a kill, and readable without JAX."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.workdir import Workdir, files
from hitpro_jax.workdir.files import Files
from tests.workdir.conftest import SCORES


def lines_of(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_plain_json_at_once(workdir):
    workdir.metrics(3, {"train/loss": jnp.float32(0.5), "train/rows": np.int32(7), "a/nan": np.nan, "a/inf": -np.inf})
    assert lines_of(workdir) == [{"step": 3, "train/loss": 0.5, "train/rows": 7, "a/nan": None, "a/inf": None}]


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    with Workdir(tmp_path / "straight") as straight:
        for step in range(6):
            straight.metrics(step, {"train/loss": 1 / (step + 1)})
    killed = Workdir(tmp_path / "killed")
    for step in range(5):
        killed.metrics(step, {"train/loss": 1 / (step + 1)})
    with open(tmp_path / "killed/metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    with Workdir(tmp_path / "killed") as resumed:
        resumed.rewind(2)
        for step in range(3, 6):
            resumed.metrics(step, {"train/loss": 1 / (step + 1)})
    found = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("straight", "killed")]
    assert found[0] == found[1]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["metrics.jsonl"]


def test_rewind_from_scratch_drops_everything_and_needs_no_file(workdir):
    workdir.rewind(-1)
    workdir.metrics(0, {"a": 1})
    workdir.rewind(-1)
    assert lines_of(workdir) == []


def test_config_and_result_are_files_of_valid_json(workdir, result):
    workdir.config({"seed": 1, "size": (288, 144)})
    result.step = np.int64(300)
    workdir.result(result)
    assert json.loads((workdir.path / "config.json").read_text()) == {"seed": 1, "size": [288, 144]}
    assert json.loads((workdir.path / "result.json").read_text()) == {
        "protocol": "HITSZ-VCM",
        "step": 300,
        "i2v": SCORES,
        "v2i": SCORES | {"mAP": None},
    }


def test_the_result_of_a_checkpoint_has_its_step_for_a_name(workdir, result):
    workdir.evaluation(result)
    result.step = 600
    workdir.evaluation(result)
    assert sorted(path.name for path in (workdir.path / "eval").iterdir()) == ["300.json", "600.json"]
    text = (workdir.path / "eval" / "300.json").read_text()
    assert text.startswith('{\n  "protocol": "HITSZ-VCM",\n  "step": 300,\n  "i2v": {\n    "rank1": 50.0,')
    assert text.endswith("}\n")


def test_a_crash_while_writing_leaves_the_old_result(workdir, monkeypatch, result):
    result.step = 1
    workdir.result(result)

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", die)
    result.step = 2
    with pytest.raises(OSError, match="disk full"):
        workdir.result(result)
    assert json.loads((workdir.path / "result.json").read_text())["step"] == 1


def test_two_trainings_cannot_share_a_workdir(tmp_path):
    first, second = Workdir(tmp_path), Workdir(tmp_path)
    with first.exclusive(), pytest.raises(ValueError, match="another process is training in"), second.exclusive():
        pass
    with second.exclusive():
        pass


def test_files_are_written_and_read_without_jax(tmp_path):
    code = """
import sys
from hitpro_jax.workdir import console, environment, files
files.Files(sys.argv[1]).metrics(1, {"a": 2})
assert environment.version("numpy") and environment.processor()
assert "jax" not in sys.modules, "jax was imported"
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "run"], check=True)
    assert lines_of(Files(tmp_path / "run")) == [{"step": 1, "a": 2}]
