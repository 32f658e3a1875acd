"""Checkpoints: exact, checked, kept and refused as promised, through damage, kills and other device counts."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hitpro_jax import checkpoint, sharding
from tests.runs import free_port

CONFIG = {"optim": {"learning_rate": 0.1, "groups": ()}, "data": {"workers": 2}, "sizes": (288, 144), "log_every": 50}


def state_of(step: int) -> dict:
    """A state as training has it: nested, optimiser NamedTuples, bf16, scalars, padding, empty tables, a None."""
    rng = np.random.default_rng(step)
    params = {"kernel": jnp.asarray(rng.normal(size=(64, 32)), jnp.float32), "bias": jnp.ones(3, jnp.bfloat16)}
    return {
        "params": params,
        "opt": optax.adam(0.1).init(params),
        "step": jnp.int32(step),
        "ema": None,
        "bank": (jnp.asarray(rng.normal(size=(40, 50)), jnp.float32), jnp.array([True, False])),
        "ignore": jnp.zeros((40, 0), jnp.int32),
        "threshold": jnp.array([jnp.nan, 0.5]),
    }


def target() -> dict:
    return checkpoint.abstract(state_of(0), sharding.replicated(sharding.make_mesh()))


def assert_same(actual: dict, wanted: dict):
    assert jax.tree.structure(actual) == jax.tree.structure(wanted)
    for a, w in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == w.dtype
        np.testing.assert_array_equal(a, w)


def save(directory, *steps: int, **keywords):
    with checkpoint.Checkpointer(directory, **keywords) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"epoch": step})


def restore(directory, **keywords):
    with checkpoint.Checkpointer(directory, **keywords) as checkpoints:
        return checkpoints.restore_latest(target())


def data_file(directory, step: int):
    """The file that holds the arrays of a checkpoint."""
    return max((directory / str(step)).rglob("d/*"), key=lambda path: path.stat().st_size)


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def test_round_trip_is_exact_in_values_dtypes_and_tree(tmp_path):
    save(tmp_path, 7)
    state, meta, step = restore(tmp_path)
    assert (meta, step) == ({"epoch": 7}, 7)
    assert_same(state, state_of(7))


def test_nothing_saved_gives_none(tmp_path):
    assert restore(tmp_path / "new") is None
    assert restore(tmp_path / "none", read_only=True) is None
    assert not (tmp_path / "none").exists()


def test_the_newest_two_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5)
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4, 5]


def test_donating_the_state_after_save_does_not_touch_the_checkpoint(tmp_path):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        state = state_of(1)
        checkpoints.save(1, state)
        spoil(state)
    assert_same(restore(tmp_path)[0], state_of(1))


@pytest.mark.parametrize(
    "damage", [flip_a_byte, truncate, lambda path: path.write_bytes(b"")], ids=["flipped byte", "truncated", "empty"]
)
def test_damaged_newest_is_named_and_the_one_before_is_used(tmp_path, damage):
    save(tmp_path, 1, 2)
    damage(data_file(tmp_path, 2))
    logged = []
    state, meta, step = restore(tmp_path, log=logged.append)
    assert (meta["epoch"], step) == (1, 1)
    assert_same(state, state_of(1))
    assert len(logged) == 1
    assert f"checkpoint {tmp_path}/2 is damaged" in logged[0]
    assert "\n" not in logged[0]


def test_a_damaged_checkpoint_counts_as_none_of_those_kept(tmp_path):
    save(tmp_path, 1, 2)
    flip_a_byte(data_file(tmp_path, 2))
    with checkpoint.Checkpointer(tmp_path, log=lambda _: None) as checkpoints:
        checkpoints.restore_latest(target())
        checkpoints.save(3, state_of(3))
        checkpoints.wait()
        assert checkpoints.steps() == [1, 3]


def test_altered_record_is_damage(tmp_path):
    save(tmp_path, 1, 2)
    record = tmp_path / "2/record/metadata"
    text = record.read_text()
    assert '\\"epoch\\": 2' in text
    record.write_text(text.replace('\\"epoch\\": 2', '\\"epoch\\": 9'))
    assert restore(tmp_path, log=lambda _: None)[1:] == ({"epoch": 1}, 1)


def test_empty_folder_of_a_step_is_damage(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "5").mkdir()
    assert restore(tmp_path, log=lambda _: None)[2] == 1


def test_all_damaged_is_an_error_with_the_next_thing_to_do(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        flip_a_byte(data_file(tmp_path, step))
    with pytest.raises(ValueError, match=r"steps \[2, 1\] are all damaged: remove the folder"):
        restore(tmp_path, log=lambda _: None)


def test_nobody_is_asked_to_remove_a_folder_that_is_only_read(tmp_path):
    (tmp_path / "4").mkdir()
    with (
        checkpoint.Checkpointer(tmp_path, read_only=True) as checkpoints,
        pytest.raises(ValueError, match=r"steps \[4\] are all damaged: choose another workdir"),
    ):
        checkpoints.restore_latest(state_of(1))


def test_saving_an_existing_step_replaces_it_and_what_came_after(tmp_path):
    save(tmp_path, 1, 2, keep=3)
    flip_a_byte(data_file(tmp_path, 2))
    with checkpoint.Checkpointer(tmp_path, keep=3) as checkpoints:
        checkpoints.save(1, state_of(8), {"epoch": 8})
        assert checkpoints.steps() == [1]
    state, meta, _ = restore(tmp_path)
    assert meta == {"epoch": 8}
    assert_same(state, state_of(8))


def test_one_session_saves_restores_and_saves_again(tmp_path):
    """A resumed run restores first and then saves; a run may also go back to what it has just saved."""
    save(tmp_path, 1)
    for first in (2, 4):
        with checkpoint.Checkpointer(tmp_path) as checkpoints:
            assert checkpoints.restore_latest(target())[2] == first - 1
            for step in (first, first + 1):
                checkpoints.save(step, state_of(step))
                checkpoints.wait()
                assert_same(checkpoints.restore_latest(target())[0], state_of(step))


def test_reading_only_leaves_the_folder_as_it_is(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert restore(tmp_path, read_only=True)[2] == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_foreign_config_is_refused_with_the_fields_that_differ(tmp_path):
    save(tmp_path, 1, config=CONFIG)
    assert restore(tmp_path, config=CONFIG)[2] == 1
    assert restore(tmp_path)[2] == 1
    harmless = CONFIG | {"log_every": 1, "data": {"workers": 0}}
    assert restore(tmp_path, config=harmless, ignore=("log_every", "data"))[2] == 1
    foreign = harmless | {"optim": {"learning_rate": 0.2, "groups": ()}, "sizes": (96, 48)}
    with pytest.raises(
        ValueError,
        match=r"another config \(optim.learning_rate: saved 0.1, now 0.2; sizes: saved "
        r"\[288, 144\], now \[96, 48\]\)",
    ):
        restore(tmp_path, config=foreign, ignore=("log_every", "data.workers"))


def test_config_differences():
    differ = checkpoint.config_differences
    assert differ(CONFIG, {**CONFIG, "sizes": [288, 144]}) == []
    assert differ({"a": {}}, {"a": {"b": 1}}) == ["a: saved {}, now nothing", "a.b: saved nothing, now 1"]
    assert differ({"log": 1}, {"log": 2, "logger": 3}, ignore=("log",)) == ["logger: saved nothing, now 3"]


def test_another_model_is_refused_by_leaf_not_taken_for_damage(tmp_path):
    save(tmp_path, 1)
    other = target()
    other["params"]["kernel"] = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    with (
        checkpoint.Checkpointer(tmp_path) as checkpoints,
        pytest.raises(ValueError, match=r"\['params'\]\['kernel'\]: saved float32\[64, 32\], now float32\[64, 16\]"),
    ):
        checkpoints.restore_latest(other)


def test_partial_reads_only_the_wanted_arrays_and_checks_them(tmp_path):
    save(tmp_path, 1, 2)
    part = {name: target()[name] for name in ("params", "ignore")}
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        state, _, step = checkpoints.restore_latest(part, partial=True)
        assert step == 2
        assert_same(state, {name: state_of(2)[name] for name in part})
        with pytest.raises(ValueError, match=r"\['bank'\]\[0\]: saved float32\[40, 50\], now nothing"):
            checkpoints.restore_latest(part)
        with pytest.raises(ValueError, match=r"\['head'\]: saved nothing, now float32\[2\]"):
            checkpoints.restore_latest(part | {"head": jax.ShapeDtypeStruct((2,), jnp.float32)}, partial=True)


def test_a_table_is_read_to_the_host_without_the_rows_that_filled_it_up(tmp_path):
    save(tmp_path, 1)
    table = checkpoint.Table((30, 50), np.float32)
    bank = np.asarray(state_of(1)["bank"][0])
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        state, _, _ = checkpoints.restore_latest({"bank": (table, None)}, partial=True)
        assert isinstance(state["bank"][0], np.ndarray)
        np.testing.assert_array_equal(state["bank"][0], bank[:30])
        for shape in ((41, 50), (30, 49)):  # more rows than are stored, and another width
            with pytest.raises(ValueError, match=r"\['bank'\]\[0\]: saved float32\["):
                checkpoints.restore_latest({"bank": (checkpoint.Table(shape, np.float32), None)}, partial=True)
        with pytest.raises(ValueError, match=r"saved float32\[40, 50\], now float32\[30, 50\]"):  # no table
            checkpoints.restore_latest({"bank": (jax.ShapeDtypeStruct((30, 50), np.float32), None)}, partial=True)


def test_damage_in_the_rows_that_are_left_out_is_damage(tmp_path):
    noise = np.random.default_rng(0).random((2000, 50), np.float32)
    with checkpoint.Checkpointer(tmp_path, log=lambda _: None) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"bank": noise})
        checkpoints.wait()
        flip_a_byte(data_file(tmp_path, 2))
        assert checkpoints.restore_latest({"bank": checkpoint.Table((1, 50), np.float32)})[2] == 1


def test_the_target_may_depend_on_what_is_saved_and_refuse_it(tmp_path):
    save(tmp_path, 1, 2, config=CONFIG)
    seen = []

    def wanted(saved):
        seen.append(saved)
        if saved.meta["epoch"] == 9:
            raise ValueError("not this one")
        return target()

    with checkpoint.Checkpointer(tmp_path, config=CONFIG) as checkpoints:
        assert checkpoints.restore_latest(wanted)[2] == 2
        (saved,) = seen
        assert (saved.step, saved.meta, saved.config["log_every"]) == (2, {"epoch": 2}, 50)
        assert saved.leaves["['bank'][0]"] == "float32[40, 50]"
        checkpoints.save(3, state_of(3), {"epoch": 9})
        checkpoints.wait()
        with pytest.raises(ValueError, match="not this one"):
            checkpoints.restore_latest(wanted)


ELSEWHERE = """
import sys, jax, numpy as np
from absl import app
from hitpro_jax import checkpoint, distributed, sharding

