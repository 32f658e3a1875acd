"""Weights in one safe file: reads and writes safetensors, never pickles.

A file holds `params/...` and `batch_stats/...` leaves under their "/"-joined Flax names. Two parts may be missing: the
temporal aggregator then stays as it is, and the infrared stem starts as a copy of the visible one (as in AGW). The
names of all else that a file lacks stand in its metadata under `lacks`.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from hitpro_jax.models.layers import STEM_IR, STEM_RGB

ROOT = Path(__file__).parents[3]  # the folder that holds the package hitpro_jax
AGGREGATOR = "params/aggregator/"


def save(path: str | Path, variables: dict, metadata: dict[str, str]) -> Path:
    """Writes the backbone and the neck of an encoder in half precision, without infrared stem and aggregator.

    Args:
      path: safetensors file to write; its folder is made.
      variables: `params` and `batch_stats` of an encoder.
      metadata: of the file.

    Returns:
      The path.
    """
    flat = flatten_dict(variables, sep="/")
    return write(
        path,
        {
            name: np.asarray(leaf, np.float16)
            for name, leaf in flat.items()
            if f"/{STEM_IR}/" not in name and not name.startswith(AGGREGATOR)
        },
        metadata,
    )


def write(path: str | Path, leaves: Mapping[str, np.ndarray], metadata: dict[str, str]) -> Path:
    """Writes leaves, whole or not at all; the same leaves and metadata give the same bytes.

    Args:
      path: safetensors file to write; its folder is made.
      leaves: arrays by "/"-joined name.
      metadata: of the file.

    Returns:
      The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    plain = memoryview(serialize({name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}))
    # safetensors writes metadata in random order, so the header is made here, with them sorted. A file is the length of
    # the header (u64), the header as JSON, filled up with spaces to a multiple of 8 bytes, and the tensors.
    start = 8 + int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(bytes(plain[8:start]))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(scratch, "wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, plain[start:]])
    os.replace(scratch, path)
    return path


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a safetensors file.

    Args:
      path: the file.

    Returns:
      All tensors by name, and the metadata.

    Raises:
      ValueError: the file is damaged or of another format, or its numbers are of an 8-bit type, which NumPy lacks;
        bfloat16 is read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch or make it again") from error
    except AttributeError as error:  # safetensors' error for a type that NumPy lacks
        raise ValueError(
            f"{path} holds numbers that cannot be read ({error}): save them as float32, float16 or bfloat16"
        ) from error


def find(path: str | Path) -> Path:
    """Finds a weights file.

    Args:
      path: of the file; a relative one may also start in the folder that holds the package.

    Returns:
      The path itself where there is a file, else the one beside the package.

    Raises:
      FileNotFoundError: neither is there.
    """
    for candidate in (Path(path), ROOT / path):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no weights at {path}: set init.weights to a safetensors file, or to '' for none")


def load_into(variables: dict, path: str | Path, report: Callable[[str], None] = lambda line: None) -> dict:
    """Puts every leaf of a file into an encoder's variables.

    Args:
      variables: `params` and `batch_stats` of the encoder; left as they are.
      path: of the file, see `find`.
      report: gets one line that names the file and the parts that start as they were.

    Returns:
      New variables, float32.

    Raises:
      FileNotFoundError: there is no such file, here or beside the package.
      ValueError: a name or a shape of the file does not fit, or the file lacks a leaf of backbone or neck that its
        metadata do not list; all of them are listed.
    """
    file = find(path)
    found, metadata = read(file)
    wanted = flatten_dict(variables, sep="/")
    lacks = set(json.loads(metadata.get("lacks", "[]")))
    visible_stem, infrared_stem = f"/{STEM_RGB}/", f"/{STEM_IR}/"
    if not any(infrared_stem in name for name in found):  # a file with a part of an infrared stem must have all of it
        visible = {name.replace(visible_stem, infrared_stem): name for name in wanted if visible_stem in name}
        found |= {ours: found[name] for ours, name in visible.items() if name in found}
        lacks |= {ours for ours, name in visible.items() if name in lacks}
    absent = {name for name in wanted if name not in found}
    require_fit(file, found, wanted, may_lack={name for name in absent if name in lacks or name.startswith(AGGREGATOR)})
    kept = sorted(
        {name.split("/")[1] for name in absent if "/backbone/" not in name}
        | {name for name in absent if "/backbone/" in name}
    )
    report(f"weights: {file}; not in it, so as initialised: {', '.join(kept) or 'nothing'}")
    merged = {name: found[name].astype(np.float32) if name in found else leaf for name, leaf in wanted.items()}
    return unflatten_dict(merged, sep="/")


def with_source_name(name: str, origin: Mapping[str, str]) -> str:
    """Our name and, where it is another, the source's.

    Args:
      name: ours.
      origin: our names to the source's.

    Returns:
      Both as a text.

    >>> with_source_name("params/neck/scale", {"params/neck/scale": "bottleneck.weight"})
    'params/neck/scale (source: bottleneck.weight)'
    """
    theirs = origin.get(name, name)
    return name if theirs == name else f"{name} (source: {theirs})"


def require_fit(
    path: str | Path, found: Mapping, wanted: Mapping, may_lack: set[str], origin: Mapping[str, str] | None = None
) -> None:
    """Compares names and shapes of two mappings of leaves.

    Args:
      path: of the file, for the message.
      found: leaves of the file.
      wanted: leaves of the encoder.
      may_lack: names that need not be in the file.
      origin: our names to those in the user's file, where these are others.

    Raises:
      ValueError: they differ; every name and shape in which they do is listed.
    """
    origin = origin or {}
    unknown = sorted(with_source_name(name, origin) for name in found.keys() - wanted.keys())
    missing = sorted(wanted.keys() - found.keys() - may_lack)
    misfit = sorted(
        f"{with_source_name(name, origin)} {found[name].shape} instead of {wanted[name].shape}"
        for name in found.keys() & wanted.keys()
        if found[name].shape != wanted[name].shape
    )
    if not (unknown or missing or misfit):
        return
    message = (
        f"{path} does not fit this encoder. Not in the encoder: {unknown}. "
        f"Not in the file: {missing}. Other shape: {misfit}."
    )
    if any("/positions " in name for name in misfit):
        message += " Positions belong to one data.image_size: convert the source again with --image_size=HEIGHT,WIDTH."
    raise ValueError(message)
