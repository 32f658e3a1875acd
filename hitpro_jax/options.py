"""Options: every section of the config as a frozen dataclass, with the type, range, default and meaning of each field.

`configs/base.py` makes the config from these defaults; `read` makes the dataclasses from a config once, before any data
are read, and finds all faults at once. Options are hashable, so that a jitted function takes one as a static argument.
Sections of single data sets and of baselines are dataclasses of the same kind in `data/sets/` and `methods/`.
Lengths are in frames, sizes in pixels, shares in [0, 1].
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Fields in which a run may differ from the checkpoint that it continues: they change no number, except by rounding.
FREE_FIELDS = (
    "data.root",
    "data.cache",
    "data.packed",
    "data.num_workers",
    "data.jobs",
    "mesh.cut_parameters",
    "train.log_every",
    "train.save_every",
    "train.save_steps",
)

# Fields of the length of training: a run may go on with another length, and says what changes.
LENGTH = ("train.epochs",)


@dataclass(frozen=True)
class Range:
    """The numbers that a field may hold: from `low` to `high`, both included unless they are open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} and {'below' if self.open_high else 'at most'} {self.high:.10g}"


Positive = Annotated[float, Range(0, open_low=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1, 2**31 - 1)]  # what an int32 holds
CountOrZero = Annotated[int, Range(0, 2**31 - 1)]
Cosine = Annotated[float, Range(-1, 1)]


@dataclass(frozen=True)
class MethodOptions:
    """Which method is trained."""

    name: str = "hitpro"  # one of methods.registry.METHODS


@dataclass(frozen=True)
class CameraOptions:
    """A camera of one's own: a section `data.cameras.<name>`."""

    video: str  # path of the video
    boxes: str  # path of the tracker's boxes in MOT format
    modality: Annotated[int, Range(0, 1)]  # 0 RGB, 1 IR
    camid: CountOrZero  # number of the place; an RGB and an IR camera of one place share it


@dataclass(frozen=True)
class DataOptions:
    """The data set; what belongs to one set alone is in a section of its own below `data`."""

    name: str = "hitsz_vcm"  # one of data.sets.SPECS
    protocol: str = ""  # BUPTCampus: full | full_no_camera | auxnet; "" where a data set has but one
    root: str = ""  # folder of the data set; "" lets `synthetic` and `mot` choose one below ./data
    image_size: tuple[Count, Count] = (288, 144)  # height, width
    min_frames: CountOrZero = 12  # shorter tracklets are dropped (HITSZ-VCM's rule)
    check_counts: bool = True  # refuse a copy of a real set whose counts are not the published ones
    allow_missing: bool = False  # True: leave out frames that are missing or do not decode
    cache: bool = False  # keep decoded frames in memory; for small sets
    num_workers: CountOrZero = 0  # reading processes; 0: threads of this process
    packed: str = ""  # folder of a packed cache, made by --mode=pack; "": read the images themselves
    packed_quality: Annotated[int, Range(0, 100)] = 0  # 0 keeps pixels as they are, 1 to 100 stores JPEG
    jobs: CountOrZero = 0  # processes that draw or pack pictures; 0: one per core
    seed: CountOrZero = 0  # synthetic: of the people
    cameras: Mapping[str, CameraOptions] = field(default_factory=dict, hash=False)  # mot: a section a camera

    def faults(self) -> list[str]:
        """Faults between fields, each to stand behind the section's name."""
        if self.packed or not self.packed_quality:
            return []
        return [f"packed_quality is {self.packed_quality} but packed is not set: name the folder of the packed cache"]


@dataclass(frozen=True)
class EncoderOptions:
    """TFE, the encoder."""

    backbone: str = "resnet50"  # one of models.backbones.BACKBONES
    aggregator: Literal["attention", "mean", "gem"] = "attention"
    # how the order of frames counts: not at all, by distances in attention, or by each frame's neighbours
    order: Literal["none", "relative", "motion"] = "none"
    # of the backbone's products. Their sums, the norms and a ViT's residual stream stay float32; what passes from layer
    # to layer of a ResNet, its residual stream too, is rounded to bfloat16
    dtype: Literal["float32", "bfloat16"] = "float32"
    as_product: bool = False  # convolutions as matrix products: faster on CPUs
    remat: bool = False  # recompute activations in the backward pass: a quarter of the memory, a third more time
    norm_group: CountOrZero = 0  # clips over which BatchNorm takes its statistics; 0: the batch of all devices

    def faults(self) -> list[str]:
        """Faults between fields, each to stand behind the section's name."""
        if self.order != "relative" or self.aggregator == "attention":
            return []
        return [f"order is relative but aggregator is {self.aggregator}: give aggregator attention, or order motion"]


