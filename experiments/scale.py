"""What a refresh costs at 1e4 to 1e8 tracklets on 1 to 1024 devices, on paper: time and memory of each device.

  python -m experiments.scale                      # writes experiments/results/scale.md and scale.csv
  python -m experiments.scale --measure            # prints this device's own rates, to be given as below
  python -m experiments.scale --flops=4e13 --picks=2e11 --link=5e10 --clips=3000 --title="my device"

Rates are those of one device: `flops` of the float32 product at highest precision, `picks` similarities a second that
the top-K passes over, `link` bytes a second to the next device of the ring, `clips` a second embedded. Without
arguments there are two tables: of the CPU on which the rates were measured, and of an accelerator whose rates are read
off data sheets (NOT measured: two thirds of an H100's 67 float32 TFLOP/s, three passes at 3 TB/s, a 400 Gb/s network
card a device, 40 % of the bfloat16 peak in ResNet-50).

The model counts what the kernels do, without overlap: the parts of the bank go round the ring once a search, and a
search multiplies candidates alone (`kernels/search/exact.py`) or the lists that are read (`kernels/search/ivf.py`).
tests/experiments/test_scale.py compares the memory with the compiled program; the times are compared with one device
alone.
"""

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from configs import vcm
from hitpro_jax.encode import make_embed
from hitpro_jax.kernels.search import candidates, ivf
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.run import read_options
from hitpro_jax.sharding import make_mesh
from hitpro_jax.types import INTERLEAVED

OUT = Path(__file__).parent / "results"
SIZES, DEVICES = (10**4, 10**5, 10**6, 10**8), tuple(2**k for k in range(11))
PRINTED = (1, 8, 64, 512, 1024)  # devices in the Markdown table; the CSV has all
GIB = 2**30


class Rates(NamedTuple):
    """Of one device, see the top of this file."""

    flops: float
    picks: float
    link: float
    clips: float


class Shape(NamedTuple):
    """What a bank is besides its rows; the numbers of configs/vcm.py and a network of 12 cameras."""

    width: int = 2048
    parts: int = 4
    views: int = 24
    neighbours: int = 64
    block: int = 512
    probes: int = 32


KNOWN = {
    "2 CPU cores (measured; the link is assumed)": Rates(flops=1.3e11, picks=5.8e8, link=1e9, clips=1.4),
    "an accelerator (data sheets, not measured)": Rates(flops=4.4e13, picks=2.5e11, link=5e10, clips=6e3),
}
COLUMNS = ("tracklets", "devices", "embed_s", "exact_s", "ivf_s", "exact_gib", "ivf_gib")


def embedding_seconds(n: float, p: int, rates: Rates, shape: Shape) -> float:
    return n * shape.parts / p / rates.clips


def exact_seconds(n: float, p: int, rates: Rates, shape: Shape) -> float:
    """Three searches: half of all pairs in each stage, those of one view for the look-alikes; top-K passes over all."""
    pairs = n * n * (1 / 2 + 1 / 2 + 1 / shape.views) / p
    return pairs * 2 * shape.width / rates.flops + 3 * n * n / p / rates.picks + ring_seconds(n, p, rates, shape)


def ivf_seconds(n: float, p: int, rates: Rates, shape: Shape) -> float:
    """Three times: k-means on a sample, a cell for each row, and the lists that are read."""
    cells = n**0.5
    products = (ivf.ROUNDS * ivf.SAMPLE * cells + n) * cells / p
    read = n / p * shape.probes * (n / (2 * cells) + p * tile(n / p, cells) / 2)  # a list's last tile is half empty
    seconds = (products + read) * 2 * shape.width / rates.flops + (read + products) / rates.picks
    return 3 * seconds + ring_seconds(n, p, rates, shape)


def ring_seconds(n: float, p: int, rates: Rates, shape: Shape) -> float:
    """Each search sends every part of the bank once past every device."""
    return 3 * (p - 1) * (n / p * shape.width * 4) / rates.link if p > 1 else 0.0


def tile(rows: float, cells: float) -> int:
    return ivf.tile_rows(int(rows), ivf.MODALITIES * max(int(cells), 1))


def memory_bytes(n: float, p: int, shape: Shape, search: str = "exact") -> float:
    """Of one device, at most: its parts' features, banks and tables, and what a block holds.

    `parts` sub-tracklet features come in; the bank exists about eight times (the old and the new one, unit parts' sum,
    smoothed and centred, sorted, and two parts in the ring); tables have index and similarity, and rules copy them.
    """
    banks = (2 * shape.parts + 8) * n / p * shape.width
    tables = 24 * n / p * shape.neighbours
    columns = n / p + (2 * n**0.5 * tile(n / p, n**0.5) if search == "ivf" else 0)  # and unfilled tiles
    return 4 * (banks + tables + 3 * shape.block * columns)