def main(argv):
    action, folder, devices, *joining = argv[1:]
    if joining:
        distributed.start(joining[0], 2, int(joining[1]))
    mesh, rng = sharding.make_mesh(), np.random.default_rng(0)
    assert mesh.size == int(devices)
    host = {"bank": rng.random((16, 5), np.float32), "kernel": rng.random((256, 512), np.float32), "step": np.int32(3)}
    where = {"bank": sharding.row_sharding(mesh), "step": sharding.replicated(mesh),
             "kernel": sharding.parameter_sharding(host["kernel"], mesh, cut=True)}
    if action == "save":
        with checkpoint.Checkpointer(folder) as checkpoints:
            checkpoints.save(3, jax.device_put(host, where))
    with checkpoint.Checkpointer(folder, read_only=True) as checkpoints:
        state, _, step = checkpoints.restore_latest(checkpoint.abstract(host, where))
    assert step == 3
    for name, array in state.items():
        assert array.sharding == where[name] and array.dtype == host[name].dtype
        assert len(array.addressable_shards) == jax.local_device_count()
        for shard in array.addressable_shards:
            np.testing.assert_array_equal(shard.data, host[name][shard.index])
    assert state["kernel"].addressable_data(0).size == 256 * 512 // mesh.size
    sharding.ROWS_PER_GATHER = 3  # rows: two and two thirds of the bank's part of one of two processes
    jax.tree.map(np.testing.assert_array_equal, sharding.fetch(state), host)

