"""Files of a run in its workdir: written whole or appended to, so that a killed run leaves nothing half done."""

import contextlib
import errno
import fcntl
import json
import math
import os
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# What to do where something cannot be written, by the system's error.
REMEDIES = {
    "make room there; the same command goes on from the checkpoint before": (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
    ),
    "get the right to write there, or choose another --workdir": (errno.EACCES, errno.EPERM, errno.EROFS),
    "remove the file that stands in the place of a folder, or choose another --workdir": (errno.ENOTDIR, errno.EEXIST),
}


def remedy(error: Exception) -> str:
    """What to do about an error of writing, by its number or, where a library hands on the text alone, by that.

    >>> remedy(PermissionError(errno.EACCES, "Permission denied"))
    'get the right to write there, or choose another --workdir'
    >>> remedy(ValueError("write failed: No space left on device [errno 28]"))
    'make room there; the same command goes on from the checkpoint before'
    """
    for text, numbers in REMEDIES.items():
        if getattr(error, "errno", None) in numbers or any(os.strerror(each) in str(error) for each in numbers):
            return text
    return (
        "mend that, or choose another --workdir; the same command goes on from the checkpoint before, if there is one"
    )


class Files:
    """The files of one run.

    Args:
      path: folder of the run, made if it is missing.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keeps other processes of this machine from training in the same workdir; freed however the process ends.

        Raises:
          ValueError: another process holds it.
        """
        with open(self.path / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is training in {self.path}: wait for it, or choose another --workdir"
                ) from None
            yield

    def log(self, text: str) -> None:
        """Appends to log.txt."""
        append(self.path / "log.txt", text)

    def traceback(self, error: Exception) -> None:
        """Appends an error's traceback to log.txt."""
        self.log("".join(traceback.format_exception(error)))

    def missing(self, frames: Sequence[str]) -> Path:
        """Writes missing.txt, a frame a line and relative to the data set's folder; returns its path."""
        path = self.path / "missing.txt"
        write_text(path, "".join(f"{frame}\n" for frame in frames))
        return path

    def config(self, config: Mapping[str, Any]) -> None:
        """Writes the config to config.json."""
        write_json(self.path / "config.json", config)

    def environment(self, environment: Mapping[str, Any]) -> None:
        """Writes what the run is computed with to env.json."""
        write_json(self.path / "env.json", environment)

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl.

        Args:
          step: number of optimiser steps done.
          values: slash names ("train/loss") to numbers or arrays of one element; NaN and infinity become null.
        """
        line = {"step": int(step)} | {name: number(value) for name, value in values.items()}
        append(self.path / "metrics.jsonl", json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Drops the metrics after `step`, so that a resumed run ends with the file of an uninterrupted one.

        Args:
          step: the restored step; -1 when starting from scratch.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))

    def result(self, result: Mapping[str, Any], markdown: str) -> None:
        """Writes the final result to result.json, and as a Markdown table to report/result.md."""
        (self.path / "report").mkdir(exist_ok=True)
        write_text(self.path / "report" / "result.md", markdown)
        write_json(self.path / "result.json", result)

    def evaluation(self, result: Mapping[str, Any]) -> Path:
        """Writes the result of a checkpoint to eval/<step>.json; returns its path."""
        path = self.path / "eval" / f"{result['step']}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, result)
        return path


def number(value: Any) -> int | float | None:
    """A number or an array of one element as a plain number; None for NaN, infinity and None.

    >>> number(np.float32(0.5)), number(np.inf)
    (0.5, None)
    """
    value = None if value is None else np.asarray(value).item()
    return value if value is None or math.isfinite(value) else None


def append(path: Path, text: str) -> None:
    """Appends to a file, which is made if it is missing."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces a JSON file whole; NaN and infinity become null."""
    # Python writes NaN and Infinity, which are no JSON
    finite = json.loads(json.dumps(content, default=number), parse_constant=lambda _: None)
    write_text(path, json.dumps(finite, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a file whole: a run killed at any moment leaves the old file or the new one."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # the last line of a killed run may be cut short
        return math.inf
