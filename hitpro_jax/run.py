"""Opens a run: its options, data, encoder, method and workdir, each made from the config when first asked for."""

import dataclasses
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hitpro_jax import diagnostics, evaluate, legacy, optim
from hitpro_jax.checkpoint import Checkpointer, Saved, abstract, config_differences, listed
from hitpro_jax.data import opening, sets
from hitpro_jax.data.pipeline import ClipReading, FrameReader
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset, Tracklet, anonymise, views
from hitpro_jax.distributed import first_process_first
from hitpro_jax.encode import Embed, make_embed
from hitpro_jax.features import Embedder
from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.methods.baselines.options import SECTIONS
from hitpro_jax.methods.registry import METHODS, make_method
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.models.encoder import Encoder, init_variables, make_encoder, shapes_of
from hitpro_jax.models.norms import groups_of
from hitpro_jax.models.pretrained.weights import load_into
from hitpro_jax.options import FREE_FIELDS, LENGTH, Options, plain, read
from hitpro_jax.scoring.result import Result
from hitpro_jax.sharding import make_mesh, pad_rows, replicated, require_cut, row_sharding
from hitpro_jax.steps import Steps, initial_state, make_steps, state_sharding
from hitpro_jax.types import Mined, TrackletInfo, TrainState
from hitpro_jax.workdir import Workdir

MEAN_OF_FRAMES = {"aggregator": "mean", "order": "none"}  # fields of the encoder under image methods
BANK_MULTIPLE = 256  # rows: few sizes of a bank, so that compiled programs serve several sets
CHECKPOINTS = "checkpoints"  # folder of a workdir
AGGREGATOR = "aggregator"  # key of the one part of an encoder that another run's may lack


class TrainingSet(NamedTuple):
    """The training set as the training path sees it: no person ids, and a shuffled order, which cannot reveal them."""

    tracklets: tuple[Tracklet, ...]
    info: TrackletInfo  # [N] int32, on the host
    bank_info: TrackletInfo  # [P], the same padded to the rows of the bank, cut by rows over the devices

    @property
    def num_views(self) -> int:
        """V, views that occur."""
        return int(self.info.view.max()) + 1


class Training(NamedTuple):
    """What the training loop works with besides its state."""

    data: TrainingSet
    method: Method
    steps: Steps
    state: TrainState  # at step 0, on the host
    shardings: TrainState
    describe: Callable[[Mined, Mined | None], dict[str, float]]  # diagnostics; the only holder of person ids


