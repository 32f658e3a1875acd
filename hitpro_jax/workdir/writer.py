"""What a run leaves behind: metrics, log, config, environment and result in its workdir, progress on the screen."""

import collections
import contextlib
import fcntl
import functools
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hitpro_jax.data.records import FrameError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "opencv-python-headless")
SECRET = re.compile(r"(-{1,2}\S*(?:token|password|secret)\S*?=).*", re.IGNORECASE)
DIRECTIONS = {
    "i2v": "infrared to visible",
    "v2i": "visible to infrared",
    "halves": "first half to second half",
    "ir2rgb": "infrared to visible",
    "rgb2ir": "visible to infrared",
    "rgb2rgb": "visible to visible",
    "ir2ir": "infrared to infrared",
    "all": "query to gallery",
}
WINDOW = 50  # calls over which the speed is averaged


def _on_first_process(method: Callable) -> Callable:
    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        return method(self, *args, **kwargs) if self._active else None

    return wrapped


class Writer:
    """Files of a run in `workdir`, written by process 0 alone; on other processes only `error` does anything.

    Args:
      workdir: folder of the run, made if it is missing.
      console: where text goes besides the log; default: standard output.
    """

    def __init__(self, workdir: str | Path, console: Console | None = None):
        self.path = Path(workdir)
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self._console = console or Console()
        self._live: Live | None = None
        self._calls = collections.deque(maxlen=WINDOW)  # (time, step, clips so far)
        self._shown = -math.inf

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    @contextlib.contextmanager
    def exclusive(self):
        """Keeps other processes of this machine from training in the same workdir; freed however the process ends.

        Raises:
          ValueError: another process is at it.
        """
        if not self._active:
            yield
            return
        with open(self.path / ".lock", "w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another process is training in {self.path}: wait for it, or choose another --workdir"
                ) from None
            yield

    @_on_first_process
    def close(self):
        """Ends the progress line."""
        if self._live:
            self._live.stop()
            self._live = None

    @_on_first_process
    def say(self, text: str):
        """Prints `text` and appends it to log.txt."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)
        _append(self.path / "log.txt", f"{text}\n")

    def error(self, error: Exception):
        """Tells an error in one sentence, on whichever process it came up; the traceback goes to log.txt alone.

        Where it is about several frames, missing.txt lists them, one a line and relative to the data set's folder.
        """
        if not self._active:
            print(f"error on process {jax.process_index()}: {error}", file=sys.stderr, flush=True)
            return
        _append(self.path / "log.txt", "".join(traceback.format_exception(error)))
        frames = dict.fromkeys(error.paths) if isinstance(error, FrameError) else ()  # several tracklets may share one
        listed = ""
        if len(frames) > 1:
            _write_text(self.path / "missing.txt", "".join(f"{frame}\n" for frame in frames))
            listed = f"; {self.path / 'missing.txt'} lists all {len(frames):,} files"
        self.say(f"error: {error}{listed}")

    @_on_first_process
    def config(self, config: Mapping):
        """Writes the JSON-able config to config.json."""
        _write_json(self.path / "config.json", config)

    @_on_first_process
    def environment(self, argv: Sequence[str]):
        """Writes versions, devices, git commit and command line to env.json; values of secret flags are left out."""
        _write_json(
            self.path / "env.json",
            {
                "command": [SECRET.sub(r"\1***", word) for word in argv],
                "python": platform.python_version(),
                "packages": {name: _version(name) for name in PACKAGES},
                "devices": collections.Counter(device.device_kind for device in jax.devices()),
                "processes": jax.process_count(),
                "cores": os.cpu_count(),
                "processor": _processor(),
                "git": _git_commit(),
            },
        )

    @_on_first_process
    def rewind(self, step: int):
        """Drops the metrics after `step`, so that a resumed run ends with the file of an uninterrupted one.

        Args:
          step: the restored step; -1 when starting from scratch.
        """
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        _write_text(path, "".join(f"{line}\n" for line in lines if _step(line) <= step))

    @_on_first_process
    def metrics(self, step: int, values: Mapping[str, Any]):
        """Appends one line to metrics.jsonl.

        Args:
          step: number of optimiser steps done.
          values: slash names ("train/loss") to numbers or arrays of one element; NaN and infinity become null.
        """
        line = {"step": int(step)} | {name: _number(value) for name, value in values.items()}
        _append(self.path / "metrics.jsonl", json.dumps(line) + "\n")

    @_on_first_process
    def progress(self, step: int, total: int, *, loss: float, clips: int):
        """Shows step, loss, clips per second and time left: in place on a terminal, a line every 10 s elsewhere.

        Args:
          step: number of steps done, of `total`.
          loss: latest loss.
          clips: clips, of all processes, since the last call.
        """
        now = time.monotonic()
        self._calls.append((now, step, clips + (self._calls[-1][2] if self._calls else 0)))
        terminal = self._console.is_terminal
        if now - self._shown < (0.1 if terminal else 10) and step < total:
            return
        self._shown = now
        line = _progress_line(self._calls, total, loss)
        if not terminal:
            self._console.print(line, soft_wrap=True, markup=False, highlight=False)
            return
        if not self._live:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        if step >= total:
            self.close()

    @_on_first_process
    def result(self, result: Mapping):
        """Writes result.json: {"protocol", "setting", "step", "i2v": {"rank1", ..., "mINP"}, ...}, in percent.

        report/result.md gets the same as a Markdown table.
        """
        (self.path / "report").mkdir(exist_ok=True)
        _write_text(self.path / "report" / "result.md", _markdown(result))
        _write_json(self.path / "result.json", result)

    @_on_first_process
    def table(self, result: Mapping):
        """Shows the directions of a result, in percent, as a table; log.txt gets the same. None: it says so."""
        setting = f" ({result['setting']})" if "setting" in result else ""
        table = Table(title=f"{result['protocol']}{setting}, step {result['step']}")
        head, *rows = _cells(result)
        if not rows:
            self.say(f"step {result['step']}: nothing to score, the data set has no labelled query and gallery")
            return
        table.add_column("%")
        for name in head:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)
        with open(self.path / "log.txt", "a", encoding="utf-8") as log:
            Console(file=log, width=110).print(table)

    @contextlib.contextmanager
    def waiting(self, what: str, after: float = 3.0):
        """Says what is being done when it takes more than `after` seconds, and every 10 s that it still is.

        Gives a `Wait`, by which clips can be counted meanwhile.
        """
        wait, start, done = Wait(), time.monotonic(), threading.Event()

        def remind():
            pause = after
            while not done.wait(pause):
                self.say(f"{what} ... {time.monotonic() - start:.0f} s so far{wait.count}")
                pause = 10.0

        threading.Thread(target=remind, daemon=True).start()
        try:
            yield wait
        finally:
            done.set()


class Wait:
    """What has been done of something that takes long, for the person who waits."""

    count = ""

    def counting(self, embed: Callable, total: int) -> Callable:
        """The same `embed` (see `embedding`), its clips counted, of `total`; those that only fill up a batch too."""
        done = 0
        self.count = ", the first clips are on their way (the encoder is compiled for them)"

        def counted(variables, frames, *rest):
            nonlocal done
            features = embed(variables, frames, *rest)
            done += len(frames)
            self.count = f", {min(done, total):,} of {total:,} clips"
            return features

        return counted


def _progress_line(calls: Sequence[tuple[float, int, int]], total: int, loss: float) -> str:
    (start, first, before), (now, step, clips) = calls[0], calls[-1]
    line = f"step {step}/{total}  loss {loss:.4f}"
    if step == first:
        return line
    seconds = max(now - start, 1e-9)
    minutes, left = divmod(round(seconds / (step - first) * (total - step)), 60)
    return f"{line}  {(clips - before) / seconds:.1f} clips/s  ETA {minutes // 60}:{minutes % 60:02}:{left:02}"


def _markdown(result: Mapping) -> str:
    lines = [f"{result['protocol']}, {result.get('setting', 'nothing to score')}, step {result['step']}; in %", ""]
    head, *rows = _cells(result)
    if rows:
        lines += ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(result: Mapping) -> list[list[str]]:
    """The names of the scores, then a row for every direction of a result: the direction and its scores."""
    directions = {key: scores for key, scores in result.items() if isinstance(scores, Mapping)}
    rows = [
        [DIRECTIONS.get(key, key), *("-" if (v := _number(score)) is None else f"{v:.2f}" for score in scores.values())]
        for key, scores in directions.items()
    ]
    return [list(next(iter(directions.values()), ())), *rows]


def _number(value: Any) -> int | float | None:
    value = None if value is None else np.asarray(value).item()
    return value if value is None or math.isfinite(value) else None


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except ValueError:  # the last line of a killed run may be cut short
        return math.inf


def _append(path: Path, text: str):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def _write_json(path: Path, content: Mapping):
    finite = json.loads(json.dumps(content, default=_number), parse_constant=lambda _: None)  # NaN -> null
    _write_text(path, json.dumps(finite, indent=2) + "\n")


def _write_text(path: Path, text: str):
    """Replaces the file whole: a run killed at any moment leaves the old file or the new one."""
    scratch = path.with_name(path.name + ".tmp")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The host's processor; by Linux's own file where there is one, as Python names no more than the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Commit of the source; "-dirty" if files differ from it, but for the figures that runs leave; None outside git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ":/", ":(exclude,top)experiments/results")
        return git("rev-parse", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None
