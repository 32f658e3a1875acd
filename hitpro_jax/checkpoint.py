"""Checkpoints: saved in the background by Orbax, checked by CRC when read, refused under a foreign config."""

import contextlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from orbax.checkpoint.checkpoint_managers import preservation_policy

from hitpro_jax import legacy
from hitpro_jax.options import flat
from hitpro_jax.sharding import fetch
from hitpro_jax.types import PyTree
from hitpro_jax.workdir.files import remedy

PROBE = 2**16  # bytes: more than file systems keep beside a name, so that a full disk is noticed


class SaveError(OSError):
    """A checkpoint cannot be written. Threads of Orbax may then wait for minutes: the process has to be ended hard."""


class Table(jax.ShapeDtypeStruct):
    """Shape and dtype of a table that is read to the host; rows that are stored behind its own are left out.

    Earlier releases saved the rows that filled up a table for their devices.
    """


class Saved(NamedTuple):
    """What a checkpoint says of itself, before its arrays are read."""

    step: int
    config: dict[str, Any] | None  # of the run that saved it, with today's names and fields
    meta: dict[str, Any]
    leaves: Mapping[str, str]  # dtype and shape of every array by its name

    def other_arrays(self, target: PyTree, *, partial: bool) -> list[str]:
        """In which arrays it differs from those wanted, one sentence each (see `Checkpointer.restore_latest`)."""
        wanted = _leaves(target)
        kinds = {
            name: _kind_without_surplus(kind, wanted.get(name))
            for name, kind in self.leaves.items()
            if name in wanted or not partial
        }
        return config_differences(kinds, {name: _describe(x) for name, x in wanted.items()})


def require_writable(directory: str | Path) -> None:
    """Makes the folder of the checkpoints, and a file in it that is removed again.

    Args:
      directory: of the checkpoints.

    Raises:
      SaveError: the folder or the file cannot be made; one sentence with what to do.
    """
    with _writing(Path(directory)):
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".probe-") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Turns what Orbax raises where it cannot write, a ValueError or another, into a SaveError of one sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError:  # of another process or a device, not of the disk
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or _reason(error).split(": ")[-1]
        raise SaveError(f"cannot write a checkpoint to {directory} ({reason}): {remedy(error)}") from error


def abstract(state: PyTree, sharding: Any) -> PyTree:
    """Shapes, dtypes and shardings of `state`: what `Checkpointer.restore_latest` needs to know of its target.

    Args:
      state: pytree of arrays or `jax.ShapeDtypeStruct`s (from `jax.eval_shape`).
      sharding: one sharding, or a pytree prefix of `state` with shardings as leaves.
    """

    def shape_of(sharding: Sharding, part: PyTree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), part)

    return jax.tree.map(shape_of, sharding, state)


def config_differences(saved: Mapping, current: Mapping, ignore: Sequence[str] = ()) -> list[str]:
    """Fields in which two configs differ, one sentence each, sorted by name.

    Args:
      saved: JSON-able nested dict.
      current: the same of this run; tuples equal lists.
      ignore: dotted names of fields, or of whole sections, that may differ.

    Returns:
      Lines like "optim.learning_rate: saved 0.1, now 0.2"; empty when nothing differs.
    """
    old, new = flat(_plain(saved)), flat(_plain(current))
    differing = (name for name in sorted(old | new) if old.get(name, "nothing") != new.get(name, "nothing"))
    return [
        f"{name}: saved {old.get(name, 'nothing')}, now {new.get(name, 'nothing')}"
        for name in differing
        if not any(f"{name}.".startswith(f"{skipped}.") for skipped in ignore)
    ]


