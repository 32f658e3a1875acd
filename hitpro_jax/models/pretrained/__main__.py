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
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hitpro_jax.models.encoder import make_encoder
from hitpro_jax.models.pretrained import weights
from hitpro_jax.models.pretrained.convert import convert, read, require_finite
from hitpro_jax.models.pretrained.naming import FAMILIES, recognise
from hitpro_jax.options import EncoderOptions


def main(arguments: list[str] | None = None, report: Callable[[str], None] = print) -> None:
    """The command: converts, writes, and prints what was left out, the checksums and the fields to set.

    Args:
      arguments: of the command line; None: this process's.
      report: gets every line.
    """
    options = _parser().parse_args(arguments)
    try:
        for line in run(options):
            report(line)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Does what the command line asks for; yields the lines to print.

    Args:
      options: the parsed command line.

    Raises:
      FileNotFoundError: there is no such source.
      ValueError: the source cannot be converted; the message lists why.
    """
    if Path(options.source).resolve() == Path(options.out).resolve():
        raise ValueError(f"SOURCE and OUT are both {options.out}: give the written file another name")
    source = recognise(read(options.source), options.source, options.family)
    backbone = FAMILIES[source.family].backbone
    yield f"read: {options.source}, sha256 {_sha256(options.source)}; names of {source.family}"
    yield f"left out by name: {', '.join(source.left_out) or 'nothing'}"
    leaves, lacks = convert(
        source,
        make_encoder(EncoderOptions(backbone=backbone, aggregator="mean")),
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
    with np.errstate(over="ignore"):  # `require_finite` lists what overflows
        leaves = {name: leaf.astype(dtype) for name, leaf in leaves.items()}
    require_finite(options.source, leaves, f"gives in {np.dtype(dtype)}", remedy)
    weights.write(
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
    parser.add_argument("--family", choices=sorted(FAMILIES), default="", help="default: recognised by its names")
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
    """The reader of an option that holds `count` finite numbers above a bound."""

    def parse(text: str) -> tuple:
        values = tuple(kind(part) for part in text.split(","))
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


if __name__ == "__main__":
    main()
