"""Opens a data set by name: the one place that knows which loaders there are."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hitpro_jax.data import protocols
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.data.sets import buptcampus, folder, hitsz_vcm, image_sets, mars, mot
from hitpro_jax.data.synthetic import world as synthetic


def open_dataset(options: Mapping[str, Any]) -> tuple[Dataset, Protocol]:
    """Loads (and for made data first makes) the data set that `options`, the config's section `data`, names.

    Raises:
      ValueError: unknown name or protocol; and whatever the loader finds wrong with the files.
    """
    name = options["name"]
    protocol = protocols.choose(name, options["protocol"])
    if name == "hitsz_vcm":
        return hitsz_vcm.load(
            _root(options, hitsz_vcm.NAME),
            min_frames=options["min_frames"],
            repair=options["repair"],
            check_counts=options["check_counts"],
        ), protocol
    if name == "buptcampus":
        return buptcampus.load(
            _root(options, buptcampus.NAME), auxiliary=options["auxiliary"], check_counts=options["check_counts"]
        ), protocol
    if name == "synthetic":
        world = _world(options)
        root = options["root"] or f"data/synthetic-{options['preset']}-{world.seed}-{world.camera_seed}"
        synthetic.ensure(root, world, jobs=options["jobs"])
        dataset = hitsz_vcm.load(root, min_frames=options["min_frames"], check_counts=False)
        return replace(dataset, name="synthetic world"), protocol
    if name == "mot":
        cameras = [mot.Camera(**camera) for camera in options["cameras"].values()]
        dataset = mot.load(cameras, Path(options["root"] or "data/own_video"))
        long = tuple(record for record in dataset.train if len(record.frames) >= options["min_frames"])
        return replace(dataset, train=long), protocol
    if name == "folder":
        dataset = folder.load(_root(options, "the tracklets"), options["csv"], min_frames=options["min_frames"])
        return dataset, protocols.of_folder(dataset)
    if name == "mars":
        return mars.load(_root(options, "MARS")), protocol
    return _image_set(name, options, protocol)


def _image_set(name: str, options: Mapping[str, Any], protocol: Protocol) -> tuple[Dataset, Protocol]:
    """One of the sets that are scored by trials, which the protocol's name then tells."""
    trial = options["trial"]
    if name == "sysu_mm01":
        dataset = image_sets.load_sysu_mm01(_root(options, "SYSU-MM01"), gallery=options["gallery"], trial=trial)
        return dataset, replace(protocol, name=f"sysu_mm01 {options['gallery']} trial {trial}")
    if name == "regdb":
        dataset = image_sets.load_regdb(_root(options, "RegDB"), trial=trial)
        return dataset, replace(protocol, name=f"regdb trial {trial}")
    dataset = image_sets.load_llcm(_root(options, "LLCM"), query=options["query"], trial=trial)
    return dataset, replace(protocols.LLCM[options["query"]], name=f"llcm trial {trial}")


def _root(options: Mapping[str, Any], title: str) -> str:
    if not options["root"]:
        raise ValueError(f"data.root is not set: give the folder of {title}, --config.data.root=/path/to/it")
    return options["root"]


def _world(options: Mapping[str, Any]) -> synthetic.World:
    preset = options["preset"]
    if preset not in synthetic.PRESETS:
        raise ValueError(f"unknown data.preset {preset!r}; choose one of {', '.join(synthetic.PRESETS)}")
    if synthetic.PRETRAINING_SEED in (options["seed"], options["camera_seed"]):
        raise ValueError(
            f"data.seed and data.camera_seed {synthetic.PRETRAINING_SEED} are those of the shipped "
            "weights' own training: choose another"
        )
    return replace(
        synthetic.PRESETS[preset],
        seed=options["seed"],
        camera_seed=options["camera_seed"],
        image_size=tuple(options["image_size"]),
    )
