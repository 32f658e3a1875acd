"""What a run leaves behind: metrics, log, config, environment and result in its workdir, progress on the screen.

No module of this package imports JAX before a `Workdir` is opened, so that a run's files can be read without it.
"""

import contextlib
import functools
import io
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hitpro_jax import legacy
from hitpro_jax.data.records import FrameError
from hitpro_jax.workdir import console as screens
from hitpro_jax.workdir.console import Scored, Screen, Wait
from hitpro_jax.workdir.environment import describe_environment
from hitpro_jax.workdir.files import Files

__all__ = ["Files", "Scored", "Wait", "Workdir"]


def _on_first_process(method: Callable) -> Callable:
    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        return method(self, *args, **kwargs) if self._process == 0 else None

    return wrapped


class Workdir:
    """A run's folder and screen, of process 0 alone; on other processes only `error` does anything.

    Args:
      path: folder of the run, made if it is missing.
      console: where text goes besides the log; default: standard output.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Workdir(folder) as workdir:
    ...     workdir.metrics(1, {"train/loss": 0.5})
    ...     (workdir.path / "metrics.jsonl").read_text().strip()
    '{"step": 1, "train/loss": 0.5}'
    """

    def __init__(self, path: str | Path, console: Console | None = None):
        import jax  # here: see above

        self.path = Path(path)
        self._process = jax.process_index()
        if self._process == 0:
            self._files, self._screen = Files(path), Screen(console)

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @_on_first_process
    def close(self) -> None:
        """Ends the progress line."""
        self._screen.close()

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes of this machine from training in the same workdir (see `Files.exclusive`)."""
        return self._files.exclusive() if self._process == 0 else contextlib.nullcontext()

    @_on_first_process
    def log(self, text: str) -> None:
        """Prints a line and appends it to log.txt."""
        self._screen.print(text)
        self._files.log(f"{text}\n")

    def error(self, error: Exception) -> None:
        """Prints an error in one sentence, on whichever process it came up; its traceback goes to log.txt alone.

        Where it is about several frames, missing.txt lists them.
        """
        if self._process > 0:
            print(f"error on process {self._process}: {error}", file=sys.stderr, flush=True)
            return
        with contextlib.suppress(OSError):  # a full disk does not hide the error
            self._files.traceback(error)
        frames = dict.fromkeys(error.paths) if isinstance(error, FrameError) else ()  # several tracklets may share one
        listed = f"; {self._files.missing([*frames])} lists all {len(frames):,} files" if len(frames) > 1 else ""
        with contextlib.suppress(OSError):
            self.log(f"error: {error}{listed}")  # printed before it is written

    @_on_first_process
    def config(self, config: Mapping[str, Any]) -> None:
        """Writes the JSON-able config to config.json."""
        self._files.config(config)

    def recorded_config(self) -> dict[str, Any] | None:
        """The config that config.json holds, under today's names; None: nothing was trained here yet."""
        path = self.path / "config.json"
        return legacy.upgraded(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    @_on_first_process
    def environment(self, argv: Sequence[str]) -> None:
        """Writes versions, devices, git commit and command line to env.json, without values of secret flags."""
        self._files.environment(describe_environment(argv))

    @_on_first_process
    def rewind(self, step: int) -> None:
        """Drops the metrics after the restored step; -1: all (see `Files.rewind`)."""
        self._files.rewind(step)

    @_on_first_process
    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends a line of numbers by slash names to metrics.jsonl (see `Files.metrics`)."""
        self._files.metrics(step, values)

    @_on_first_process
    def progress(self, step: int, total: int, *, loss: float, clips: int) -> None:
        """Shows how far training is (see `Screen.progress`)."""
        self._screen.progress(step, total, loss=loss, clips=clips)

    @contextlib.contextmanager
    def waiting(self, what: str, after: float = 3.0) -> Generator[Wait, None, None]:
        """Logs that something is still being done (see `console.waiting`)."""
        with screens.waiting(self.log, what, after) as wait:
            yield wait

    @_on_first_process
    def result(self, result: Scored) -> None:
        """Writes result.json and report/result.md."""
        self._files.result(result.to_json(), screens.markdown(result))

    @_on_first_process
    def evaluation(self, result: Scored) -> None:
        """Writes eval/<step>.json, the result of a checkpoint."""
        self._files.evaluation(result.to_json())

    @_on_first_process
    def table(self, result: Scored) -> None:
        """Prints the directions of a result as a table and appends it to log.txt; one line where there are none."""
        if not result.rows():
            self.log(f"step {result.step}: nothing to score, the data set has no labelled query and gallery")
            return
        table = screens.table(result)
        self._screen.console.print(table)
        text = io.StringIO()
        Console(file=text, width=110).print(table)
        self._files.log(text.getvalue())
