"""Public weights to the project's own file: `python -m hitpro_jax.models.pretrained SOURCE OUT`.

Where SOURCE comes from, with internet:

  python -c "import torch, torchvision as v; \
      torch.save(v.models.resnet50(weights='IMAGENET1K_V2').state_dict(), 'resnet50.pth')"
  python -c "import timm; from safetensors.torch import save_file as s; \
      s(timm.create_model('deit_base_patch16_224.fb_in1k', pretrained=True).state_dict(), 'deit_b16.safetensors')"
  hf download openai/clip-vit-base-patch16 pytorch_model.bin          # CLIP in Hugging Face's names
  python -c "import clip, torch; torch.save(clip.load('ViT-B/16', 'cpu')[0].state_dict(), 'clip_b16.pth')"

and LUPerson's ViT-B/16 from the TransReID-SSL project's page. A family is known by its names:

| family        | names as in                   | encoder.backbone | pixels were normalised with            |
|---------------|-------------------------------|------------------|----------------------------------------|
| torchvision   | torchvision's resnet50        | resnet50         | ImageNet's mean and deviation          |
| timm          | timm, DeiT, DINO, TransReID   | vit_b16          | ImageNet's (DeiT, DINO); see below     |
| transreid_ssl | TransReID-SSL with ICS stem   | vit_b16_ics      | ImageNet's (DINO-pretrained files) *    |
| clip          | OpenAI's CLIP, CLIP-ReID      | vit_b16_clip     | CLIP's                                 |
| clip_hf       | transformers' CLIP            | vit_b16_clip     | CLIP's                                 |

* Its fine-tuned checkpoints were trained with 0.5 and cannot be converted exactly: use the DINO-pretrained ones.

Other pixel statistics (0.5 for timm's `augreg` and for TransReID's own) are given with `--mean --std`. The encoder
knows ImageNet's alone; a difference is folded into the patch embedding, which is exact, as it is affine per channel
and a patch embedding pads nothing. `vit_b16_clip` has OpenAI's quick GELU; LAION's weights of the same names were
trained with the plain one and do not belong there. Position embeddings are resized for `--image_size`.

Left out by name: classifiers and other heads, CLIP's text tower and final projection, torch's batch counters. A neck is
in no such file, so OUT says that it lacks one. Every other name that does not fit stops the conversion; to go on, give
it with `--partial`, by our name or by that in the file, as the message lists both.
"""

import argparse
import hashlib
import json
import math
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from hitpro_jax.models.encoder import MEAN, STD, Encoder, make_encoder, shapes_of
from hitpro_jax.models.pretrained import weights as pretrained
from hitpro_jax.models.pretrained.naming import FAMILIES, Source, Tensors, recognise, translate

POSITIONS = "params/backbone/positions"
DAMAGED = "is cut short or no torch file: fetch it again"


