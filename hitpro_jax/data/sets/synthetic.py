"""The synthetic camera network, drawn by `data/synthetic/world.py` on first use and read as HITSZ-VCM is."""

from dataclasses import dataclass, replace
from typing import Literal

from hitpro_jax.data.protocols import BOTH_WAYS, Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.data.synthetic import world as worlds
from hitpro_jax.options import CountOrZero, DataOptions

Preset = Literal["tiny", "small", "medium", "large", "cameras", "contaminated", "unbalanced", "open_set"]


@dataclass(frozen=True)
class SyntheticOptions:
    """Which world is drawn; `data.seed` draws the people."""

    preset: Preset = "small"  # sizes and difficulty: `worlds.PRESETS`
    camera_seed: CountOrZero = 0  # draws the cameras


def world_of(data: DataOptions, own: SyntheticOptions) -> worlds.World:
    """The world that the options describe.

    Raises:
      ValueError: an unknown preset, or seeds that are not for data sets.
    """
    if own.preset not in worlds.PRESETS:
        raise ValueError(f"unknown data.synthetic.preset {own.preset!r}; choose one of {', '.join(worlds.PRESETS)}")
    if worlds.PRETRAINING_SEED in (data.seed, own.camera_seed):
        raise ValueError(
            f"data.seed and data.synthetic.camera_seed {worlds.PRETRAINING_SEED} are those of the shipped "
            "weights' own training: choose another"
        )
    return replace(
        worlds.PRESETS[own.preset], seed=data.seed, camera_seed=own.camera_seed, image_size=tuple(data.image_size)
    )


def _load(data: DataOptions, own: SyntheticOptions) -> Dataset:
    worlds.ensure(data.root, world_of(data, own), jobs=data.jobs)
    dataset = hitsz_vcm.load(data.root, min_frames=data.min_frames, check_counts=False)
    return replace(dataset, name="synthetic world")


def _default_root(data: DataOptions, own: SyntheticOptions) -> str:
    return f"data/synthetic-{own.preset}-{data.seed}-{own.camera_seed}"


SPEC = DatasetSpec(
    name="synthetic",
    title="the synthetic world",
    options=SyntheticOptions,
    load=_load,
    # no frames and no image size of its own: pictures are as large as the config has them drawn
    protocols=(Protocol("synthetic", "same_person", BOTH_WAYS),),
    default_root=_default_root,
)
