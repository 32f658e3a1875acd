"""Weights in one safe file: reads and writes safetensors, never pickles; converts public weights into such a file.

  python -m hitpro_jax.models.pretrained SOURCE OUT [--image_size=288,144] [--family=...] [--half]

SOURCE: torchvision's ResNet-50, or a ViT-B/16 of timm, DeiT, CLIP or TransReID-SSL, as .pth (needs torch) or
.safetensors; see `models/convert.py`, or `--help`.

A file holds `params/...` and `batch_stats/...` leaves under their "/"-joined Flax names. Two parts start without it:
the temporal aggregator stays as it is, and an infrared stem that is missing as a whole is a copy of the visible
one (as in AGW). Whatever else a file has not got, it says itself: the names stand in its metadata under `lacks`.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

ROOT = Path(__file__).parents[3]  # the folder that hitpro_jax lies in
AGGREGATOR = "params/aggregator/"


def save(path: str | Path, variables: dict, metadata: dict[str, str]) -> Path:
    """Writes the backbone and the neck of an encoder, in half precision; returns the path.

    Left out: the infrared stem (it starts as a copy of the visible one) and the temporal aggregator.
    """
    flat = flatten_dict(variables, sep="/")
    return write(
        path,
        {
            name: np.asarray(leaf, np.float16)
            for name, leaf in flat.items()
            if "/stem_ir/" not in name and not name.startswith(AGGREGATOR)
        },
        metadata,
    )


def write(path: str | Path, leaves: Mapping[str, np.ndarray], metadata: dict[str, str]) -> Path:
    """Writes leaves by their "/"-joined names, whole or not at all; returns the path.

    The same leaves and metadata give the same bytes, so that checksums can be compared. safetensors writes metadata in
    random order; so it goes into the header here, sorted: u64 length, JSON filled up with spaces to 8 bytes, tensors.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    plain = memoryview(serialize({name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}))
    start = 8 + int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(bytes(plain[8:start]))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(scratch, "wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, plain[start:]])
    os.replace(scratch, path)
    return path


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors of a safetensors file by name, and its metadata.

    Raises:
      ValueError: the file is damaged or of another format, or its numbers are of a type that NumPy has not (8 bits;
        it has bfloat16 by way of jax).
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch or make it again") from error
    except AttributeError as error:  # as safetensors says it
        raise ValueError(
            f"{path} holds numbers that cannot be read ({error}): save them as float32, float16 or bfloat16"
        ) from error


def find(path: str | Path) -> Path:
    """The file itself, or, for a relative path that is not there, the one beside the package.

    Raises:
      FileNotFoundError: neither is there.
    """
    for place in (Path(path), ROOT / path):
        if place.is_file():
            return place
    raise FileNotFoundError(f"no weights at {path}: set init.weights to a safetensors file, or to '' for none")


def load_into(variables: dict, path: str | Path, say: Callable[[str], None] = lambda line: None) -> dict:
    """Returns `variables` with every leaf of the file put in its place, as float32.

    say: gets one line that names the file and the parts that start as they were.

    Raises:
      FileNotFoundError: there is no such file, here or beside the package.
      ValueError: a name or a shape of the file does not fit, or a leaf of backbone or neck is not in the file though
        the file does not say that it lacks it; all of them are listed.
    """
    place = find(path)
    found, metadata = read(place)
    wanted = flatten_dict(variables, sep="/")
    lacks = set(json.loads(metadata.get("lacks", "[]")))
    if not any("/stem_ir/" in name for name in found):  # a file with a part of one must have the rest, too
        visible = {name.replace("/stem_rgb/", "/stem_ir/"): name for name in wanted if "/stem_rgb/" in name}
        found |= {ours: found[name] for ours, name in visible.items() if name in found}
        lacks |= {ours for ours, name in visible.items() if name in lacks}
    absent = {name for name in wanted if name not in found}
    require_fit(place, found, wanted, may_lack={n for n in absent if n in lacks or n.startswith(AGGREGATOR)})
    kept = sorted(
        {name.split("/")[1] for name in absent if "/backbone/" not in name}
        | {name for name in absent if "/backbone/" in name}
    )
    say(f"weights: {place}; not in it, so as initialised: {', '.join(kept) or 'nothing'}")
    merged = {name: found[name].astype(np.float32) if name in found else leaf for name, leaf in wanted.items()}
    return unflatten_dict(merged, sep="/")


def both(name: str, origin: Mapping[str, str]) -> str:
    """Our name and, where it was another, the source's.

    >>> both("params/neck/scale", {"params/neck/scale": "bottleneck.weight"})
    'params/neck/scale (source: bottleneck.weight)'
    """
    theirs = origin.get(name, name)
    return name if theirs == name else f"{name} (source: {theirs})"


def require_fit(
    path: str | Path, found: Mapping, wanted: Mapping, may_lack: set[str], origin: Mapping[str, str] | None = None
) -> None:
    """Raises a ValueError that lists every name and shape in which two mappings of leaves differ.

    origin: our names to those in the user's file, where these are others.
    """
    origin = origin or {}
    unknown = sorted(both(name, origin) for name in set(found) - set(wanted))
    missing = sorted(set(wanted) - set(found) - may_lack)
    misfit = sorted(
        f"{both(n, origin)} {found[n].shape} instead of {wanted[n].shape}"
        for n in set(found) & set(wanted)
        if found[n].shape != wanted[n].shape
    )
    remedy = " Positions belong to one data.image_size: convert the source again with --image_size=HEIGHT,WIDTH."
    if unknown or missing or misfit:
        raise ValueError(
            f"{path} does not fit this encoder. Not in the encoder: {unknown}. "
            f"Not in the file: {missing}. Other shape: {misfit}."
            + remedy
            * any("/positions " in name for name in misfit)
        )