def read(path: str | Path) -> dict[str, Any]:
    """Tensors by name of a .safetensors file, or of a torch file, which is read with `weights_only`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be read safely, or torch is needed and not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: give a .pth or .safetensors file of public weights")
    if path.suffix == ".safetensors":
        return pretrained.read(path)[0]
    _require_torch_file(path)
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a torch file, and torch is not installed: install it (pip install torch), or give "
            "the weights as .safetensors"
        ) from error
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options that DINO stores beside its weights
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the file makes it raise
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
    except (TypeError, RuntimeError) as error:  # as torch says it of sparse, quantised and meta tensors
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
    mean=None,
    std=None,
    source_size: tuple[int, int] | None = None,
    partial: frozenset[str] = frozenset(),
) -> tuple[Tensors, list]:
    """A source's tensors as leaves of our backbone, float32, and the names that the encoder has beyond them.

    image_size: height and width that positions are resized for. mean, std: of the source's pixels; None: the family's.
    source_size: image size of the source's positions; None: a square, or twice as high as wide. partial: names, ours
    or those in the file, that may be missing or left over.

    Raises:
      ValueError: names or shapes do not fit, or a number is NaN or infinite; all such names are listed.
    """
    family = FAMILIES[source.family]
    leaves, origin = {}, {}  # origin: our name to that in the file
    for name, value in source.tensors.items():
        ours = translate(name, value, family.rules)
        if ours == POSITIONS:
            _require_table(path, source.origin[name], np.shape(value))
        origin[ours or name] = source.origin[name]
        leaves[ours or name] = _oriented(ours or name, np.asarray(value, np.float32))
    wanted = {
        name: leaf
        for name, leaf in flatten_dict(shapes_of(encoder, image_size), sep="/").items()
        if "/stem_ir/" not in name and not name.startswith(pretrained.AGGREGATOR)
    }
    own = {part: ours for ours, theirs in origin.items() for part in theirs.split(" + ")}
    partial = frozenset(own.get(name, name) for name in partial)
    lacks = [name for name in wanted if name not in leaves and ("/neck/" in name or name in partial)]
    named = {name for name in partial if name in leaves and name not in wanted}
    if idle := partial - named - set(lacks):
        raise ValueError(f"--partial names what neither {path} nor the encoder has alone: {sorted(idle)}")
    leaves = {name: leaf for name, leaf in leaves.items() if name not in named}
    _require_source(path, leaves, wanted, {*lacks, *family.may_lack}, origin)
    _require_finite(
        path, {pretrained.both(name, origin): leaf for name, leaf in leaves.items()}, "holds", "fetch the weights again"
    )
    patch = getattr(encoder.backbone, "patch", 0)
    if POSITIONS in leaves:
        leaves[POSITIONS] = resize_positions(
            leaves[POSITIONS], _grid_of(source_size, patch), _grid_of(image_size, patch), path
        )
    if "params/backbone/stem_rgb/kernel" not in lacks:
        fold_pixels(leaves, np.array(mean or family.mean), np.array(std or family.std))
    return leaves, sorted(wanted.keys() - leaves.keys())


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
    pretrained.require_fit(path, leaves, {**wanted, **rows}, may_lack, origin)


def _require_finite(path: str | Path, leaves: Tensors, verb: str, remedy: str) -> None:
    """Raises a ValueError that lists the leaves with NaN or infinity, which would spread through all that is computed."""
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
    and the shift into the bias, which CLIP's has not got before.

    Raises:
      ValueError: the statistics differ, but the first convolution pads with zeros.
    """
    gain, shift = np.array(STD) / std, (np.array(MEAN) - mean) / std
    kernel = leaves.get("params/backbone/stem_rgb/kernel")
    if kernel is None:
        if np.any(gain != 1) or np.any(shift):
            raise ValueError(
                "--mean and --std must be ImageNet's here: the first convolution pads with zeros, so "
                "other statistics cannot be folded into it"
            )
        return
    bias = leaves.get("params/backbone/stem_rgb/bias", 0.0) + np.einsum("hwio,i->o", kernel.astype(np.float64), shift)
    leaves["params/backbone/stem_rgb/kernel"] = (kernel * gain[:, None]).astype(np.float32)
    leaves["params/backbone/stem_rgb/bias"] = bias.astype(np.float32)


def _grid_of(size: tuple[int, int] | None, patch: int) -> tuple[int, int] | None:
    return (size[0] // patch, size[1] // patch) if size else None


def resize_positions(
    positions: np.ndarray, old: tuple[int, int] | None, new: tuple[int, int], path: str | Path = "the source"
) -> np.ndarray:
    """[1 + h * w, D] from one grid of patches to another: bicubic, the class token's row as it is.

    old: None guesses a square, or else twice as high as wide. path: of the source, for the message.

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

    As torch's `interpolate(mode="bicubic")`. Choice: bicubic for all, as timm (which antialiases, too), DeiT and DINO;
    TransReID resizes bilinearly.
    """
    place = (np.arange(new) + 0.5) * old / new - 0.5
    weights, a = np.zeros((new, old)), -0.75
    for tap in range(-1, 3):
        t = np.abs(place - np.floor(place) - tap)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * (t**3 - 5 * t**2 + 8 * t - 4)
        column = np.clip(np.floor(place).astype(int) + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), column), np.where(t <= 1, near, far))
    return weights


