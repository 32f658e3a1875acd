"""Named sweeps: plain generators of (variant, overrides of config fields); `sweep.py` runs them.

The first variant of a sweep is the config as it is, with three exceptions: `components` ends with it, and `tuning` and
`tuned` are lists of settings.
"""

from collections.abc import Iterator
from typing import NamedTuple

Variants = Iterator[tuple[str, dict]]


class BarOf(NamedTuple):
    """In the place of a fixed bar: that of equal recall, read from the finished run of a variant on the same seed."""

    variant: str


METHODS = ("frozen", "cluster_contrast", "adca", "pgm", "cap", "sdcl", "supervised")
SETTINGS = ("cameras", "contaminated", "unbalanced", "open_set")
STRICTER = "HiTPro stricter, open_set"
ADAPTED = {"optim.adapt_steps": 40}  # steps in which no weight moves, but BatchNorm's statistics and the memory do
TRIALS = {
    "cluster_contrast": {"clusters.eps": 0.4, "clusters.temperature": 0.07},
    "adca": {"clusters.eps": 0.4, "adca.begin": 0.2},
    "pgm": {"clusters.eps": 0.4, "pgm.begin": 0.2},
    "cap": {"cap.eps": 0.4, "cap.weight": 1.0},
    "sdcl": {"clusters.eps": 0.4, "sdcl.across": 0.1},
}
CHOSEN = {
    "cluster_contrast": "cluster_contrast, adapted, clusters.temperature 0.07",
    "adca": "adca, adapted, optim.learning_rate 0.0007",
    "pgm": "pgm, adapted, optim.learning_rate 0.0007",
    "cap": "cap",
    "sdcl": "sdcl, adapted",
}  # by experiments/results/evidence/tuning.json


def components() -> Variants:
    """The ladder: from contrast within a camera to the whole method, one component after another."""
    plain = {
        f"{stage}.{field}": value
        for stage in ("within", "across")
        for field, value in (("rule", "fixed"), ("weighting", "uniform"))
    }
    rungs = {
        "+ parts (ICTP)": ["prototypes.parts"],
        "+ look-alikes of a view (ours)": ["loss.ambiguity"],
        "+ stage 1 and level 2": ["within.enabled"],
        "+ stage 2 and level 3": ["across.enabled"],
        "+ dynamic thresholds (DTS)": ["within.rule", "across.rule"],
        "+ soft weights (SWA)": ["within.weighting", "across.weighting"],
    }
    missing = {
        "prototypes.parts": 1,
        "loss.ambiguity": "none",
        "within.enabled": False,
        "across.enabled": False,
        **plain,
    }
    yield "level 1", dict(missing)
    for name, fields in rungs.items():
        for field in fields:
            del missing[field]
        yield name, dict(missing)


def levels() -> Variants:
    """HiTPro, each stage or level taken away in turn, and the one term that is off by default put in."""
    yield "HiTPro", {}
    yield "without stage 2 and level 3", {"across.enabled": False}
    yield "without stage 1 and level 2", {"within.enabled": False}
    yield "without level 1", {"loss.intra": 0.0}
    yield "with the frame term", {"loss.frame": 0.5}


def additions() -> Variants:
    """What this project's mining has besides the parts that the abstract names, each taken away in turn."""
    yield "HiTPro", {}
    yield "not relative to views", {"alignment.centre": False}
    yield "stage 1 not balanced", {"within.balance": 0}
    yield "look-alikes by stage 1", {"loss.same_view_rule": "stage1", "loss.ambiguity": "mask"}


def dts() -> Variants:
    """The rule of the thresholds, and how they move."""
    yield "HiTPro", {}
    for rule in ("relative", "statistic", "fixed"):
        yield f"rule {rule}", _both(rule=rule)
    for schedule in ("cosine", "constant", "reverse"):
        yield f"schedule {schedule}", _both(schedule=schedule)


def thresholds() -> Variants:
    """Dynamic thresholds, and fixed bars of equal recall: of the own world, and carried over from another.

    A bar of the own world is tuned on it, with its person ids; a dynamic threshold claims to need no tuning a data set.
    `cameras` has other cameras, twice as many. `experiments/thresholds.py` reads the bars, `sweep.py` when.
    """
    worlds = {"": {}, ", cameras": {"data.synthetic.preset": "cameras"}}
    for world, fields in worlds.items():
        yield f"HiTPro{world}", dict(fields)
    for world, fields in worlds.items():
        for other in worlds:
            bars = "of equal recall" if other == world else "of the other world"
            yield f"bars {bars}{world}", {**fields, **_both(rule="fixed", fixed=BarOf(f"HiTPro{other}"))}


def swa() -> Variants:
    """The weights of positives."""
    yield "HiTPro", {}
    for weighting in ("uniform", "margin", "vote", "hard"):
        yield weighting, _both(weighting=weighting)
    yield "times reliability", _both(use_reliability=True)


