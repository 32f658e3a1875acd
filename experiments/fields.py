"""Which config fields a sweep may set: those that change a figure on the config's data set, and each of them once."""

from collections.abc import Collection

from ml_collections import ConfigDict

from hitpro_jax.data import sets
from hitpro_jax.options import FREE_FIELDS, flat

DRAWN = "synthetic"  # the one data set that `data.seed` draws
DRAWS = {"data.seed", "data.synthetic.preset"}  # fields of which another value is another world


def default_seed_field(config: ConfigDict) -> str:
    """What seeds set: the people of a drawn data set; elsewhere initial weights, order and augmentation."""
    return "data.seed" if config.data.name == DRAWN else "seed"


def no_effect(config: ConfigDict, field: str) -> str | None:
    """Why a field changes no figure on the config's data set; None where it may change some.

    >>> from configs import vcm
    >>> no_effect(vcm.get_config(), "data.regdb.trial")
    'is of the data set regdb, and data.name is hitsz_vcm'
    """
    name, (section, *inner) = config.data.name, field.split(".")
    if field in FREE_FIELDS:
        return "changes no figure"
    if field == "data.seed" and name != DRAWN:
        return f"draws the people of the synthetic world, and data.name is {name}"
    if section == "data" and len(inner) > 1 and inner[0] in sets.SPECS and inner[0] != name:
        return f"is of the data set {inner[0]}, and data.name is {name}"
    return None


def refusal(config: ConfigDict, seed_field: str, varied: Collection[str], overridden: Collection[str]) -> str | None:
    """Why a sweep of these fields cannot be run; None where it can.

    Args:
      config: that the sweep varies.
      seed_field: that the seeds set.
      varied: fields that the variants set.
      overridden: fields that the command line sets for every run.
    """
    value = flat(config.to_dict()).get(seed_field)
    if not isinstance(value, int) or isinstance(value, bool):
        return (
            f"--seed_field: {seed_field} is no field of whole numbers: give seed, or data.seed on the synthetic world"
        )
    if reason := no_effect(config, seed_field):
        return f"--seed_field: {seed_field} {reason}, so all seeds would be one run: give another, such as seed"
    if seed_field in varied:
        return f"--seed_field: the sweep sets {seed_field} itself, so all seeds would be one run: give another"
    if "data.root" in overridden and (several := sorted(DRAWS & {seed_field, *varied})):
        return f"--config.data.root: one folder holds one world, and {several[0]} draws several: leave it out"
    for name in sorted(overridden):
        if name == seed_field or name in varied:
            return f"--config.{name}: the sweep sets this field itself: leave it out"
    for name in sorted(varied):
        if reason := no_effect(config, name):
            return f"the sweep sets {name}, which {reason}: choose another sweep, or variants with --only"
    return None