def main(arguments: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """The command: converts, writes, and prints what was left out, the checksums and the fields to set."""
    options = _parser().parse_args(arguments)
    try:
        for line in run(options):
            say(line)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def run(options: argparse.Namespace):
    """Does what the command line says; yields the lines to print."""
    if Path(options.source).resolve() == Path(options.out).resolve():
        raise ValueError(f"SOURCE and OUT are both {options.out}: give the written file another name")
    source = recognise(read(options.source), options.source, options.family)
    backbone = FAMILIES[source.family].backbone
    yield f"read: {options.source}, sha256 {_sha256(options.source)}; names of {source.family}"
    yield f"left out by name: {', '.join(source.left_out) or 'nothing'}"
    leaves, lacks = convert(
        source,
        make_encoder(backbone, "mean"),
        options.image_size,
        path=options.source,
        mean=options.mean,
        std=options.std,
        source_size=options.source_size,
        partial=frozenset(options.partial),
    )
    mean, std = options.mean or FAMILIES[source.family].mean, options.std or FAMILIES[source.family].std
    yield f"pixels of the source: mean {_listed(mean)}, deviation {_listed(std)}; --mean and --std set others"
    yield f"not in the source, so as initialised: {', '.join(lacks)}; stem_ir starts as a copy of stem_rgb"
    dtype, remedy = (np.float16, "leave --half out") if options.half else (np.float32, "check --mean and --std")
    with np.errstate(over="ignore"):  # told by name
        leaves = {name: leaf.astype(dtype) for name, leaf in leaves.items()}
    _require_finite(options.source, leaves, f"gives in {np.dtype(dtype)}", remedy)
    pretrained.write(
        options.out,
        leaves,
        {
            "source": Path(options.source).name,
            "source_sha256": _sha256(options.source),
            "family": source.family,
            "backbone": backbone,
            "image_size": _listed(options.image_size),
            "lacks": json.dumps(lacks),
        },
    )
    count = sum(leaf.size for name, leaf in leaves.items() if name.startswith("params/"))
    yield f"wrote: {options.out}, {count:,} parameters in {np.dtype(dtype)}, sha256 {_sha256(options.out)}"
    yield (
        f"use: --config.encoder.backbone={backbone} --config.init.weights={options.out} "
        f"--config.data.image_size={_listed(options.image_size)}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hitpro_jax.models.pretrained",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help=".pth, .pt or .bin (needs torch), or .safetensors")
    parser.add_argument("out", metavar="OUT", help="safetensors file to write")
    parser.add_argument(
        "--image_size",
        type=_numbers(int, 2),
        default=(288, 144),
        metavar="H,W",
        help="of the runs that will use it (default: 288,144)",
    )
    parser.add_argument(
        "--source_size",
        type=_numbers(int, 2),
        metavar="H,W",
        help="of the source's positions (default: a square, or twice as high as wide)",
    )
    parser.add_argument("--family", choices=sorted(FAMILIES), default="", help="default: told by the names")
    parser.add_argument(
        "--mean", type=_numbers(float, 3, above=-math.inf), metavar="R,G,B", help="of the source's pixels, of 1"
    )
    parser.add_argument("--std", type=_numbers(float, 3), metavar="R,G,B", help="likewise")
    parser.add_argument(
        "--partial",
        type=lambda text: text.split(","),
        default=(),
        metavar="NAME,...",
        help="names that may be missing or left over, ours or those in SOURCE, as the error lists them",
    )
    parser.add_argument("--half", action="store_true", help="write half precision")
    return parser


def _numbers(kind: type, count: int, above: float = 0) -> Callable[[str], tuple]:
    def parse(text: str) -> tuple:
        values = tuple(kind(word) for word in text.split(","))
        if len(values) != count or not all(above < value < math.inf for value in values):
            raise argparse.ArgumentTypeError(
                f"expected {count} {'finite' if above else 'positive'} numbers with commas between, not {text!r}"
            )
        return values

    return parse


def _listed(values: tuple) -> str:
    return ",".join(map(str, values))


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
