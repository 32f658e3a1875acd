"""Processes of one run: how they join, take turns, stop when they are asked to, and end together."""

import os
import signal
import subprocess
import sys

import jax
import pytest

from hitpro_jax import distributed
from hitpro_jax.distributed import Preempted, Preemption, first_process_first
from tests.runs import REPO, free_port

ALL = {"coordinator": "127.0.0.1:1", "processes": 2, "process": 0}


@pytest.mark.parametrize("missing", ALL)
def test_flags_of_several_processes_are_given_together(missing, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", None)
    with pytest.raises(ValueError, match="--coordinator, --processes and --process belong together: give all three"):
        distributed.start(**{**ALL, missing: None})


@pytest.fixture
def joined(monkeypatch):
    """Arguments with which JAX was asked to join other processes."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr(distributed, "_on_tpu_vm", lambda: False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    return calls


def test_a_process_alone_joins_nothing(joined):
    distributed.start(None, None, None)
    assert joined == []


def test_the_first_process_is_a_process_too(joined):
    """Its number 0 is not "not given"."""
    distributed.start(*ALL.values())
    assert joined == [(("127.0.0.1:1", 2, 0), {"cluster_detection_method": "deactivate"})]


@pytest.mark.parametrize(("tasks", "joins"), [("1", []), ("2", [((), {})])])
def test_within_slurm_several_tasks_join(joined, monkeypatch, tasks, joins):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
    distributed.start(None, None, None)
    assert joined == joins


def test_a_machine_of_a_tpu_pod_joins(joined, monkeypatch):
    monkeypatch.setattr(distributed, "_on_tpu_vm", lambda: True)
    distributed.start(None, None, None)
    assert joined == [((), {})]


@pytest.mark.parametrize(("process", "order"), [(0, ["works", "meets"]), (1, ["meets", "works"])])
def test_the_first_process_goes_first(process, order, monkeypatch):
    happened = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(distributed.multihost_utils, "sync_global_devices", lambda _: happened.append("meets"))
    with first_process_first():
        happened.append("works")
    assert happened == order


def test_an_error_of_the_first_process_does_not_keep_the_others_waiting(monkeypatch):
    met = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed.multihost_utils, "sync_global_devices", met.append)
    with pytest.raises(OSError, match="full"), first_process_first():
        raise OSError("full")
    assert len(met) == 1


def test_sigterm_is_noticed_once_and_then_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with Preemption() as preemption:
        assert not preemption.reached(3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preemption.asked
        assert preemption.reached(4)
        assert signal.getsignal(signal.SIGTERM) == before  # a second one ends the process
    with Preemption() as again:
        assert not again.asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_several_processes_agree_by_jax_on_the_step(monkeypatch):
    before, steps = signal.getsignal(signal.SIGTERM), []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        distributed.multihost_utils, "reached_preemption_sync_point", lambda step: steps.append(step) or step == 5
    )
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGTERM) == before  # JAX watches
        assert [preemption.reached(step) for step in (4, 5, 6)] == [False, True, True]
    assert steps == [4, 5, 6]


def test_a_stop_is_reported_with_its_step_and_what_to_do():
    assert str(Preempted(7)) == "asked to stop (SIGTERM): saved step 7; the same command goes on from there"


def test_a_failed_process_ends_with_1(monkeypatch):
    with pytest.raises(SystemExit) as end:
        distributed.fail()
    assert end.value.code == 1


def test_a_failed_process_does_not_wait_for_threads_that_hang(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "exit", lambda code: None)
    distributed.fail(at_once=True)
    assert ended == [1]


def test_a_failed_process_of_several_does_not_wait_for_the_others(monkeypatch):
    ended = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "GRACE", 0.0)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "exit", lambda code: None)
    distributed.fail()
    assert ended == [1]


@pytest.mark.slow
def test_a_process_given_by_flags_takes_all_devices_that_it_sees():
    """Within Slurm too, where JAX by itself gives each process one GPU of its node."""
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "node1", "NTASKS": "1", "PROCID": "0", "LOCALID": "3"}
    script = (
        "import jax; from hitpro_jax import distributed; "
        f"distributed.start('127.0.0.1:{free_port()}', 1, 0); "
        "print(jax.config.values['jax_cuda_visible_devices'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPO,
        env=os.environ | {f"SLURM_{name}": value for name, value in slurm.items()},
    )
    assert done.stdout.split()[-1] == "all", done
