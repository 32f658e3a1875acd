"""From a file of public weights to leaves of our encoder; `python -m hitpro_jax.models.pretrained` is the command."""

import argparse
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from hitpro_jax.models.encoder import MEAN, STD, Encoder, shapes_of
from hitpro_jax.models.layers import STEM_IR
from hitpro_jax.models.pretrained import weights
from hitpro_jax.models.pretrained.naming import FAMILIES, Rules, Source, Tensors, translate

POSITIONS = "params/backbone/positions"
PATCH_KERNEL, PATCH_BIAS = "params/backbone/stem_rgb/kernel", "params/backbone/stem_rgb/bias"
DAMAGED = "is cut short or no torch file: fetch it again"


def read(path: str | Path) -> dict[str, Any]:
    """Tensors by name of a .safetensors file, or of a torch file, which is read with `weights_only`.

    Args:
      path: the file; its ending decides which of the two it is.

    Returns:
      Names to arrays; torch's floating-point tensors become float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read safely, or torch is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a .pth or .safetensors file of public weights")
    if path.suffix == ".safetensors":
        return weights.read(path)[0]
    _require_torch_file(path)
    try:
        import torch  # ty: ignore[import-not-found]  # no dependency, the extra `convert`
    except ImportError as error:
        raise ValueError(
            f"{path} is a torch file, and torch is not installed: install it (pip install torch), or give "
            "the weights as .safetensors"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options that DINO stores beside its weights
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file can make torch raise anything
        if isinstance(error, EOFError) or re.search("PytorchStreamReader|unexpected EOF|truncated", str(error)):
            raise ValueError(f"{path} {DAMAGED}") from error
        raise ValueError(
            f"{path} does not hold tensors alone ({type(error).__name__}), and nothing else is read: load "
            "the model where it comes from and torch.save its state_dict()"
        ) from error
    found = _state_dict(content, path)
    if strangers := [name for name, value in found.items() if not isinstance(value, torch.Tensor)]:
        raise ValueError(f"{path} holds other things than tensors: {strangers}; torch.save the state_dict() alone")
    return {name: _plain(name, value, path) for name, value in found.items()}


def _require_torch_file(path: Path) -> None:
    """Raises a ValueError where a file is not what torch.save writes: a zip archive, before torch 1.6 a pickle."""
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # behind the length of a header
        raise ValueError(f"{path} looks like a safetensors file: give it the ending .safetensors")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = any(name.endswith("/data.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        whole = start[:1] == b"\x80"
    if not whole:
        raise ValueError(f"{path} {DAMAGED}")


def _plain(name: str, value: Any, path: Path) -> np.ndarray:
    """A torch tensor as an array, float32 if it is of floats."""
    try:
        return (value.float() if value.is_floating_point() else value).detach().numpy()
    except (TypeError, RuntimeError) as error:  # torch's errors for sparse, quantised and meta tensors
        raise ValueError(
            f"{name} in {path} is no plain tensor ({value.layout}, {value.dtype}, on {value.device}): "
            "torch.save a state_dict() of dense, unquantised tensors"
        ) from error


def _state_dict(content: Any, path: Path) -> Mapping[str, Any]:
    """The innermost mapping of tensors: training programs keep it beside their optimiser's state."""
    while isinstance(content, Mapping):
        inner = [content[key] for key in ("teacher", "state_dict", "model") if isinstance(content.get(key), Mapping)]
        if not inner:
            return content
        content = inner[0]
    raise ValueError(
        f"{path} holds a {type(content).__name__} instead of a state_dict: torch.save the model's state_dict()"
    )