def parts() -> Variants:
    """Sub-tracklets of a prototype, and how they are aggregated; one part has no halves and so no look-alikes."""
    yield "HiTPro", {}
    yield "4 parts, no look-alikes", {"loss.ambiguity": "none"}
    for count in (1, 2, 8):
        yield f"{count} parts", {"prototypes.parts": count}
    yield "consistency", {"prototypes.mode": "consistency"}


def frames() -> Variants:
    """Frames of a training clip and of a sub-tracklet."""
    yield "HiTPro", {}
    for length in (1, 3, 4):
        yield f"{length} frames", {"batch.clip_length": length, "prototypes.clip_length": length}


def temperature() -> Variants:
    yield "HiTPro", {}
    for value in (0.03, 0.07, 0.1):
        yield f"temperature {value}", {"loss.temperature": value}


def momentum() -> Variants:
    yield "HiTPro", {}
    for value in (0.0, 0.2, 0.5, 0.8):
        yield f"momentum {value}", {"prototypes.momentum": value}


def neighbours() -> Variants:
    """Positives kept of each tracklet, and how far down the list they must be reciprocal."""
    yield "HiTPro", {}
    for count in (1, 3, 15):
        yield f"{count} positives", _both(positives=count)
    for count in (1, 5, 10):
        yield f"reciprocity {count}", _both(reciprocity=count)


def loss_weights() -> Variants:
    yield "HiTPro", {}
    for level, values in (
        ("intra", (0.0, 0.25, 1.25)),
        ("within", (0.0, 0.25, 2.0)),
        ("across", (0.0, 0.25, 2.0)),
        ("alpha", (0.25, 0.75)),
        ("frame", (0.25, 1.0)),
    ):
        for value in values:
            yield f"{level} {value}", {f"loss.{level}": value}


def schedule() -> Variants:
    """When levels 2 and 3 begin, and whether level 1 ends."""
    yield "HiTPro", {}
    yield "all levels from the start", {"loss.within_begin": 0.0, "loss.across_begin": 0.0, "loss.ramp": 0.0}
    yield "later", {"loss.within_begin": 0.3, "loss.across_begin": 0.5}
    yield "level 1 fades", {"loss.intra_end": 0.0}
    yield "BatchNorm adapts first", dict(ADAPTED)


def encoder() -> Variants:
    """How frames make a tracklet, and whether their order counts; a gait shows in clips of six, not of two."""
    yield "HiTPro", {}
    for aggregator in ("mean", "gem"):
        yield aggregator, {"encoder.aggregator": aggregator}
    for order in ("relative", "motion"):
        yield f"order {order}", {"encoder.order": order}
    yield "mean, order motion", {"encoder.aggregator": "mean", "encoder.order": "motion"}


def baselines() -> Variants:
    """HiTPro and the adapted baselines, each with its values in the config: those of its paper in `configs/base.py`."""
    yield "HiTPro", {}
    for name in METHODS:
        yield name, {"method.name": name}


def tuning() -> Variants:
    """Five settings of each baseline: as in the config, after BatchNorm has adapted, and that with one change."""
    for name, fields in TRIALS.items():
        method = {"method.name": name}
        yield name, method
        yield f"{name}, adapted", {**method, **ADAPTED}
        for field, value in {"optim.learning_rate": 7e-4, **fields}.items():
            yield f"{name}, adapted, {field} {value}", {**method, **ADAPTED, field: value}


def tuned() -> Variants:
    """The methods of `baselines`, each baseline as it was best in `tuning`; HiTPro also with the baselines' pooling.

    HiTPro and `supervised` are adapted: they were not in `tuning`, and on data seeds 0 and 1 HiTPro was better so.
    """
    settings = dict(tuning())
    yield "HiTPro", dict(ADAPTED)
    yield "HiTPro, mean of frames", {**ADAPTED, "encoder.aggregator": "mean"}
    for name in METHODS:
        yield name, settings[CHOSEN[name]] if name in TRIALS else {"method.name": name, **ADAPTED}


def settings() -> Variants:
    """Harder synthetic worlds: HiTPro, the frozen encoder and the baselines on each of them.

    `STRICTER` is for sets in which many people are seen in one modality alone; chosen on data seed 0.
    """
    for preset in SETTINGS:
        for name, overrides in baselines():
            yield f"{name}, {preset}", {"data.synthetic.preset": preset, **overrides}
    yield STRICTER, {"data.synthetic.preset": "open_set", "across.kappa": (0.5, 0.5)}


def seeds() -> Variants:
    """The spread of one training over its seed: initial weights, order, frame choice, augmentation."""
    yield "HiTPro", {}
    for seed in range(1, 5):
        yield f"training seed {seed}", {"seed": seed}


def _both(**fields) -> dict:
    """The same fields of both stages."""
    return {f"{stage}.{name}": value for stage in ("within", "across") for name, value in fields.items()}


SWEEPS = {
    sweep.__name__: sweep
    for sweep in (
        components,
        levels,
        additions,
        dts,
        thresholds,
        swa,
        parts,
        frames,
        temperature,
        momentum,
        neighbours,
        loss_weights,
        schedule,
        encoder,
        baselines,
        tuning,
        tuned,
        settings,
        seeds,
    )
}