app.run(main)
"""


def elsewhere(*arguments, devices: int) -> subprocess.Popen:
    """A process of its own that saves and restores, or only restores, on so many devices."""
    return subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, *map(str, arguments)],
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def from_eight_devices(tmp_path_factory):
    """A checkpoint saved, and restored, by a process with eight devices."""
    folder = tmp_path_factory.mktemp("eight")
    process = elsewhere("save", folder, 8, devices=8)
    printed, _ = process.communicate(timeout=900)
    assert (process.returncode, printed) == (0, ""), "Orbax's log is to stay off the terminal"
    return folder


@pytest.mark.parametrize("devices", [1, 4])
def test_saved_on_eight_devices_restored_on_others(from_eight_devices, devices):
    process = elsewhere("restore", from_eight_devices, devices, devices=devices)
    printed, _ = process.communicate(timeout=900)
    assert process.returncode == 0, printed


@pytest.mark.slow
def test_saved_on_eight_devices_restored_by_two_processes(from_eight_devices):
    address = f"127.0.0.1:{free_port()}"
    processes = [elsewhere("restore", from_eight_devices, 4, address, number, devices=2) for number in range(2)]
    printed = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed


def save_and_wait(checkpoints: checkpoint.Checkpointer, step: int, state: dict) -> None:
    checkpoints.save(step, state)
    checkpoints.wait()


def test_a_full_disk_is_reported_and_leaves_earlier_checkpoints(tmp_path):
    """A limit on the size of files fails a write as a full disk does: with an error of its own kind, in a thread."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = jnp.asarray(np.random.default_rng(0).random((200, 1000)), jnp.float32)  # noise: it does not compress
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1), {"epoch": 1})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        try:
            with pytest.raises(OSError, match=rf"checkpoint to {tmp_path} \(File too large.*\): make room there"):
                save_and_wait(checkpoints, 2, {"bank": large})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert checkpoints.steps() == [1]
    state, meta, step = restore(tmp_path)
    assert (meta, step) == ({"epoch": 1}, 1)
    assert_same(state, state_of(1))
    save(tmp_path, 2)
    assert_same(restore(tmp_path)[0], state_of(2))


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    (tmp_path / "7").mkdir()
    checkpoint.require_writable(tmp_path)
    checkpoint.require_writable(tmp_path / "new" / "checkpoints")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["7", "checkpoints", "new"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EACCES, "get the right to write there, or choose another --workdir"),
        (errno.EPERM, "get the right to write there"),
        (errno.EROFS, "get the right to write there"),
        (errno.EIO, "mend that, or choose another --workdir"),
    ],
)
@pytest.mark.parametrize("what", ["mkdir", "file"])
def test_a_folder_that_cannot_be_written_is_named_with_its_own_remedy(tmp_path, monkeypatch, number, remedy, what):
    """As root every folder opens, so the test refuses instead of the system."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(
        *((checkpoint.Path, "mkdir") if what == "mkdir" else (checkpoint.tempfile, "NamedTemporaryFile")), refuse
    )
    with pytest.raises(checkpoint.SaveError) as error:
        checkpoint.require_writable(tmp_path)
    assert f"cannot write a checkpoint to {tmp_path} ({os.strerror(number)}): {remedy}" in str(error.value)


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_permission_is_named(tmp_path, there):
    """As another user where the test is run by root, whom no permission binds."""
    folder = tmp_path / "checkpoints"
    if there:
        folder.mkdir()
    (folder if there else tmp_path).chmod(0o555)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        with pytest.raises(
            checkpoint.SaveError, match=r"\(Permission denied\): get the right to write there, or choose"
        ):
            checkpoint.require_writable(folder)
    finally:
        os.seteuid(before)
        tmp_path.chmod(0o755)


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    for folder in (tmp_path / "checkpoints", tmp_path / "checkpoints" / "below"):
        with pytest.raises(checkpoint.SaveError, match="remove the file that stands in the place of a folder"):
            checkpoint.require_writable(folder)


UNWRITABLE = """
import shutil, sys, jax.numpy as jnp
from pathlib import Path
from hitpro_jax import checkpoint
from hitpro_jax.command_line import failures_reported
from hitpro_jax.workdir import Workdir