def convert(
    source: Source,
    encoder: Encoder,
    image_size: tuple[int, int],
    *,
    path: str | Path,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    source_size: tuple[int, int] | None = None,
    partial: frozenset[str] = frozenset(),
) -> tuple[Tensors, list[str]]:
    """A source's tensors as leaves of our backbone.

    Args:
      source: tensors of a recognised family.
      encoder: whose leaves to make.
      image_size: height and width of the frames; positions are resized for it.
      path: of the source, for messages.
      mean: of the source's pixels, in [0, 1]; None: the family's.
      std: their deviation; None: the family's.
      source_size: image size of the source's positions; None: a square, or twice as high as wide.
      partial: names, ours or those in the file, that may be missing or left over.

    Returns:
      Leaves by our names, float32; and the names that the encoder has beyond them, sorted.

    Raises:
      ValueError: names or shapes do not fit, or a number is NaN or infinite; all such names are listed.
    """
    family = FAMILIES[source.family]
    leaves, origin = _translated(source, family.rules, path)
    wanted = {
        name: leaf
        for name, leaf in flatten_dict(shapes_of(encoder, image_size), sep="/").items()
        if f"/{STEM_IR}/" not in name and not name.startswith(weights.AGGREGATOR)
    }
    partial = _our_names(partial, origin)
    lacks = {name for name in wanted if name not in leaves and ("/neck/" in name or name in partial)}
    dropped = {name for name in partial if name in leaves and name not in wanted}
    if idle := partial - dropped - lacks:
        raise ValueError(f"--partial names what neither {path} nor the encoder has alone: {sorted(idle)}")
    leaves = {name: leaf for name, leaf in leaves.items() if name not in dropped}
    _require_source(path, leaves, wanted, {*lacks, *family.may_lack}, origin)
    named = {weights.with_source_name(name, origin): leaf for name, leaf in leaves.items()}
    require_finite(path, named, "holds", "fetch the weights again")
    patch = getattr(encoder.backbone, "patch", 0)
    if POSITIONS in leaves:
        old = _grid_of(source_size, patch) if source_size else None
        leaves[POSITIONS] = resize_positions(leaves[POSITIONS], old, _grid_of(image_size, patch), path)
    if PATCH_KERNEL not in lacks:
        fold_pixels(leaves, np.array(mean or family.mean), np.array(std or family.std))
    return leaves, sorted(wanted.keys() - leaves.keys())


def _translated(source: Source, rules: Rules, path: str | Path) -> tuple[Tensors, dict[str, str]]:
    """Leaves under our names, or the source's where no rule fits, and these names to those in the file."""
    leaves, origin = {}, {}
    for name, value in source.tensors.items():
        ours = translate(name, value, rules)
        if ours == POSITIONS:
            _require_table(path, source.origin[name], np.shape(value))
        origin[ours or name] = source.origin[name]
        leaves[ours or name] = _oriented(ours or name, np.asarray(value, np.float32))
    return leaves, origin


def _our_names(names: frozenset[str], origin: Mapping[str, str]) -> frozenset[str]:
    """Names in the file, also one of several joined ones, as ours; ours as they are."""
    own = {part: ours for ours, theirs in origin.items() for part in theirs.split(" + ")}
    return frozenset(own.get(name, name) for name in names)


def _require_table(path: str | Path, name: str, shape: tuple[int, ...]) -> None:
    """Checks positions in the source: [1 + n, D] or [1, 1 + n, D], n > 0."""
    if len(shape) < 2 or shape[:-2] not in ((), (1,)) or shape[-2] < 2:
        raise ValueError(
            f"{name} in {path} is {list(shape)}, but positions are [1, rows, width] or [rows, width], the "
            "class token's row and then one for each patch: save them so"
        )


def _require_source(
    path: str | Path, leaves: Tensors, wanted: Mapping, may_lack: set[str], origin: Mapping[str, str]
) -> None:
    """Checks names and shapes before positions are resized (any number of rows will do) and pixels are folded."""
    rows = {
        name: np.empty(leaves[name].shape[:1] + wanted[name].shape[1:])
        for name in {POSITIONS} & leaves.keys() & wanted.keys()
    }
    weights.require_fit(path, leaves, {**wanted, **rows}, may_lack, origin)


def require_finite(path: str | Path, leaves: Tensors, verb: str, remedy: str) -> None:
    """Refuses NaN and infinity, which would spread through all that is computed.

    Args:
      path: of the source, for the message.
      leaves: arrays of floats by name.
      verb: what the source does with the numbers, for the message.
      remedy: what to do, for the message.

    Raises:
      ValueError: some leaves hold NaN or infinity; all of them are listed.
    """
    if faulty := sorted(name for name, leaf in leaves.items() if not np.isfinite(leaf).all()):
        raise ValueError(f"{path} {verb} NaN or infinity in {', '.join(faulty)}: {remedy}")