def rows(rates: Rates, shape: Shape) -> list[tuple]:
    return [
        (
            n,
            p,
            embedding_seconds(n, p, rates, shape),
            exact_seconds(n, p, rates, shape),
            ivf_seconds(n, p, rates, shape),
            memory_bytes(n, p, shape) / GIB,
            memory_bytes(n, p, shape, "ivf") / GIB,
        )
        for n in SIZES
        for p in DEVICES
    ]


def crossing(first, second, rates: Rates, shape: Shape, p: int) -> float:
    """The smallest number of tracklets, to 10 %, from which on `first` takes longer than `second`; inf if never."""
    n = 100.0
    while first(n, p, rates, shape) <= second(n, p, rates, shape):
        n *= 1.1
        if n > 1e12:
            return float("inf")
    return n


def markdown(tables: dict[str, Rates], shape: Shape) -> str:
    lines = [
        "<!-- written by experiments/scale.py -->",
        "# A refresh on paper",
        "",
        (
            f"D = {shape.width}, {shape.parts} clips a tracklet, {shape.views} views, float32. Seconds to embed, to "
            "mine exactly and by inverted lists; GiB of each device while mining."
        ),
    ]
    for title, rates in tables.items():
        lines += [
            "",
            f"## {title}",
            "",
            (
                f"{rates.flops:.3g} FLOP/s, {rates.picks:.3g} picks/s, {rates.link:.3g} bytes/s, "
                f"{rates.clips:.3g} clips/s a device."
            ),
            "",
            "| tracklets | devices | embed | exact | ivf | exact GiB | ivf GiB |",
            "|---" * 7 + "|",
        ]
        for n, p, *values in rows(rates, shape):
            if p in PRINTED:
                cells = [*(duration(v) for v in values[:3]), *(f"{v:.3g}" for v in values[3:])]
                lines.append(f"| {n:.0e} | {p} | " + " | ".join(cells) + " |")
        lines += ["", *conclusions(rates, shape)]
    return "\n".join(lines) + "\n"


def conclusions(rates: Rates, shape: Shape) -> list[str]:
    lines = []
    for p in (1, 64, 1024):
        embed = crossing(exact_seconds, embedding_seconds, rates, shape, p)
        lists = crossing(exact_seconds, ivf_seconds, rates, shape, p)
        lines.append(
            f"- {p} device{'s' * (p > 1)}: exact mining takes longer than inverted lists from "
            f"{lists:.1e} tracklets on, and longer than embedding from {embed:.1e} on: there it stops paying."
        )
    return lines


def duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def timed(function, *arguments) -> float:
    """Seconds of the second run of a compiled function."""
    function = jax.jit(function)
    jax.block_until_ready(function(*arguments))
    start = time.monotonic()
    jax.block_until_ready(function(*arguments))
    return time.monotonic() - start


def measure(shape: Shape) -> Rates:
    """This device's rates; the link cannot be measured on one device and is left at 0."""
    part, block = jnp.ones((16384, shape.width)), jnp.ones((shape.block, shape.width))
    product = timed(candidates.similarity, block, part)
    values = jax.random.normal(jax.random.key(0), (shape.block, 65536))
    pick = timed(lambda values: candidates.largest(values, shape.neighbours), values)
    options = read_options(vcm.get_config())
    encoder, size = make_encoder(options.encoder), options.data.image_size
    variables = init_variables(encoder, size, 0)
    frames = jnp.zeros((8, options.prototypes.clip_length, *size, 3), jnp.uint8)
    embed, mask = make_embed(encoder, make_mesh(jax.devices()[:1])), jnp.ones(frames.shape[:2], bool)
    seconds = timed(lambda frames, mask: embed(variables, frames, mask, INTERLEAVED), frames, mask)
    return Rates(2 * block.size * len(part) / product, values.size / pick, 0.0, len(frames) / seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    for name in Rates._fields:
        parser.add_argument(f"--{name}", type=float, help="a second, of one device; see the top of this file")
    parser.add_argument("--title", default="given rates", help="of the table of given rates")
    parser.add_argument("--measure", action="store_true", help="measure this device's rates and write nothing")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of scale.md and scale.csv")
    options, shape = parser.parse_args(arguments), Shape()
    if options.measure:
        print(", ".join(f"{name} {value:.3g}" for name, value in measure(shape)._asdict().items()))
        return
    given = [getattr(options, name) for name in Rates._fields]
    if any(given) and not all(given):
        parser.error("--flops, --picks, --link and --clips belong together: give all four, or none")
    tables = {options.title: Rates(*given)} if all(given) else KNOWN
    (options.out / "scale.md").write_text(markdown(tables, shape))
    with open(options.out / "scale.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("device", *COLUMNS))
        writer.writerows((title, *row) for title, rates in tables.items() for row in rows(rates, shape))
    print(f"wrote scale.md and scale.csv to {options.out}")


if __name__ == "__main__":
    main()
