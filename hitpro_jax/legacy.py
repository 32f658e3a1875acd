"""Names that earlier releases wrote into workdirs, so that their configs, checkpoints and results are still read."""

from collections.abc import Mapping
from typing import Any

# Dotted config fields of earlier releases, and what they are called now.
RENAMED_FIELDS: dict[str, tuple[str, ...]] = {
    "data.repair": ("data.hitsz_vcm.repair",),
    "data.auxiliary": ("data.buptcampus.auxiliary",),
    "data.preset": ("data.synthetic.preset",),
    "data.camera_seed": ("data.synthetic.camera_seed",),
    "data.csv": ("data.folder.csv",),
    "data.gallery": ("data.sysu_mm01.gallery",),
    "data.query": ("data.llcm.query",),
    "data.trial": ("data.regdb.trial", "data.sysu_mm01.trial", "data.llcm.trial"),
}

SHARED_DEFAULT = 1  # of data.trial

# Parts of the names of a checkpoint's arrays.
RENAMED_ARRAYS = {
    ".memory.owner": ".memory.scope",
    ".memory.kin": ".memory.same_person",
    "['method']['centre']": "['method']['proxies']",
}

# Fields that came later and whose default changes a run, by dotted names, and the value that does what was done before.
# All others are taken at their defaults, which change nothing.
ADDED_FIELDS: dict[str, Any] = {}

# Fields that are gone, and the value whose effect is that of today; a run with another cannot go on.
REMOVED_FIELDS: dict[str, Any] = {}


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of an earlier release under today's names; one of today unchanged.

    >>> upgraded({"data": {"repair": True, "root": ""}})
    {'data': {'root': '', 'hitsz_vcm': {'repair': True}}}
    """
    new = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
    for old, names in RENAMED_FIELDS.items():
        section, field = old.split(".")
        if field not in new.get(section, {}):
            continue
        value = new[section].pop(field)
        for name in names:
            _, own, inner = name.split(".")
            # a field that several data sets shared was that of the run's own set; the others had its default
            meant = value if len(names) == 1 or own == new[section].get("name") else SHARED_DEFAULT
            new[section][own] = {**new[section].get(own, {}), inner: meant}
    return new


def completed(config: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A saved config with the fields that came after it, at the values that do what was done before them.

    Args:
      config: under today's names.
      defaults: of the fields that there are today; what is not in them, such as cameras of one's own, stays as it is.
      prefix: dotted name of the section, with a dot behind it.

    >>> completed({"seed": 3, "loss": {"frame": 0.5}}, {"seed": 0, "loss": {"frame": 0.0, "later": 7}})
    {'seed': 3, 'loss': {'frame': 0.5, 'later': 7}}
    """
    gone = object()
    new = {key: value for key, value in config.items() if REMOVED_FIELDS.get(f"{prefix}{key}", gone) != value}
    for key, default in defaults.items():
        name = f"{prefix}{key}"
        if isinstance(default, Mapping):
            there = new.get(key, {})
            new[key] = completed(there, default, f"{name}.") if isinstance(there, Mapping) else there
        else:
            new.setdefault(key, ADDED_FIELDS.get(name, default))
    return new


def upgraded_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted config fields of an earlier release under today's names.

    >>> upgraded_fields({"data.preset": "large", "seed": 1})
    {'data.synthetic.preset': 'large', 'seed': 1}
    """
    return {name: value for old, value in fields.items() for name in RENAMED_FIELDS.get(old, (old,))}


def is_earlier(config: Mapping[str, Any]) -> bool:
    """Whether a config was written by a release before the renames.

    >>> is_earlier({"data": {"repair": True}}), is_earlier({"data": {"hitsz_vcm": {"repair": True}}})
    (True, False)
    """
    names = (name.split(".") for name in RENAMED_FIELDS)
    return any(field in config.get(section, {}) for section, field in names)


def array_name(saved: str) -> str:
    """Today's name of a checkpoint's array.

    >>> array_name(".memory.kin")
    '.memory.same_person'
    """
    for old, new in RENAMED_ARRAYS.items():
        saved = saved.replace(old, new)
    return saved