def _oriented(name: str, value: np.ndarray) -> np.ndarray:
    """Torch's OIHW and [out, in] as Flax's HWIO and [in, out]; token [D] and positions [1 + n, D] without batch."""
    if name.endswith("/kernel"):
        return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if name.endswith("/token"):
        return value.reshape(-1)
    return value.reshape(value.shape[-2:]) if name.endswith("/positions") else value


def fold_pixels(leaves: Tensors, mean: np.ndarray, std: np.ndarray) -> None:
    """Changes the patch embedding so that it takes ImageNet-normalised pixels instead of (x - mean) / std.

    With n = (x - MEAN) / STD, (x - mean) / std = n * STD / std + (MEAN - mean) / std: the factor goes into the kernel
    and the shift into the bias.

    Args:
      leaves: by our names; the patch embedding's are replaced, and a bias is made where it has none.
      mean: [3] of the source's pixels, in [0, 1].
      std: [3], their deviation.

    Raises:
      ValueError: the statistics differ, but the first convolution pads with zeros.
    """
    gain, shift = np.array(STD) / std, (np.array(MEAN) - mean) / std
    kernel = leaves.get(PATCH_KERNEL)
    if kernel is None:
        if np.any(gain != 1) or np.any(shift):
            raise ValueError(
                "--mean and --std must be ImageNet's here: the first convolution pads with zeros, so "
                "other statistics cannot be folded into it"
            )
        return
    # CLIP's patch embedding has no bias
    bias = leaves.get(PATCH_BIAS, 0.0) + np.einsum("hwio,i->o", kernel.astype(np.float64), shift)
    # HWIO: a gain belongs to an input channel
    leaves[PATCH_KERNEL] = (kernel * gain[:, None]).astype(np.float32)
    leaves[PATCH_BIAS] = bias.astype(np.float32)


def _grid_of(size: tuple[int, int], patch: int) -> tuple[int, int]:
    return size[0] // patch, size[1] // patch


def resize_positions(
    positions: np.ndarray, old: tuple[int, int] | None, new: tuple[int, int], path: str | Path = "the source"
) -> np.ndarray:
    """Position embeddings from one grid of patches to another: bicubic, the class token's row as it is.

    Args:
      positions: [1 + h * w, D] float32.
      old: h, w; None: a square, or else twice as high as wide.
      new: h, w of the result.
      path: of the source, for the message.

    Returns:
      [1 + h * w, D] float32.

    Raises:
      ValueError: the number of rows is that of no such grid.
    """
    count, width = positions.shape[0] - 1, positions.shape[1]
    guesses = [old] if old else [(math.isqrt(count),) * 2, (2 * math.isqrt(count // 2), math.isqrt(count // 2))]
    grid = next((guess for guess in guesses if guess[0] * guess[1] == count), None)
    if grid is None:
        raise ValueError(
            f"{path} has {count} positions beside the class token's, which are no grid of "
            f"{' or '.join(map(str, guesses))} patches: give the image size of the source with "
            "--source_size=HEIGHT,WIDTH"
        )
    if grid == new:
        return positions
    rows, columns = _bicubic(grid[0], new[0]), _bicubic(grid[1], new[1])
    cells = np.einsum("ai,bj,ijd->abd", rows, columns, positions[1:].reshape(*grid, width), optimize=True)
    return np.concatenate([positions[:1], cells.reshape(-1, width).astype(np.float32)])


def _bicubic(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of cubic convolution with a = -0.75 and repeated borders, no antialiasing.

    Choice: bicubic for all, as timm (which antialiases, too), DeiT and DINO; TransReID resizes bilinearly.
    Source: torch's `interpolate(mode="bicubic")`.
    """
    # centres of cells, as torch's align_corners=False
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    weights, a = np.zeros((new, old)), -0.75
    for tap in range(-1, 3):
        t = np.abs(centre - np.floor(centre) - tap)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        column = np.clip(np.floor(centre).astype(int) + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), column), np.where(t <= 1, near, far))
    return weights