class Checkpointer:
    """Keeps the newest checkpoints of a run in `directory/<step>/`; closes, and waits, when its `with` ends.

    Every process of a run makes one and calls `save` and `restore_latest` alike. A process killed in mid-save
    leaves a temporary folder, which the next `Checkpointer` clears away.

    Args:
      directory: folder of the checkpoints, made if it is missing (unless `read_only`).
      config: JSON-able config, stored with each checkpoint; restoring one with another config is refused.
        None: neither stored nor compared.
      defaults: of the config; they stand for fields that a saved config lacks (see `legacy.completed`).
      ignore: dotted names of config fields or sections that do not matter to the comparison.
      keep: number of newest checkpoints kept.
      read_only: for evaluation and for starting from another run's checkpoint; never writes or deletes.
      log: receives warnings as text.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        config: Mapping | None = None,
        defaults: Mapping | None = None,
        ignore: Sequence[str] = (),
        keep: int = 2,
        read_only: bool = False,
        log: Callable[[str], None] = print,
    ):
        logging.set_verbosity(logging.FATAL)  # Orbax logs every step it takes; what matters goes to `log`
        self._directory, self._log = Path(directory).absolute(), log
        self._config, self._defaults, self._ignore = config, defaults or {}, ignore
        self._damaged = set()  # steps
        self._read_only = read_only
        self._manager: Any = None  # where there is nothing to read
        if read_only and not self._directory.exists():
            return
        with contextlib.nullcontext() if read_only else _writing(self._directory):
            self._manager = ocp.CheckpointManager(
                self._directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation_policy.LatestN(keep),
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                    create=not read_only,
                ),
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Waits for a save under way and lets go of the folder."""
        if self._manager:
            try:
                self.wait()
            finally:
                self._manager.close()

    def wait(self):
        """Returns once a save under way is on disk.

        Raises:
          SaveError: it cannot be written; the checkpoints before it stay as they are.
        """
        if self._manager:
            with _writing(self._directory):
                self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, step: int, state: PyTree, meta: Mapping | None = None):
        """Writes a checkpoint in the background; `state` may be donated as soon as this returns.

        Checkpoints that `restore_latest` found damaged are removed first, so that they count as none of those kept,
        and those at `step` or later, which belong to a past that this run has left.

        Args:
          step: number of the checkpoint, >= 0.
          state: pytree of arrays; those of NumPy are written by process 0 alone, and may not change meanwhile.
          meta: JSON-able dict given back by `restore_latest`.

        Raises:
          SaveError: as `wait` does, of this save or of the one before.
        """
        leaves = _leaves(state)
        self.wait()
        with _writing(self._directory):
            for stale in self.steps():
                if stale >= step or stale in self._damaged:
                    self._manager.delete(stale)
        record = json.dumps(
            {
                "config": self._config,
                "meta": dict(meta or {}),
                "leaves": {k: _describe(x) for k, x in leaves.items()},
                "crc32": {name: _crc32(x) for name, x in leaves.items()},
            }
        )
        full = {name: x for name, x in leaves.items() if x.size}  # Orbax takes no empty array
        with _writing(self._directory):
            self._manager.save(
                step,
                force=True,  # when to save is decided in `train`, not by Orbax
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(full),  # PyTree as in _read_state: a manager has one handler an item
                    record=ocp.args.JsonSave({"text": record, "crc32": zlib.crc32(record.encode())}),
                ),
            )

    def restore_latest(
        self, target: PyTree | Callable[[Saved], PyTree], *, partial: bool = False
    ) -> tuple[PyTree, dict, int] | None:
        """Newest undamaged checkpoint; each damaged one passed over is named in a warning.

        Args:
          target: the wanted tree, from `abstract`; the number of devices may differ from the saved one. A leaf without
            a sharding is read to the host, as NumPy. Or a function of the `Saved` that gives such a tree, or raises
            ValueError for a checkpoint that is not to be restored.
          partial: the checkpoint may hold more arrays than wanted; only the wanted ones are read.

        Returns:
          (state, meta, step), or None if there is no checkpoint.

        Raises:
          ValueError: if the checkpoint was saved with another config or holds other arrays, or if all
            checkpoints are damaged.
        """
        steps = self.steps()[::-1]
        for step in steps:
            record, problem = _attempt(self._read_record, step)
            if record:
                self._refuse_foreign_config(step, record)
                saved = Saved(step, record["config"], record["meta"], record["leaves"])
                wanted = target(saved) if callable(target) else target
                if differing := saved.other_arrays(wanted, partial=partial):
                    raise ValueError(
                        f"checkpoint {self._directory / str(step)} holds other arrays than this run's state "
                        f"({listed(differing)}): use the model and optimiser it was saved with, or another workdir"
                    )
                state, problem = _attempt(self._read_state, step, wanted, record["stored"])
            if not problem:
                _, problem = _attempt(_verify, state, record["crc32"])
            if not problem:
                return jax.tree.map(_without_surplus, wanted, state), record["meta"], step
            self._damaged.add(step)
            self._log(f"warning: checkpoint {self._directory / str(step)} is damaged and passed over ({problem})")
        if steps:
            # what is only read may be the folder of another run
            remedy = "" if self._read_only else "remove the folder to start anew, or "
            raise ValueError(
                f"no checkpoint in {self._directory} can be read, steps {steps} are all damaged: "
                f"{remedy}choose another workdir"
            )
        return None

    def _read_record(self, step: int) -> dict:
        stored = self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]
        if zlib.crc32(stored["text"].encode()) != stored["crc32"]:
            raise ValueError("the CRC of its record is wrong")
        return _upgraded(json.loads(stored["text"]), self._defaults)

    def _refuse_foreign_config(self, step: int, record: dict):
        known = self._config is not None and record["config"] is not None
        if known and (differing := config_differences(record["config"], self._config, self._ignore)):
            raise ValueError(
                f"checkpoint {self._directory / str(step)} was saved with another config ({'; '.join(differing)}): "
                "restore these fields, or choose another workdir"
            )

    def _read_state(self, step: int, target: PyTree, stored: Mapping[str, str]) -> PyTree:
        wanted = _leaves(target)
        full = {stored[name]: x for name, x in wanted.items() if x.size}
        reading = ocp.args.PyTreeRestore(
            full,
            restore_args=jax.tree.map(_restore_args, full),
            partial_restore=True,  # more arrays may be stored than are wanted
        )
        arrays = self._manager.restore(step, args=ocp.args.Composite(state=reading))["state"]
        empty = {name: np.zeros(x.shape, x.dtype) for name, x in wanted.items() if not x.size}
        empty = {
            name: x if _on_host(wanted[name]) else jax.device_put(x, wanted[name].sharding) for name, x in empty.items()
        }
        return jax.tree.unflatten(
            jax.tree.structure(target),
            [empty[name] if name in empty else arrays[stored[name]] for name in wanted],
        )


