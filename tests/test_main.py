"""`python -m hitpro_jax.main`: what it refuses before a run is opened, and that errors are one sentence."""

import re
import subprocess
import sys

import pytest
from absl import app, flags

from hitpro_jax import main
from hitpro_jax.commands import COMMANDS
from tests.settings import ROOT


def test_unknown_arguments_are_named():
    with pytest.raises(app.UsageError, match="unknown arguments on the command line: train fast"):
        main.main(["main", "train", "fast"])


def test_every_mode_can_be_asked_for_and_is_explained():
    flag = flags.FLAGS["mode"]
    assert flag.parser.enum_values == list(COMMANDS)
    assert flag.default == "train"
    for mode in COMMANDS:
        assert re.search(rf"\b{mode}\b", flag.help)


def test_flags_of_several_processes_belong_together(command_line, tmp_path):
    command_line(f"--config={ROOT}/configs/synthetic.py", f"--workdir={tmp_path}/run", "--coordinator=127.0.0.1:1")
    with pytest.raises(SystemExit, match="^error: --coordinator, --processes and --process belong together: give all"):
        main.main(["main"])
    assert not (tmp_path / "run").exists()


def test_a_config_that_is_not_there_is_an_error():
    run = subprocess.run(
        [sys.executable, "-m", "hitpro_jax.main", "--config=nope.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(
        r"error: --config cannot be read \(.*No such file or directory: 'nope.py'\): give a file of "
        r"configs/\n",
        run.stderr,
    )


def test_command_line_reports_errors_in_one_sentence(tmp_path):
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "hitpro_jax.main",
            f"--config={ROOT / 'configs' / 'vcm.py'}",
            f"--workdir={tmp_path}",
            f"--config.data.root={tmp_path / 'nothing'}",
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 1
    assert process.stdout.splitlines()[-1].startswith("error: ")
    assert "nothing" in process.stdout
    assert "Traceback" not in process.stdout + process.stderr