@dataclass(frozen=True)
class MeshOptions:
    """How the state lies on the devices."""

    cut_parameters: bool = False  # cut parameters and optimiser state over the devices instead of copying them


@dataclass(frozen=True)
class InitOptions:
    """Where training starts."""

    weights: str = ""  # a safetensors file (docs/weights.md), also looked for beside the package; "": random
    run: str = ""  # workdir of another run, of whose newest checkpoint the encoder is taken; "": none

    def faults(self) -> list[str]:
        """Faults between fields, each to stand behind the section's name."""
        if not (self.run and self.weights):
            return []
        return [
            f"run is {self.run!r} and weights is {self.weights!r}: give one of them (--config.init.weights= sets none)"
        ]


@dataclass(frozen=True)
class BatchOptions:
    """What a training batch holds."""

    tracklets_per_modality: Count = 16
    clips_per_tracklet: Count = 2
    clip_length: Count = 6
    # part of the batch drawn as mined partners of the rest
    partner_share: Annotated[float, Range(0, 1, open_high=True)] = 0.5
    # a view is visited in proportion to its tracklets to this power: 0 all views alike, 1 all tracklets alike
    view_power: Share = 0.0

    @property
    def clips(self) -> int:
        """Clips of both modalities together, B."""
        return 2 * self.tracklets_per_modality * self.clips_per_tracklet


@dataclass(frozen=True)
class AugmentOptions:
    """Augmentation, drawn once a clip."""

    flip: Share = 0.5  # probability
    # border before the random crop, share of the height
    pad: Annotated[float, Range(0, 1, open_high=True)] = 10 / 288
    erase: Share = 0.5  # probability
    colour: Share = 0.5  # probability


@dataclass(frozen=True)
class PrototypeOptions:
    """ICTP, prototypes from sub-tracklets."""

    parts: Count = 4  # S sub-tracklets
    clip_length: Count = 6  # L frames of each
    batch_size: Count = 32  # clips embedded at once; a multiple of the devices, or the next one is taken
    mode: Literal["uniform", "consistency"] = "uniform"
    temperature: Positive = 0.1  # of `consistency`
    # CAP and O2CAP have 0.2; but the old value is made of all parts of a tracklet, and a clip is one of them
    momentum: Share = 0.9  # weight of the old value


@dataclass(frozen=True)
class StageOptions:
    """HCPA, what both stages of mining have in common."""

    enabled: bool = True
    rule: Literal["relative", "statistic", "both", "fixed"] = "both"  # DTS
    # share of the anchor's best similarity, start and end of training
    rho: tuple[Share, Share] = (0.95, 0.85)
    kappa: tuple[float, float] = (0.5, -0.5)  # standard deviations above the mean best similarity
    schedule: Literal["linear", "cosine", "constant", "reverse"] = "linear"
    fixed: Cosine = 0.5  # threshold of rule `fixed`
    ema: Annotated[float, Range(0, 1, open_high=True)] = 0.5  # weight of the last refresh's threshold
    reciprocity: Count = 20  # K_r
    positives: Count = 10  # at most so many a tracklet
    weighting: Literal["softmax", "uniform", "margin", "vote", "hard"] = "softmax"  # SWA
    temperature: Positive = 0.1  # of `softmax`
    use_reliability: bool = False  # weights times the reliability of the positive's prototype
    ambiguous: CountOrZero = 10  # at most so many candidates just under the threshold are kept out of the negatives
    band: NotNegative = 0.05  # width of "just under"
    neighbours: Count = 64  # candidates that the rules look at
    block: Count = 512  # rows of the similarity matrix held at once

    def faults(self) -> list[str]:
        """Faults between fields, each to stand behind the section's name."""
        return [
            f"{name} is {getattr(self, name)}: give at most the {self.neighbours} neighbours that are kept"
            for name in ("reciprocity", "positives")
            if getattr(self, name) > self.neighbours
        ]


@dataclass(frozen=True)
class WithinOptions(StageOptions):
    """HCPA stage 1: positives of the same modality in other cameras."""

    camera_bias: Literal["none", "mean", "zscore"] = "mean"
    balance: CountOrZero = 10  # nearest candidates over which all rows are made equally near (CSLS); 0: not
    per_camera: Count = 3  # accepted candidates of one camera


@dataclass(frozen=True)
class AcrossOptions(StageOptions):
    """HCPA stage 2: positives of the other modality."""

    debias: Literal["none", "mean", "balanced_knn"] = "mean"
    cycle: bool = True
    ban_same_camera: bool = False  # True where RGB and IR of one camera are aligned twins (BUPTCampus)