folder = Path(sys.argv[1]) / "checkpoints"
with Workdir(sys.argv[1]) as workdir, failures_reported(workdir):
    with checkpoint.Checkpointer(folder) as checkpoints:
        shutil.rmtree(folder)
        folder.write_text("")
        checkpoints.save(1, {"x": jnp.ones(3)})
"""


@pytest.mark.slow
def test_a_folder_that_goes_away_ends_the_process_at_once(tmp_path):
    """Threads of Orbax wait five minutes for the folder of the step, which could not be made."""
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE, tmp_path], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "(Not a directory): remove the file that stands in the place of a folder" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


ENDLESS = """
import sys, jax.numpy as jnp
from hitpro_jax import checkpoint

with checkpoint.Checkpointer(sys.argv[1]) as checkpoints:
    for step in range(1, 1000):
        checkpoints.save(step, {"x": jnp.full((4000, 5000), step, jnp.int32)})
"""


@pytest.mark.slow
def test_killed_in_mid_save_the_finished_one_counts(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path])
    deadline = time.monotonic() + 120
    while not ((tmp_path / "1").exists() and any(tmp_path.glob("*.orbax-checkpoint-tmp"))):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert any(tmp_path.glob("*.orbax-checkpoint-tmp")), "killed too late to be in mid-save"
    with checkpoint.Checkpointer(tmp_path) as checkpoints:
        wanted = checkpoint.abstract(
            {"x": jnp.zeros((4000, 5000), jnp.int32)}, jax.sharding.SingleDeviceSharding(jax.devices()[0])
        )
        state, _, step = checkpoints.restore_latest(wanted)
        np.testing.assert_array_equal(state["x"], np.full((4000, 5000), step))
        checkpoints.save(step + 1, state)
    assert not any(tmp_path.glob("*.orbax-checkpoint-tmp"))


TWO_PROCESSES = """
import sys
from pathlib import Path
import jax, numpy as np
port, process, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
from hitpro_jax import checkpoint, sharding
from hitpro_jax.workdir import Workdir

