"""The data sets that there are: one file each, and one line each here."""

from collections.abc import Mapping

from hitpro_jax.data import protocols
from hitpro_jax.data.sets import buptcampus, folder, hitsz_vcm, llcm, mars, mot, regdb, synthetic, sysu_mm01
from hitpro_jax.data.sets.base import DatasetSpec

SPECS: Mapping[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        hitsz_vcm.SPEC,
        buptcampus.SPEC,
        synthetic.SPEC,
        mot.SPEC,
        folder.SPEC,
        mars.SPEC,
        sysu_mm01.SPEC,
        regdb.SPEC,
        llcm.SPEC,
    )
}
"""By their names, the values of `data.name`."""

DIRECTION_TITLES: Mapping[str, str] = {
    **protocols.TITLES,
    **{key: title for spec in SPECS.values() for key, title in spec.titles.items()},
}
"""Of every direction of every protocol: its key in result.json to its name for people."""


def find(name: str) -> DatasetSpec:
    """The data set of this name.

    Raises:
      ValueError: there is none.
    """
    if name not in SPECS:
        raise ValueError(f"unknown data.name {name!r}; choose one of {', '.join(SPECS)}")
    return SPECS[name]