@dataclass(frozen=True)
class AlignmentOptions:
    """How both stages find their candidates."""

    centre: bool = True  # compare prototypes relative to the mean of their view
    search: Literal["exact", "ivf"] = "exact"  # all pairs, or those in likely k-means cells (from 1e5 tracklets on)
    cells: CountOrZero = 0  # ivf: k-means cells; 0: square root of the number of tracklets
    probes: Count = 32  # ivf: cells in which each tracklet looks; its positives are in its own nearest ones


@dataclass(frozen=True)
class LossOptions:
    """HCL, contrast at three levels."""

    temperature: Positive = 0.05
    intra: NotNegative = 1.0  # weight of level 1 at the start of training
    intra_end: NotNegative = 1.0  # and the share of it that is left at the end
    within: NotNegative = 0.5  # weight of level 2
    across: NotNegative = 0.5  # weight of level 3
    within_begin: Share = 0.1  # share of training after which level 2 starts
    across_begin: Share = 0.2
    ramp: Share = 0.1  # share of training over which a level's weight grows to its full value
    frame: NotNegative = 0.0  # weight of the frame-level term
    alpha: Share = 0.5  # weight of the own prototype in level 2's target
    hard_negatives: Count = 50
    # prototypes of the own view that look like the same person: left out of level 1 (mask), targets like the own
    # prototype (positive), or negatives like all others (none)
    ambiguity: Literal["mask", "positive", "none"] = "positive"
    same_view: Count = 5  # at most so many of them
    same_view_rule: Literal["parts", "stage1"] = "parts"  # as alike as halves of one tracklet, or by stage 1's rule


@dataclass(frozen=True)
class OptimOptions:
    """The optimiser."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 3.5e-4
    backbone_rate: NotNegative = 1.0  # share of the rate that the backbone gets; 0 freezes it
    weight_decay: NotNegative = 5e-4
    schedule: Literal["constant", "cosine", "steps"] = "steps"
    adapt_steps: CountOrZero = 0  # steps at rate 0 before the warm-up: BatchNorm's statistics move to the data first
    warmup_steps: CountOrZero = 3000
    clip_norm: NotNegative = 0.0  # largest norm of the gradient; 0: off


@dataclass(frozen=True)
class TrainOptions:
    """Length of training, and what happens how often."""

    epochs: Count = 50
    steps_per_epoch: Count = 300
    eval_every: CountOrZero = 5  # epochs; 0: never; the last one is always evaluated
    save_every: CountOrZero = 1  # epochs
    save_steps: CountOrZero = 0  # and every so many steps; 0: only at the start of an epoch
    log_every: CountOrZero = 10  # steps

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class EvalOptions:
    """Evaluation."""

    frames: Count = 6  # of each tracklet
    batch_size: Count = 32


@dataclass(frozen=True)
class Options:
    """The whole config; `more` holds the sections of single data sets and methods by their dotted names."""

    seed: CountOrZero = 0  # of initial weights, order, frame choice and augmentation
    method: MethodOptions = MethodOptions()
    data: DataOptions = DataOptions()
    encoder: EncoderOptions = EncoderOptions()
    mesh: MeshOptions = MeshOptions()
    init: InitOptions = InitOptions()
    batch: BatchOptions = BatchOptions()
    augment: AugmentOptions = AugmentOptions()
    prototypes: PrototypeOptions = PrototypeOptions()
    within: WithinOptions = WithinOptions()
    across: AcrossOptions = AcrossOptions()
    alignment: AlignmentOptions = AlignmentOptions()
    loss: LossOptions = LossOptions()
    optim: OptimOptions = OptimOptions()
    train: TrainOptions = TrainOptions()
    eval: EvalOptions = EvalOptions()
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)


def plain(options: Any) -> dict[str, Any]:
    """A section's fields and values as a mapping, sections within it as mappings too; without `more`.

    >>> plain(MeshOptions())
    {'cut_parameters': False}
    """
    values = {each.name: getattr(options, each.name) for each in dataclasses.fields(options) if each.name != "more"}
    return {name: plain(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted names; an empty section is a field of its own.

    >>> flat({"seed": 1, "data": {"cameras": {}, "synthetic": {"preset": "tiny"}}})
    {'seed': 1, 'data.cameras': {}, 'data.synthetic.preset': 'tiny'}
    """
    fields = {}
    for key, value in section.items():
        nested = isinstance(value, Mapping) and value
        fields |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return fields


