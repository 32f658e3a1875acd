"""Folders that are made beside their final path and renamed when they are whole, and processes that help with it."""

import glob
import os
import shutil
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context


def draft_of(folder: str | os.PathLike) -> str:
    """Where this process makes what will be `folder`; the name holds its machine and process."""
    return f"{os.fspath(folder)}.partial-{socket.gethostname()}-{os.getpid()}"


def remove_drafts(folder: str | os.PathLike) -> None:
    """Removes the drafts of `folder` that processes left which were killed on this machine."""
    start = f"{os.fspath(folder)}.partial-"
    for partial in glob.glob(f"{glob.escape(start)}*"):
        host, _, pid = partial.removeprefix(start).rpartition("-")
        ours = host in ("", socket.gethostname())  # earlier versions named no machine
        if ours and pid.isascii() and pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(partial, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 does nothing but check that the process is there
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it runs for another user
        return True
    return pid != os.getpid()


@contextmanager
def workers(jobs: int) -> Generator[ProcessPoolExecutor]:
    """A pool of fresh processes that end with this one, even when it is killed."""
    # spawned: a forked process would inherit locks that threads of JAX hold, and may hang
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
    ) as pool:
        yield pool


def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:  # an orphan gets another parent
            time.sleep(1.0)
        os._exit(1)  # sys.exit would end this thread alone

    threading.Thread(target=watch, daemon=True).start()
