"""What a run was computed with: command line, versions, devices, processor and git commit."""

import collections
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless")
SECRET = re.compile(r"(-{1,2}\S*(?:token|password|secret)\S*?=).*", re.IGNORECASE)


def describe_environment(argv: Sequence[str]) -> dict[str, Any]:
    """What env.json holds; values of secret flags are left out.

    Args:
      argv: the command line.

    Returns:
      `command`, `python`, `packages` by name, `devices` by kind, `processes`, `cores`, `processor` and `git`, the
      commit of the source.
    """
    import jax  # here, so that the other functions of this package start without it

    return {
        "command": [SECRET.sub(r"\1***", argument) for argument in argv],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "devices": collections.Counter(device.device_kind for device in jax.devices()),
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "git": git_commit(),
    }


def version(package: str) -> str | None:
    """The installed version of a package; None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Name of the host's processor."""
    try:  # Python itself names no more than the architecture on Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Commit of the source, with "-dirty" behind it if tracked files differ from it; None outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # figures that runs leave do not make the source another one
        changed = git("status", "--porcelain", "--untracked-files=no", ":/", ":(exclude,top)experiments/results")
        return git("rev-parse", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None