mesh = sharding.make_mesh()
rows = np.arange(30_000, dtype=np.float32).reshape(6, 5000)
state = {"bank": sharding.to_global(rows[3 * process:3 * process + 3], mesh),
         "params": jax.device_put(np.ones(4, np.float32), sharding.replicated(mesh))}
wanted = checkpoint.abstract(state, {"bank": sharding.row_sharding(mesh), "params": sharding.replicated(mesh)})
logged = []
with Workdir(folder / f"run{process}") as workdir, checkpoint.Checkpointer(
        folder / "checkpoints", log=logged.append) as checkpoints:
    workdir.metrics(0, {"a": 1})
    for step in (1, 2):
        checkpoints.save(step, state, {"epoch": step})
    checkpoints.wait()
    if process == 0:
        file = max((folder / "checkpoints/2").rglob("d/*"), key=lambda path: path.stat().st_size)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    jax.experimental.multihost_utils.sync_global_devices("damaged")
    restored, meta, step = checkpoints.restore_latest(wanted)
    assert (meta, step, len(logged)) == ({"epoch": 1}, 1, 1), (meta, step, logged)
    np.testing.assert_array_equal(restored["bank"].addressable_data(0), rows[3 * process:3 * process + 3])
"""


@pytest.mark.slow
def test_two_processes_agree_and_one_restores_what_they_saved(tmp_path):
    port = str(free_port())
    runs = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, port, str(process), tmp_path]) for process in range(2)
    ]
    try:
        assert [run.wait(timeout=900) for run in runs] == [0, 0]
    finally:
        for run in runs:
            run.kill()
    assert (tmp_path / "run0/metrics.jsonl").exists()
    assert not (tmp_path / "run1").exists()
    wanted = {"bank": np.arange(30_000, dtype=np.float32).reshape(6, 5000), "params": np.ones(4, np.float32)}
    with checkpoint.Checkpointer(tmp_path / "checkpoints", log=lambda _: None) as checkpoints:
        state, _, _ = checkpoints.restore_latest(checkpoint.abstract(wanted, sharding.replicated(sharding.make_mesh())))
    assert_same(state, wanted)