class Run:
    """Everything that works on a run. A part that is not asked for is not made, so a command opens what it needs.

    Attributes:
      options: the config, checked.
      record: the config as it is stored in the workdir, JSON-able.
      workdir: its files, and the terminal.
      devices: to compile for; None: all devices of all processes.
      method: the class of the method.
    """

    def __init__(
        self,
        options: Options,
        record: Mapping[str, Any],
        workdir: Workdir,
        devices: Sequence[jax.Device] | None = None,
    ):
        self.options, self.record, self.workdir, self.devices = options, record, workdir, devices
        self.method = METHODS[options.method.name]

    @cached_property
    def mesh(self) -> Mesh:
        """The run's devices in one row."""
        return make_mesh(self.devices)

    @cached_property
    def opened(self) -> opening.Opened:
        """The data set, its files looked for, and its protocol; reports what was found."""
        options, own = self.options, self.data_options
        with first_process_first():  # what it draws or crops is there for the others
            dataset, protocol = opening.load(options.data, own)
        return opening.check(
            dataset, protocol, options.data, own, eval_frames=options.eval.frames, log=self.workdir.log
        )

    @property
    def data_options(self) -> Any:
        """Options of the data set's own section; None: it has none."""
        return self.options.more.get(f"data.{self.options.data.name}")

    @property
    def training_trial(self) -> int | None:
        """Number of the trial whose training set is used (see `DatasetSpec.training_trial`); None: there is but one."""
        field = sets.find(self.options.data.name).training_trial
        return getattr(self.data_options, field) if field else None

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        return self.opened.dataset

    @property
    def protocol(self) -> Protocol:
        """How the data set is scored."""
        return self.opened.protocol

    @cached_property
    def reader(self) -> FrameReader:
        """The reader of the data set's frames."""
        return self.opened.reader()

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder, without its variables."""
        return make_encoder(self.options.encoder)

    @cached_property
    def embed(self) -> Embed:
        """The compiled encoder in evaluation mode: (variables, frames, mask, layout) -> features [B, D]."""
        return make_embed(self.encoder, self.mesh)

    @cached_property
    def embedder(self) -> Embedder:
        """What turns tracklets of a split into features, together with variables of the encoder."""
        return Embedder(self.embed, self.mesh, self.reader, self.options.eval, self.reading)

    @property
    def reading(self) -> ClipReading:
        """Which part of every batch this process reads, and with how many workers."""
        return ClipReading(jax.process_index(), jax.process_count(), self.options.data.num_workers)

    @property
    def encoder_record(self) -> dict[str, Any]:
        """What a checkpoint's weights belong to: the encoder's fields and the size of its input."""
        return {**self.record["encoder"], "image_size": list(self.options.data.image_size)}

    @property
    def last_step(self) -> int:
        """Optimiser steps of the whole run; 0 for a method that does not train."""
        return self.options.train.steps if self.method.trains else 0

    @cached_property
    def training(self) -> Training:
        """The training set, the method and its compiled steps, and the state at step 0."""
        tracklets, pids = anonymise(self.dataset.train, self.options.seed)
        data = training_set(tracklets, self.mesh)
        identities = None
        if self.method.needs_identities:
            identities = identities_of(pids, len(data.bank_info.valid), self.options.method.name)
        # one device needs no shard_map
        mesh = self.mesh if self.mesh.size > 1 else None
        method = make_method(self.options, Setting(data.num_views, mesh, identities))
        for line in method.notes(data.info, np.array([len(tracklet.frames) for tracklet in tracklets])):
            self.workdir.log(line)
        describe = partial(
            diagnostics.describe,
            info=data.info,
            # precision and recall need every id
            pids=pids if (pids >= 0).all() else None,
            ban_same_camera=self.options.across.ban_same_camera,
        )
        return Training(data, method, *self.build(data, method), describe)

    def build(self, data: TrainingSet, method: Method) -> tuple[Steps, TrainState, TrainState]:
        """The compiled steps of a method, the state at step 0 on the host, and its shardings.

        Args:
          data: of which the rows of the bank are read.
          method: to be compiled.
        """
        options = self.options
        variables = self.initial_variables
        optimiser = optim.make_optimiser(options.optim, options.train.steps)
        dim = variables["params"]["neck"]["scale"].shape[0]
        memory, own = method.init(len(data.bank_info.valid), dim), method.own_parameters(dim, options.seed)
        start = partial(initial_state, variables, optimiser, memory, own)
        shardings = state_sharding(jax.eval_shape(start), method, self.mesh, cut_parameters=options.mesh.cut_parameters)
        steps = make_steps(self.encoder, optimiser, method, options.train.steps, self.mesh, shardings)
        return steps, start(), shardings

    @cached_property
    def initial_variables(self) -> dict:
        """The encoder's variables that training starts from: pretrained, another run's, or random by the seed."""
        init = self.options.init
        variables = init_variables(self.encoder, self.options.data.image_size, self.options.seed)
        if init.weights:
            return load_into(variables, init.weights, self.workdir.log)
        if init.run:
            # a run that goes on has its own encoder, and can do without the other's folder
            return variables if self.has_checkpoints else self.variables_of(Path(init.run), variables)
        self.workdir.log(
            f"note: {self.options.encoder.backbone} starts from random weights; published results start from "
            "pretrained ones: set init.weights"
        )
        return variables

    def checkpoints(self, *, read_only: bool = False) -> Checkpointer:
        """The checkpoints of the workdir; to be closed, or used in a `with`."""
        return Checkpointer(
            self.workdir.path / CHECKPOINTS,
            # a reader compares the encoder alone, see `trained_variables`
            config=None if read_only else self.record,
            defaults=defaults(),
            ignore=(*FREE_FIELDS, *LENGTH, *(f"data.{name}" for name in sets.SPECS if name != self.options.data.name)),
            read_only=read_only,
            log=self.workdir.log,
        )

    def trained_variables(self) -> tuple[dict, int]:
        """The encoder's variables of the newest checkpoint, and its step.

        Raises:
          ValueError: there is no checkpoint, or it belongs to another encoder.
        """
        shapes = shapes_of(self.encoder, self.options.data.image_size)
        # the optimiser's state and the memory are not read
        wanted = TrainState(step=np.int32(0), opt_state=None, memory=None, **shapes)

        def target(saved: Saved) -> TrainState:
            if differing := config_differences(encoder_of(saved), self.encoder_record):
                raise ValueError(
                    f"the checkpoint at step {saved.step} belongs to another encoder ({listed(differing)}): "
                    "give the config it was trained with"
                )
            return abstract(wanted, replicated(self.mesh))

        with self.checkpoints(read_only=True) as checkpoints:
            restored = checkpoints.restore_latest(target, partial=True)
        if restored is None:
            raise ValueError(f"no checkpoint in {self.workdir.path}: give the --workdir of a run, or train one first")
        state, _, step = restored
        return state.variables, step

    @property
    def has_checkpoints(self) -> bool:
        """Whether the workdir holds a checkpoint to go on from."""
        with self.checkpoints(read_only=True) as checkpoints:
            return bool(checkpoints.steps())

    def variables_of(self, other: Path, variables: dict) -> dict:
        """The encoder of another run's newest checkpoint, on the host; an aggregator that it lacks stays as it is.

        Args:
          other: workdir of that run, whose data, cameras, method and optimiser may be others.
          variables: of this run's encoder as it would start without.

        Raises:
          FileNotFoundError: there is no checkpoint.
          ValueError: its encoder is of other shapes, or was trained on people of this run's test set.
        """
        require_checkpoints(other)

        def target(saved: Saved) -> TrainState:
            if saved.config:
                self.refuse_people_trained_on(saved.config, other)
            wanted = {name: dict(part) for name, part in variables.items()}
            if not any(f"['{AGGREGATOR}']" in name for name in saved.leaves):
                wanted["params"].pop(AGGREGATOR, None)
            shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), wanted)
            state = TrainState(step=np.int32(0), opt_state=None, memory=None, **shapes)
            if differing := saved.other_arrays(state, partial=True):
                theirs, ours = (
                    {name: str(value) for name, value in each.items()}
                    for each in (encoder_of(saved), self.encoder_record)
                )
                raise ValueError(
                    f"init.run={other} has an encoder of other shapes ({listed(differing)}): give the fields of its "
                    f"config.json ({'; '.join(config_differences(theirs, ours))}), or another run"
                )
            return state

        with Checkpointer(other / CHECKPOINTS, read_only=True, log=self.workdir.log) as checkpoints:
            restored = checkpoints.restore_latest(target, partial=True)
        assert restored is not None  # as required above
        state, _, step = restored
        complete = state.params.keys() == variables["params"].keys()
        lacking = "" if complete else "; it has no aggregator, so that is as initialised"
        self.workdir.log(f"encoder: of the checkpoint at step {step} of {other}{lacking}")
        return {"params": {**variables["params"], **state.params}, "batch_stats": state.batch_stats}

    def refuse_people_trained_on(self, config: Mapping[str, Any], workdir: Path) -> None:
        """Refuses the encoder of a run that was trained on another trial than this run's.

        Args:
          config: of that run, under today's names.
          workdir: of that run, for the message.

        Raises:
          ValueError: the data set has trials with training sets of their own, and that run's is another.
        """
        name = self.options.data.name
        field = sets.find(name).training_trial
        if not field or config["data"]["name"] != name or not METHODS[config["method"]["name"]].trains:
            return
        trained = config["data"][name][field]
        if trained != self.training_trial:
            raise ValueError(
                f"the encoder in {workdir} was trained on trial {trained} of {name}, with people that other "
                f"trials test: give --config.data.{name}.trial={trained}. The published figure is the mean of ten "
                "trainings"
            )

    def require_fit(self) -> None:
        """Refuses, before data are read, what these devices, processes or files do not allow.

        Raises:
          ValueError: a batch cannot be cut over the devices or into BatchNorm's groups; the method is for one process;
            the data set's options choose no training set; `init.weights` or `init.run` do not fit the encoder.
          FileNotFoundError: `init.weights` is not there, or `init.run` has saved nothing.
        """
        options = self.options
        if self.method.trains:
            require_cut(options.batch, self.mesh.size, jax.process_count())
            groups_of(options.batch.clips, options.encoder.norm_group, interleaved=False)
            if self.training_trial == 0:
                raise ValueError(
                    f"data.{options.data.name}.trial is 0, the test sets of all trials, which have training sets of "
                    "their own: choose one to train on, or --config.method.name=frozen"
                )
        if self.method.refresh_on_host and jax.process_count() > 1:
            raise ValueError(
                f"method {options.method.name} makes its labels on one host: run it as a single process, on any number "
                "of devices, or choose method.name=hitpro"
            )
        _ = self.initial_variables  # read here, so that what does not fit the encoder is refused before data are read

    def evaluate(self, variables: dict, step: int) -> Result:
        """Scores of every direction of the protocol; the result has none where nothing is labelled.

        Args:
          variables: of the encoder.
          step: at which they were trained, for the result.
        """
        return evaluate.evaluate(
            self.embedder,
            variables,
            self.dataset,
            self.protocol,
            step=step,
            titles=sets.DIRECTION_TITLES,
            workdir=self.workdir,
        )


def open_run(config: ConfigDict, workdir: Workdir, devices: Sequence[jax.Device] | None = None) -> Run:
    """Opens a run; no data are read yet.

    Args:
      config: of the run, see `configs/base.py`. An image method gets its one adaptation to video here: its tracklet
        feature is the mean of its frame features.
      workdir: folder of the run.
      devices: to compile for, where they are not here; None: all devices of all processes.

    Raises:
      ValueError: fields of the config are faulty; one sentence for each.
    """
    options, record = read_options(config), json.loads(config.to_json_best_effort())
    if note := adaptation(options):
        workdir.log(note)
        options = dataclasses.replace(options, encoder=dataclasses.replace(options.encoder, **MEAN_OF_FRAMES))
        record["encoder"] |= MEAN_OF_FRAMES
    return Run(options, record, workdir, devices)


def adaptation(options: Options) -> str | None:
    """What to log where an image method gets the mean of frame features as its tracklet feature; None: it has it."""
    name = options.method.name
    given = {field: getattr(options.encoder, field) for field in MEAN_OF_FRAMES}
    changed = [
        f"encoder.{field} is {mean}, not {given[field]}"
        for field, mean in MEAN_OF_FRAMES.items()
        if given[field] != mean
    ]
    if not METHODS[name].image_method or not changed:
        return None
    return (
        f"note: {name} is an image method, whose tracklet feature is the mean of frame features: {', '.join(changed)}"
    )


def defaults() -> dict[str, Any]:
    """The whole config at its defaults, with the sections of single data sets and methods."""
    config = plain(Options())
    for name, kind in sections().items():
        *above, last = name.split(".")
        section = config
        for part in above:
            section = section[part]
        section[last] = plain(kind())
    return config


def require_checkpoints(workdir: Path) -> None:
    """Raises FileNotFoundError where `init.run` names a folder in which no run has saved anything."""
    if not any((workdir / CHECKPOINTS).glob("[0-9]*")):
        raise FileNotFoundError(f"init.run={workdir} has no checkpoint: give the workdir of a run that has saved one")


def encoder_of(saved: Saved) -> dict[str, Any]:
    """The record of a checkpoint's encoder (see `Run.encoder_record`), with today's fields."""
    return legacy.completed({"encoder": saved.meta["encoder"]}, {"encoder": defaults()["encoder"]})["encoder"]


def sections() -> dict[str, type]:
    """The dataclass of every section of single data sets and methods, by its dotted name."""
    of_data = {f"data.{spec.name}": spec.options for spec in sets.SPECS.values() if spec.options}
    of_methods = {method.section: method.section_type for method in METHODS.values() if method.section_type}
    return of_data | SECTIONS | of_methods


def read_options(config: ConfigDict) -> Options:
    """The config as options, every field checked.

    Raises:
      ValueError: fields are missing, unknown, of another type or out of range, or a name is not one of the lists; a
        sentence for each, all at once.
    """
    faults: list[str] = []
    more, kinds = {}, sections()
    plain = config.to_dict()
    options = read(Options, plain, "", faults, known=frozenset(kinds))
    for name, kind in kinds.items():
        *above, last = name.split(".")
        section = plain
        for part in above:
            section = section.get(part) if isinstance(section, Mapping) else None
        # a method or data set that came after the config's file has its defaults
        missing = not isinstance(section, Mapping) or last not in section
        more[name] = kind() if missing else read(kind, section[last], name, faults)
    for field, value, known in (
        ("method.name", options.method.name, METHODS),
        ("data.name", options.data.name, sets.SPECS),
        ("encoder.backbone", options.encoder.backbone, BACKBONES),
    ):
        if value not in known:
            faults.append(f"{field} is {value!r}: choose one of {', '.join(known)}")
    options = dataclasses.replace(options, more=more)
    if options.method.name in METHODS and not faults:
        faults += METHODS[options.method.name].faults(options)
    if options.data.name in sets.SPECS:
        try:
            sets.SPECS[options.data.name].choose_protocol(options.data.protocol)
        except ValueError as fault:
            faults.append(str(fault))
    if faults:
        several = f"{len(faults)} fields of the config cannot be used:\n  " if len(faults) > 1 else ""
        raise ValueError(several + "\n  ".join(faults))
    return options


def training_set(tracklets: tuple[Tracklet, ...], mesh: Mesh) -> TrainingSet:
    """Arrays of what each tracklet may know of itself; padding rows are not valid and belong to no view.

    Args:
      tracklets: N, without person ids.
      mesh: over which the rows of the bank are cut.
    """
    size = bank_rows(len(tracklets), mesh)
    modality = np.array([tracklet.modality for tracklet in tracklets], np.int32)
    camera = np.array([tracklet.camid for tracklet in tracklets], np.int32)
    view, _ = views(tracklets)
    info = TrackletInfo(modality, camera, view, np.ones(len(tracklets), bool))
    padded = jax.tree.map(lambda column: np.pad(column, (0, size - len(column))), info)
    return TrainingSet(tracklets, info, jax.device_put(padded, row_sharding(mesh)))


def bank_rows(tracklets: int, mesh: Mesh) -> int:
    """P, rows of the bank: a multiple of `BANK_MULTIPLE` and of the devices."""
    return pad_rows(-(-tracklets // BANK_MULTIPLE) * BANK_MULTIPLE, mesh)


def identities_of(pids: np.ndarray, rows: int, method: str) -> np.ndarray:
    """Person ids [N] as dense identities from 0 on, int32 [rows], -1 for padding.

    Raises:
      ValueError: a tracklet has no id.
    """
    if (pids < 0).any():
        raise ValueError(
            f"method {method} needs a person id for every training tracklet, and {(pids < 0).sum()} "
            "have none: label them, or choose another method.name"
        )
    identities = np.unique(pids, return_inverse=True)[1].astype(np.int32)
    return np.pad(identities, (0, rows - len(identities)), constant_values=-1)


def fingerprint(tracklets: tuple[Tracklet, ...]) -> int:
    """CRC32 of the training set's frames, modalities and cameras in their order: a run belongs to its data."""
    return zlib.crc32("\n".join(f"{t.modality} {t.camid} {' '.join(t.frames)}" for t in tracklets).encode())
