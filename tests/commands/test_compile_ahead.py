"""--topology: a run compiled for devices that are not here."""

import os
import subprocess
import sys

import pytest

from hitpro_jax.commands.compile_ahead import devices_of
from tests.runs import OVERRIDES, REPO


@pytest.mark.parametrize("name", ["v5e", "v5e-3", "v9-8", "v5p-8", "v5e:2by2", "../v5e:2x2"])
def test_an_unknown_topology_is_refused(name):
    with pytest.raises(ValueError, match="--topology=.* is not known: give v5e-N or v6e-N with N of 1, 4, 8"):
        devices_of(name, print)


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "hitpro_jax.main",
        f"--config={REPO / 'configs' / 'synthetic.py'}",
        *arguments,
        *(f"--config.{field}={value}" for field, value in OVERRIDES.items()),
    ]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=REPO,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
def test_a_run_is_compiled_for_more_devices_than_there_are_without_data(tmp_path):
    done = run("--mode=check", "--topology=v5e-4", f"--workdir={tmp_path}", "--config.data.root=/nowhere")
    assert done.returncode == 0, done.stderr
    figures = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if len(line.rsplit(maxsplit=1)) == 2)
    figures = {name.strip(): value for name, value in figures.items()}
    assert figures["devices"] == "4"
    assert float(figures["step GFLOP"]) > 0
    assert float(figures["step all-reduces"]) > 0
    assert float(figures["refresh collective-permutes"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode=train", "--topology=v5e-4"), "--topology belongs to --mode=check: give that with it"),
        (("--mode=check", "--topology=v5e-256"), "a batch of 8 clips cannot be cut over 256 devices"),
    ],
)
def test_faulty_requests_are_refused(tmp_path, arguments, message):
    done = run(*arguments, f"--workdir={tmp_path}")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
