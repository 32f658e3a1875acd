"""Many processes, one program: how they find each other, take turns on the disk, and stop when they are asked to."""

import contextlib
import glob
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Generator
from typing import NoReturn, Self

import jax
from jax.experimental import multihost_utils

GRACE = 3.0  # seconds that the other processes have to print the same error


class Preempted(Exception):
    """The run was asked to stop and has saved its state, that of `step`."""

    def __init__(self, step: int):
        super().__init__(f"asked to stop (SIGTERM): saved step {step}; the same command goes on from there")


def start(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the run's other processes, if there are any; call it before anything touches a device.

    Args:
      coordinator: host:port of process 0; None: on a TPU VM and in a Slurm step of several tasks JAX finds the
        processes by itself, elsewhere there is this one alone.
      processes: how many there are; with a coordinator.
      process: which is this, from 0; with a coordinator.

    Raises:
      ValueError: only some of the three are given.
      RuntimeError: the processes did not find each other.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise ValueError("--coordinator, --processes and --process belong together: give all three, or none")
    if coordinator:
        # detection is off: within Slurm JAX would give each process a single GPU of its node
        jax.distributed.initialize(coordinator, processes, process, cluster_detection_method="deactivate")
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 or _on_tpu_vm():
        jax.distributed.initialize()


def fail(*, at_once: bool = False) -> NoReturn:
    """Ends this process with exit code 1, and with it the others of the run.

    They notice that it is gone, as they notice a killed one.

    Args:
      at_once: other threads are not waited for.
    """
    several = jax.process_count() > 1
    if several:
        time.sleep(GRACE)
    if several or at_once:
        # sys.exit would wait for the others at JAX's shutdown barrier for minutes, while they wait for this process in
        # a collective; and for threads of Orbax, which wait five minutes for a folder that could not be made
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)


def _on_tpu_vm() -> bool:
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")  # older and newer generations
    return "tpu" in wanted and importlib.util.find_spec("libtpu") is not None and bool(chips)


@contextlib.contextmanager
def first_process_first() -> Generator[None]:
    """A block of `with` that process 0 goes through before the others, so that they find the files it has made."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("process 0 first")
    try:
        yield
    finally:
        # in `finally`: after an error of process 0 the others would otherwise wait for ever
        if jax.process_index() == 0 and jax.process_count() > 1:
            multihost_utils.sync_global_devices("process 0 first")


class Preemption:
    """Notices SIGTERM, by which clusters announce that a machine is about to be taken away; use it in a `with`.

    A single process then no longer dies of it. Many processes leave the watching to JAX, which makes all of them agree
    on the step at which they stop.

    Attributes:
      asked: whether SIGTERM has come.
    """

    asked: bool

    def __enter__(self) -> Self:
        self.asked = False
        self._alone = jax.process_count() == 1
        if self._alone:
            self._before = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._alone:
            signal.signal(signal.SIGTERM, self._before)

    def _notice(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGTERM, self._before)  # a second SIGTERM ends the process at once
        # written past Python's streams, which may be in the middle of a line
        os.write(2, b"asked to stop (SIGTERM): saving after the step, or the evaluation and refresh, under way\n")

    def reached(self, step: int) -> bool:
        """Whether to save and stop after this step; every process calls it after every step and gets the same."""
        if not self._alone:
            self.asked |= multihost_utils.reached_preemption_sync_point(step)
        return self.asked