def listed(differing: Sequence[str], most: int = 4) -> str:
    """The first of some differences, as a text.

    >>> listed(["a", "b", "c"], 2)
    'a; b; ...'
    """
    return "; ".join([*differing[:most], *["..."] * (len(differing) > most)])


def _on_host(leaf: Any) -> bool:
    """Whether a leaf of the target is to be read to the host."""
    return getattr(leaf, "sharding", None) is None


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    if _on_host(leaf):
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=leaf.sharding)


def _without_surplus(wanted: Any, array: Any) -> Any:
    return array[: wanted.shape[0]] if isinstance(wanted, Table) and wanted.ndim else array


def _kind_without_surplus(kind: str, wanted: Any) -> str:
    """What `_describe` gives of an array once `_without_surplus` has been at it."""
    dtype, _, shape = kind.partition("[")
    rows = json.loads(f"[{shape}")
    if not (isinstance(wanted, Table) and wanted.ndim and rows):
        return kind
    return f"{dtype}{[min(rows[0], wanted.shape[0]), *rows[1:]]}"


def _upgraded(record: dict, defaults: Mapping) -> dict:
    """A record under today's names; `stored` maps today's name of each array to the one it is stored under."""
    earlier = record["config"] is not None and legacy.is_earlier(record["config"])
    stored = {legacy.array_name(name) if earlier else name: name for name in record["leaves"]}
    return record | {
        "config": None if record["config"] is None else legacy.completed(legacy.upgraded(record["config"]), defaults),
        "leaves": {name: record["leaves"][old] for name, old in stored.items()},
        "crc32": {name: record["crc32"][old] for name, old in stored.items()},
        "stored": stored,
    }


def _attempt(read: Callable, *args: Any) -> tuple[Any, str | None]:
    """(value, None), or (None, reason) on every process as soon as reading fails on one."""
    try:
        value, problem = read(*args), None
    except Exception as error:  # noqa: BLE001 - Orbax raises a bare Exception for a truncated file
        value, problem = None, _reason(error)[:120]
    if jax.process_count() > 1 and np.any(multihost_utils.process_allgather(np.array(problem is not None))):
        return None, problem or "another process cannot read it"
    return value, problem


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _verify(state: PyTree, crc32: Mapping[str, int]):
    wrong = [name for name, x in _leaves(state).items() if _crc32(x) != crc32[name]]
    if wrong:
        raise ValueError(f"the CRC is wrong for {', '.join(wrong)}")


def _crc32(x: jax.Array | np.ndarray) -> int:
    # of the whole array, so that the sum does not depend on how it is cut over processes
    return zlib.crc32(np.ascontiguousarray(fetch(x)).reshape(-1).view(np.uint8).data)


def _describe(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}"


def _leaves(tree: PyTree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _plain(config: Mapping) -> dict:
    return json.loads(json.dumps(config))
