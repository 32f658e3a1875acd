"""Weights in one safe file: reads and writes safetensors, never pickles.

A file holds `params/...` and `batch_stats/...` leaves in half precision under their "/"-joined Flax names.
"""

from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

STEM_OF = {"stem_ir": "stem_rgb"}  # a missing infrared stem starts as a copy of the visible one, as in AGW


def save(path: str | Path, variables: dict, metadata: dict[str, str]) -> Path:
    """Writes the backbone and the neck of an encoder, in half precision; returns the path.

    Left out: the infrared stem (it starts as a copy of the visible one) and the temporal aggregator.
    """
    flat = flatten_dict(variables, sep="/")
    kept = {name: np.asarray(leaf, np.float16) for name, leaf in flat.items()
            if "stem_ir" not in name and "aggregator" not in name}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, path, metadata)
    return Path(path)


def load_into(variables: dict, path: str | Path) -> dict:
    """Returns `variables` with every leaf of the file put in its place; the temporal aggregator stays as it is.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a name or a shape of the file does not fit, or a leaf of backbone or neck is not in the file; all of
        them are listed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: set init.weights to a safetensors file, or to '' for none")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            found = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}): fetch or make it again") from error
    wanted = flatten_dict(variables, sep="/")
    for name in wanted:
        source = name.replace("stem_ir", STEM_OF["stem_ir"])
        if name not in found and source in found:
            found[name] = found[source]
    unknown = sorted(set(found) - set(wanted))
    missing = sorted(n for n in wanted if n not in found and "aggregator" not in n)
    misfit = sorted(f"{n} {found[n].shape} instead of {wanted[n].shape}" for n in set(found) & set(wanted)
                    if found[n].shape != wanted[n].shape)
    if unknown or missing or misfit:
        raise ValueError(f"{path} does not fit this encoder. Not in the encoder: {unknown}. "
                         f"Not in the file: {missing}. Other shape: {misfit}.")
    merged = {name: found[name].astype(np.float32) if name in found else leaf for name, leaf in wanted.items()}
    return unflatten_dict(merged, sep="/")