def read(
    kind: type[T], section: Mapping[str, Any], name: str, faults: list[str], *, known: frozenset = frozenset()
) -> T:
    """Makes the dataclass `kind` of a section of the config.

    Args:
      kind: a dataclass of this module's form.
      section: names to values, sections within it as mappings.
      name: of the section, for messages; "" for the whole config.
      faults: gets a sentence for every field that is missing, unknown, of another type or out of range, and for every
        fault that the dataclass's own `faults` method finds.
      known: further names that the section may have.

    Returns:
      The dataclass; where faults were found, with its defaults instead of the faulty fields.

    >>> faults = []
    >>> read(MeshOptions, {"cut_parameters": 3}, "mesh", faults), faults
    (MeshOptions(cut_parameters=False), ['mesh.cut_parameters is 3: give True or False'])
    """
    if not isinstance(section, Mapping):
        faults.append(f"{name} is {section!r}: give a section of fields, as configs/base.py makes it")
        return kind()
    hints = get_type_hints(kind, include_extras=True)
    names = [each.name for each in dataclasses.fields(cast(Any, kind)) if each.name != "more"]
    before, values = len(faults), {}
    for key in names:
        where = f"{name}.{key}" if name else key
        if key not in section:
            faults.append(f"{where} is missing: give it a value, such as that of configs/base.py")
        elif get_origin(hints[key]) is Mapping:
            values[key] = _read_each(get_args(hints[key])[1], section[key], where, faults)
        elif dataclasses.is_dataclass(hints[key]):
            inner = frozenset(each.removeprefix(f"{key}.") for each in known if each.startswith(f"{key}."))
            values[key] = read(hints[key], section[key], where, faults, known=inner)
        elif fault := _fault(hints[key], section[key]):
            faults.append(f"{where} is {section[key]!r}: {fault}")
        else:
            values[key] = _converted(hints[key], section[key])
    unknown = [key for key in section if key not in names and key not in known]
    faults += [
        f"{f'{name}.' if name else ''}{key} is no field of the config: see hitpro_jax/options.py" for key in unknown
    ]
    made = kind(**values)
    between_fields = getattr(made, "faults", list)
    if len(faults) == before:
        faults += [f"{name}.{fault}" for fault in between_fields()]
    return made


def _read_each(kind: type, sections: Any, name: str, faults: list[str]) -> dict[str, Any]:
    """Sections of one kind under names of the user's own."""
    if not isinstance(sections, Mapping):
        faults.append(f"{name} is {sections!r}: give a section for each, by its name")
        return {}
    before = len(faults)
    fields = [each.name for each in dataclasses.fields(cast(Any, kind))]
    for key, section in sections.items():
        there = section if isinstance(section, Mapping) else {}
        if section is not there or set(there) != set(fields):
            faults.append(f"{name}.{key} has the fields {', '.join(there) or 'none'}: give {', '.join(fields)}")
            continue
        for field_name, hint in get_type_hints(kind, include_extras=True).items():
            if fault := _fault(hint, there[field_name]):
                faults.append(f"{name}.{key}.{field_name} is {there[field_name]!r}: {fault}")
    return {} if len(faults) > before else {key: kind(**section) for key, section in sections.items()}


def _fault(hint: Any, value: Any) -> str | None:
    """What is wrong with a value of a field of this type, as what to do about it; None if nothing is."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, allowed = get_args(hint)
        wrong = _fault(base, value)
        return f"give {_meant(hint)}" if wrong or value not in allowed else None
    if origin is Literal:
        return None if value in get_args(hint) else f"choose one of {', '.join(get_args(hint))}"
    if origin is tuple:
        parts = get_args(hint)
        wrong = not isinstance(value, list | tuple) or len(value) != len(parts)
        faults = [] if wrong else [fault for fault in map(_fault, parts, value) if fault]
        return f"give {len(parts)} values, each {_meant(parts[0])}" if wrong or faults else None
    if isinstance(value, bool):
        return None if hint is bool else f"give {_KINDS[hint]}"
    accepted = (int, float) if hint is float else hint
    # by comparison, because an int may be too large for a float
    if not isinstance(value, accepted) or (hint is float and not -LARGEST < value < LARGEST):
        return f"give {_KINDS[hint]}"
    return None


def _meant(hint: Any) -> str:
    """What a number of this type may be."""
    base, *allowed = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return " ".join([_KINDS[base], *map(str, allowed)])


LARGEST = 1e300  # no field of the config means more; NaN and infinity fail the comparison with it
_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def _converted(hint: Any, value: Any) -> Any:
    """Lists become tuples, so that options are hashable."""
    return tuple(value) if get_origin(hint) is tuple else value
