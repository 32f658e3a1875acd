"""Several real processes on this machine, joined by JAX's own runtime, against one process."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.test_train import OVERRIDES, REPO, lines, world  # noqa: F401 - world is a fixture

PLAIN = {"optim.name": "sgd", "optim.learning_rate": 0.002}  # Adam's first steps are signs: they blow rounding up


def command(world: str, workdir: Path, *words: str, **overrides) -> list[str]:  # noqa: F811
    fields = {**OVERRIDES, "data.root": world, "batch.tracklets_per_modality": 4, **PLAIN, **overrides}
    return [sys.executable, "-m", "hitpro_jax.main", f"--config={REPO / 'configs' / 'synthetic.py'}",
            f"--workdir={workdir}", *(f"--config.{name}={value}" for name, value in fields.items()), *words]


def run(processes: int, world: str, workdir: Path, **overrides) -> None:  # noqa: F811
    """The command on 4 devices in all, shared by that many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(4 // processes)}
    joined = [[place, f"--processes={processes}", f"--process={i}"] if processes > 1 else [] for i in range(processes)]
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(processes)]
        running = [subprocess.Popen(command(world, workdir, *flags, **overrides), cwd=REPO, env=environment,
                                    stdout=log, stderr=log) for flags, log in zip(joined, logs, strict=True)]
        for process in running:
            stack.callback(process.kill)
        codes = [process.wait(timeout=900) for process in running]
        for log in logs:
            log.seek(0)
        assert codes == [0] * processes, "".join(log.read()[-3000:] for log in logs)


def arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, as host arrays."""
    step = max(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    reader, place = ocp.PyTreeCheckpointer(), (workdir / "checkpoints" / str(step) / "state").absolute()
    tree = reader.metadata(place).item_metadata.tree
    return reader.restore(place, restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree))


def assert_same_run(workdir: Path, other: Path):
    """The same positives; losses and figures to 0.1 %, arrays to 0.5 % of their largest entry.

    Sums are taken in another order, which can turn a ReLU over; the optimiser's running gradients show every such
    turn (2 % seen) and are left out.
    """
    ours, theirs = arrays(workdir), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if name.startswith(".opt_state"):
            continue
        if value.dtype.kind in "iu":
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
        else:
            np.testing.assert_allclose(value, theirs[name], atol=0.005 * np.abs(value).max(initial=0), err_msg=name)
    ours, theirs = lines(workdir), lines(other)
    assert [m.keys() for m in ours] == [m.keys() for m in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(yours, rel=1e-3, abs=1e-3)
    mine, yours = (json.loads((w / "result.json").read_text()) for w in (workdir, other))
    for direction in ("i2v", "v2i"):
        assert mine[direction] == pytest.approx(yours[direction], abs=0.2)


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory) -> Path:  # noqa: F811
    workdir = tmp_path_factory.mktemp("alone") / "run"
    run(1, world, workdir)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2])
def test_many_processes_are_one_run(alone, world, tmp_path, processes):  # noqa: F811
    run(processes, world, tmp_path / "run")
    assert_same_run(tmp_path / "run", alone)
