"""From options to a checked data set, the protocol in force and the reader of its frames."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from tqdm import tqdm

from hitpro_jax.data import packed, records, sets
from hitpro_jax.data.pipeline import FrameReader
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.options import DataOptions

Log = Callable[[str], None]


class Opened(NamedTuple):
    """A data set whose files are there, and how it is scored."""

    dataset: Dataset
    protocol: Protocol  # in force: with this run's frames and image size, and what changed its rows
    data: DataOptions

    def reader(self) -> FrameReader:
        """Opens the reader of the frames, from the packed cache where there is one.

        Raises:
          ValueError: `data.packed_quality` without `data.packed`, or no packed cache of these frames there.
        """
        data = self.data
        if data.packed_quality and not data.packed:
            raise ValueError("data.packed_quality is set but data.packed is not: name the folder of the packed cache")
        frames = (
            packed.open_frames(data.packed, self.dataset, data.image_size, data.packed_quality, _checking)
            if data.packed
            else None
        )
        return FrameReader(
            self.dataset.root, data.image_size, cache=data.cache, allow_missing=data.allow_missing, packed=frames
        )


def open_data(data: DataOptions, own: Any = None, *, eval_frames: int, log: Log) -> Opened:
    """Loads a data set and checks it: `load`, then `check`.

    Args:
      data: the config's section `data`.
      own: options of the data set's own section; None: its defaults.
      eval_frames: frames by which a tracklet is scored in this run.
      log: takes each line of the start-up report.

    Raises:
      ValueError: as `load` and `check`.
    """
    dataset, protocol = load(data, own)
    return check(dataset, protocol, data, own, eval_frames=eval_frames, log=log)


def load(data: DataOptions, own: Any = None) -> tuple[Dataset, Protocol]:
    """Loads the data set that `data.name` names; one that is drawn or cropped here is made first.

    Of several processes one must do this first: what it draws or crops is then there for the others.

    Args:
      data: the config's section `data`.
      own: options of the data set's own section; None: its defaults.

    Returns:
      The data set, its files not yet looked for, and its protocol.

    Raises:
      ValueError: unknown name or protocol, no root; and whatever the loader finds wrong with the files.
    """
    spec, own = sets.find(data.name), _own(data, own)
    protocol = spec.choose_protocol(data.protocol)
    if not data.root:
        if spec.default_root is None:
            raise ValueError(f"data.root is not set: give the folder of {spec.title}, --config.data.root=/path/to/it")
        data = replace(data, root=spec.default_root(data, own))
    dataset = spec.load(data, own)
    return dataset, spec.protocol_of(protocol, dataset, own)


def check(
    dataset: Dataset, protocol: Protocol, data: DataOptions, own: Any = None, *, eval_frames: int, log: Log
) -> Opened:
    """Checks that the files of a loaded data set are there and that its protocol has rows; reports what was found.

    Args:
      dataset: as loaded.
      protocol: as loaded.
      data: the config's section `data`.
      own: options of the data set's own section; None: its defaults.
      eval_frames: frames by which a tracklet is scored in this run.
      log: takes each line of the start-up report.

    Raises:
      FrameError: frames are missing, and `data.allow_missing` is off.
      ValueError: a split, or one side of a direction, has no row.
    """
    dataset = records.verify_files(
        dataset, min_frames=data.min_frames, allow_missing=data.allow_missing, progress=_checking
    )
    for line in records.report(dataset):
        log(line)
    for split in records.SPLITS if protocol.directions else ("train",):
        if not getattr(dataset, split):
            raise ValueError(
                f"no tracklet is left in the {split} set of {dataset.root}: check its files, "
                "data.min_frames and data.allow_missing"
            )
    for split in records.SPLITS:
        for record in getattr(dataset, split):
            if not record.frames:
                raise ValueError(
                    f"a {split} tracklet of person {record.pid} in camera {record.camid} of {dataset.root} has no "
                    "frame: restore its files, or remove it from its list"
                )
    if sets.find(data.name).drops_unmatched:
        protocol = _without_unmatched(protocol, dataset, log)
    for key, direction in protocol.directions.items():
        if not all(len(protocol.rows(dataset, selection)) for selection in direction):
            raise ValueError(
                f"protocol {protocol.name} finds no query or no gallery row for {key} in {dataset.root}: "
                "complete its lists, or choose another data.protocol"
            )
    if note := protocol.departure(eval_frames, data.image_size):
        log(note)
    if not protocol.directions:
        log("note: the data set has no labelled query and gallery, so nothing is scored; going on without")
    changed = _rows_changed(dataset, data, _own(data, own))
    protocol = replace(protocol, frames=eval_frames, image_size=data.image_size, rows_changed=changed)
    return Opened(dataset, protocol, data)


def _own(data: DataOptions, own: Any) -> Any:
    """The options of the own section, or its defaults."""
    kind = sets.find(data.name).options
    return kind() if own is None and kind else own


def _without_unmatched(protocol: Protocol, dataset: Dataset, log: Log) -> Protocol:
    """The protocol without the directions in which no query has a match; lists of one's own may lack some pairings."""
    kept = {}
    for key, direction in protocol.directions.items():
        if protocol.matches(dataset, direction):
            kept[key] = direction
        else:
            log(f"note: {key} is not scored: no query has its person in the gallery, in another camera")
    return replace(protocol, directions=kept)


def _rows_changed(dataset: Dataset, data: DataOptions, own: Any) -> str:
    """What makes the rows to be scored other than the published ones."""
    missing = dataset.counts.get("missing", {})
    lost = sum(missing.get(split, 0) for split in ("query", "gallery"))
    changes = [*sets.find(data.name).rows_changed(data, own), *([f"{lost} frames missing"] if lost else [])]
    return ", ".join(changes)


def _checking(folders: Iterable, total: int) -> Iterable:
    return tqdm(folders, total=total, desc="checking files", mininterval=2.0, leave=False)
