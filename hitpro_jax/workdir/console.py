"""What a run shows on the screen: lines, the progress line, reminders of long work, tables of results."""

import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hitpro_jax.workdir.files import number

WINDOW = 50  # calls over which the speed is averaged


class Scored(Protocol):
    """A result as tables and files need it (see `scoring.result.Result`)."""

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        ...

    @property
    def setting(self) -> str:
        """What the figures depend on besides the model; "" for nothing."""
        ...

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        ...

    def rows(self) -> Sequence[tuple[str, Mapping[str, float | tuple[float, float]]]]:
        """Title and figures in percent of each direction, or their means and deviations; empty: nothing was scored."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What result.json holds."""
        ...


class Screen:
    """Lines, and a progress line below them.

    Args:
      console: default: standard output.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._live: Live | None = None
        self._calls = collections.deque(maxlen=WINDOW)  # (time, step, clips so far)
        self._shown = -math.inf

    def print(self, text: str) -> None:
        """Shows a line word for word."""
        # otherwise rich takes [brackets] for markup and breaks long lines
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def progress(self, step: int, total: int, *, loss: float, clips: int) -> None:
        """Shows step, loss, clips per second and time left: in place on a terminal, a line every 10 s elsewhere.

        Args:
          step: number of steps done, of `total`.
          total: steps of the run.
          loss: latest loss.
          clips: clips, of all processes, since the last call.
        """
        now = time.monotonic()
        self._calls.append((now, step, clips + (self._calls[-1][2] if self._calls else 0)))
        terminal = self.console.is_terminal
        if now - self._shown < (0.1 if terminal else 10) and step < total:
            return
        self._shown = now
        line = progress_line(self._calls, total, loss)
        if not terminal:
            self.print(line)
            return
        if not self._live:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        if step >= total:
            self.close()

    def close(self) -> None:
        """Ends the progress line."""
        if self._live:
            self._live.stop()
            self._live = None


class Wait:
    """How far something is that takes long."""

    count = ""  # text for the reminder

    def counting(self, embed: Callable, total: int) -> Callable:
        """The same function, its clips counted.

        Args:
          embed: (variables, frames [B, ..], ..) -> features (see `encode.Embed`).
          total: clips that are to come; those that only fill up a batch are not counted beyond it.
        """
        done = 0
        self.count = ", the first clips are on their way (the encoder is compiled for them)"

        def counted(variables, frames, *rest):
            nonlocal done
            features = embed(variables, frames, *rest)
            done += len(frames)
            self.count = f", {min(done, total):,} of {total:,} clips"
            return features

        return counted

    def scoring(self, total: int) -> Callable[[int], None]:
        """Takes how many further queries of `total` are scored."""
        done = 0

        def scored(queries: int) -> None:
            nonlocal done
            done += queries
            self.count = f", scored {done:,} of {total:,} queries"

        return scored


@contextlib.contextmanager
def waiting(log: Callable[[str], None], what: str, after: float = 3.0) -> Generator[Wait, None, None]:
    """Logs what is being done when it takes more than `after` seconds, and every 10 s that it still is.

    Args:
      log: gets each line.
      what: is being done.
      after: seconds.

    Returns:
      A context that gives a `Wait`, by which clips can be counted meanwhile.
    """
    wait, start, done = Wait(), time.monotonic(), threading.Event()

    def remind() -> None:
        pause = after
        while not done.wait(pause):
            log(f"{what} ... {time.monotonic() - start:.0f} s so far{wait.count}")
            pause = 10.0

    threading.Thread(target=remind, daemon=True).start()  # it must not keep a failed run alive
    try:
        yield wait
    finally:
        done.set()


def progress_line(calls: Sequence[tuple[float, int, int]], total: int, loss: float) -> str:
    """Text of the progress line.

    Args:
      calls: (time in seconds, step, clips so far), oldest first.
      total: steps of the run.
      loss: latest loss.

    >>> progress_line([(0.0, 1, 64), (2.0, 3, 192)], total=10, loss=0.5)
    'step 3/10  loss 0.5000  64.0 clips/s  ETA 0:00:07'
    """
    (start, first, before), (now, step, clips) = calls[0], calls[-1]
    line = f"step {step}/{total}  loss {loss:.4f}"
    if step == first:
        return line
    seconds = max(now - start, 1e-9)
    minutes, left = divmod(round(seconds / (step - first) * (total - step)), 60)
    return f"{line}  {(clips - before) / seconds:.1f} clips/s  ETA {minutes // 60}:{minutes % 60:02}:{left:02}"


def table(result: Scored) -> Table:
    """The directions of a result, in percent; it has at least one."""
    setting = f" ({result.setting})" if result.setting else ""
    made = Table(title=f"{result.protocol}{setting}, step {result.step}")
    head, *rows = _cells(result)
    made.add_column("%")
    for name in head:
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(*row)
    return made


def markdown(result: Scored) -> str:
    """The same in Markdown, with a line above it."""
    lines = [f"{result.protocol}, {result.setting or 'nothing to score'}, step {result.step}; in %", ""]
    head, *rows = _cells(result)
    if rows:
        lines += ["| | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cells(result: Scored) -> list[list[str]]:
    """The names of the figures, then a row for every direction: its title and its figures."""
    rows = result.rows()
    head = list(rows[0][1]) if rows else []
    return [head, *([title, *map(_cell, figures.values())] for title, figures in rows)]


def _cell(figure: Any) -> str:
    if isinstance(figure, tuple):
        return " ± ".join(map(_cell, figure))
    return "-" if (value := number(figure)) is None else f"{value:.2f}"
