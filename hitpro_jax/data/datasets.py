"""Opens a data set by name: the one place that knows which loaders and which protocols there are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hitpro_jax.data import hitsz_vcm, mot, synthetic
from hitpro_jax.data.records import Dataset


@dataclass(frozen=True)
class Protocol:
    """How a data set is scored.

    name: stands in every result; camera_rule: gallery rows of the query's person and camera are left out;
    directions: key in result.json to (query, gallery), each "query" or "gallery" of the data set.
    """

    name: str
    camera_rule: bool
    directions: Mapping[str, tuple[str, str]]


CROSS_MODALITY = Protocol("hitsz_vcm", True, {"i2v": ("query", "gallery"), "v2i": ("gallery", "query")})
HALVES = Protocol(mot.PROTOCOL, False, {"halves": ("query", "gallery")})


def open_dataset(options: Mapping[str, Any]) -> tuple[Dataset, Protocol]:
    """Loads (and for made data first makes) the data set that `options`, the config's section `data`, names.

    Raises:
      ValueError: unknown name; and whatever the loader finds wrong with the files.
    """
    name = options["name"]
    if name == "hitsz_vcm":
        if not options["root"]:
            raise ValueError("data.root is not set: give the folder of HITSZ-VCM, --config.data.root=/path/to/it")
        return hitsz_vcm.load(options["root"], min_frames=options["min_frames"], repair=options["repair"],
                              check_counts=options["check_counts"]), CROSS_MODALITY
    if name == "synthetic":
        world = _world(options)
        root = options["root"] or f"data/synthetic-{options['preset']}-{world.seed}-{world.camera_seed}"
        synthetic.ensure(root, world, jobs=options["jobs"])
        return hitsz_vcm.load(root, min_frames=options["min_frames"]), CROSS_MODALITY
    if name == "mot":
        cameras = [mot.Camera(**camera) for camera in options["cameras"].values()]
        dataset = mot.load(cameras, Path(options["root"] or "data/own_video"))
        long = tuple(record for record in dataset.train if len(record.frames) >= options["min_frames"])
        return replace(dataset, train=long), HALVES
    raise ValueError(f"unknown data.name {name!r}; choose hitsz_vcm, synthetic or mot")


def _world(options: Mapping[str, Any]) -> synthetic.World:
    preset = options["preset"]
    if preset not in synthetic.PRESETS:
        raise ValueError(f"unknown data.preset {preset!r}; choose one of {', '.join(synthetic.PRESETS)}")
    return replace(synthetic.PRESETS[preset], seed=options["seed"], camera_seed=options["camera_seed"],
                   image_size=tuple(options["image_size"]))
