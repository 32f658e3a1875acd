"""The configs of configs/ as tests read them: their files, all fields by dotted names, and every choice of a name."""

import dataclasses
import importlib
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

from hitpro_jax.methods import registry
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.options import Options

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")


def load(name: str) -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def fields(config: ConfigDict, prefix: str = "") -> dict:
    """Dotted names of all leaves; a loader's cameras are one leaf."""
    leaves = {}
    for name, value in config.items():
        inner = isinstance(value, ConfigDict) and prefix + name != "data.cameras"
        leaves |= fields(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return leaves


def changed(name: str, **values) -> ConfigDict:
    """A config of configs/ with fields set by their dotted names."""
    config = load(name)
    config.update_from_flattened_dict(values)
    return config


def choices(kind: type = Options, section: str = "") -> list[tuple[str, str]]:
    """(field, value) of every field that takes one of several names."""
    found = [] if section else [("method.name", name) for name in registry.METHODS]
    found += [] if section else [("encoder.backbone", name) for name in BACKBONES]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name == "more":
            continue
        if dataclasses.is_dataclass(hint):
            found += choices(hint, f"{section}{name}.")
        elif get_origin(hint) is Literal:
            found += [(f"{section}{name}", value) for value in get_args(hint)]
    return found
