"""Mining one refresh, exactly and by inverted lists, beside the bare product with a top-K, in one run.

  python -m experiments.benchmarks.mining                               # 100,000 tracklets; takes long on a CPU
  python -m experiments.benchmarks.mining --tracklets=20000 --rounds=3

"bare" is, for each block of 512 rows, one matrix product with the whole bank and `jax.lax.top_k`: one pass over all
pairs, without candidates, bias or rules. "exact" and "ivf" are all that a refresh mines: stage 1 with the camera bias,
stage 2 with the modality bias, the look-alikes of the own view, and all their rules, at the settings of configs/base.py
and half of the training. Printed are seconds, processor seconds (of which other work on the machine takes none), peak
memory, and of ivf the share of the positives of exact that it finds.

The bank is drawn: people, cameras and tracklets as in the preset `large` of the synthetic world, only as many people as
give that many tracklets; features as in `draw_bank`. Results: docs/lab.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hitpro_jax.data.synthetic.world import PRESETS, ROW_FRAMES
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.hitpro import HiTPro, Memory
from hitpro_jax.options import AlignmentOptions, Options
from hitpro_jax.types import TrackletInfo

MIN_FRAMES, BLOCK, GIB = 12, 512, 2**30
PERSON, PERSON_IN_MODALITY, VISIT, TRACKLET, VIEW, MODALITY = 0.23, 0.21, 0.36, 0.085, 0.07, 0.03  # variances
DIMENSIONS = 32


class World(NamedTuple):
    """A bank and the persons in it."""

    prototypes: np.ndarray  # [N, D] float32 unit rows
    info: TrackletInfo
    person: np.ndarray  # [N]


def draw_bank(tracklets: int, width: int, seed: int = 0) -> World:
    """Unit rows of person + person in a modality + visit + tracklet + view + modality, Gaussian, all in one spectrum.

    Variances and spectrum are those of a HiTPro encoder's prototypes at the end of training on the synthetic world
    (data seed 0, 958 tracklets, view means removed except in VIEW and MODALITY): eigenvalues fall as exp(-k / 16), that
    is about 32 dimensions in effect, and persons and everything else vary in the same ones.
    """
    rng, preset = np.random.default_rng(seed), PRESETS["large"]
    rows, person = [], 0
    while len(rows) < tracklets:
        for modality in (0, 1):
            views = rng.integers(*preset.views_per_modality, endpoint=True)
            for camera in rng.choice(preset.cameras, size=views, replace=False):
                frames = rng.integers(*preset.stay_frames, endpoint=True)
                whole, rest = divmod(int(frames), ROW_FRAMES)
                rows += [(person, modality, camera, len(rows))] * (whole + (rest >= MIN_FRAMES))
        person += 1
    person, modality, camera, visit = rng.permutation(np.array(rows[:tracklets], np.int32)).T

    spectrum = np.exp(-np.arange(width) / DIMENSIONS * 2.0)
    deviation = np.sqrt(spectrum / spectrum.sum()).astype(np.float32)

    def part(ids: np.ndarray, variance: float) -> np.ndarray:
        return (rng.standard_normal((ids.max() + 1, width), np.float32) * (deviation * variance**0.5))[ids]

    view = modality * preset.cameras + camera
    features = (
        part(person, PERSON)
        + part(2 * person + modality, PERSON_IN_MODALITY)
        + part(visit, VISIT)
        + part(np.arange(tracklets), TRACKLET)
        + part(view, VIEW)
        + part(modality, MODALITY)
    )
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return World(features, TrackletInfo(*map(jnp.asarray, (modality, camera, view, np.ones(tracklets, bool)))), person)


def method(search: str, probes: int = 0, cells: int = 0) -> HiTPro:
    options = Options(alignment=AlignmentOptions(search=search, cells=cells, probes=probes or AlignmentOptions.probes))
    return HiTPro.create(options, Setting(num_views=2 * PRESETS["large"].cameras, mesh=None, identities=None))


def bare(bank: jax.Array, count: int = 64) -> tuple[jax.Array, jax.Array]:
    """The `count` largest similarities of each row and their indices."""

    def row(row):
        return jax.lax.top_k(jnp.matmul(row, bank.T, precision=jax.lax.Precision.HIGHEST), count)

    return jax.lax.map(row, bank, batch_size=BLOCK)


def refresh(search: str, probes: int = 0, cells: int = 0) -> Callable:
    hitpro = method(search, probes, cells)

    def mine(bank: jax.Array, info: TrackletInfo) -> Memory:
        memory = hitpro.init(*bank.shape)
        return hitpro.refresh(memory, bank[:, None], info.valid[:, None], info, 0.5)

    return mine


def precision(index: np.ndarray, person: np.ndarray) -> float:
    rows, columns = np.nonzero(index >= 0)
    return float(np.mean(person[rows] == person[index[rows, columns]]))


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the pairs of one table of positives that are in another."""
    pairs = [np.unique(np.nonzero(i >= 0)[0] * len(i) + i[i >= 0]) for i in (found, exact)]
    return float(np.mean(np.isin(pairs[1], pairs[0])))


def compiled(function: Callable, *arguments) -> jax.stages.Compiled:
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    return jax.jit(function).lower(*shapes).compile()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tracklets", type=int, default=100_000, help="rows of the bank")
    parser.add_argument("--width", type=int, default=256, help="features")
    parser.add_argument("--cells", type=int, default=0, help="of ivf; 0: as many as by default")
    parser.add_argument("--probes", type=int, nargs="*", default=[8], help="of ivf; each is run")
    parser.add_argument("--rounds", type=int, default=1, help="each way is run so often, in turn; medians are printed")
    parser.add_argument("--ways", nargs="*", default=["bare", "exact", "ivf"], help="what to run")
    options = parser.parse_args()
    world = draw_bank(options.tracklets, options.width)
    bank = jnp.asarray(world.prototypes)
    print(
        f"{len(bank)} tracklets of {world.person.max() + 1} people, bank {bank.size * 4 / GIB:.2f} GiB, "
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}",
        flush=True,
    )
    ways = {"bare": (bare, (bank,)), "exact": (refresh("exact"), (bank, world.info))}
    ways |= {f"ivf {probes}": (refresh("ivf", probes, options.cells), (bank, world.info)) for probes in options.probes}
    ways = {name: way for name, way in ways.items() if name.split()[0] in options.ways}
    programs = {name: (compiled(function, *arguments), arguments) for name, (function, arguments) in ways.items()}
    seconds, results = {name: [] for name in ways}, {}
    for _ in range(options.rounds):
        for name, (program, arguments) in programs.items():
            before = time.monotonic(), time.process_time()
            results[name] = jax.block_until_ready(program(*arguments))
            seconds[name].append((time.monotonic() - before[0], time.process_time() - before[1]))
            wall, cpu = seconds[name][-1]
            print(
                f"  {name}: {wall:.1f} s, processor {cpu:.1f} s, peak of the process so far "
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB",
                flush=True,
            )
    report(world, seconds, {name: p.memory_analysis() for name, (p, _) in programs.items()}, results)


def report(world: World, seconds: dict, memory: dict, results: dict) -> None:
    median = {name: np.median(times, axis=0) for name, times in seconds.items()}
    for name, (wall, cpu) in median.items():
        line = (
            f"{name}: {wall:.1f} s, processor {cpu:.1f} s, temporaries {memory[name].temp_size_in_bytes / GIB:.2f} GiB"
        )
        for other in ("bare", "exact"):
            if other in median and other != name:
                line += f"; of {other}: {wall / median[other][0]:.2f} (processor {cpu / median[other][1]:.2f})"
        print(line)
        if name == "bare":
            continue
        stages = {"within": results[name].within, "across": results[name].across}
        for stage, found in stages.items():
            index = np.asarray(found.index)
            line = f"  {stage}: {np.sum(index >= 0)} positives, precision {precision(index, world.person):.3f}"
            if "exact" in results and name != "exact":
                line += f", recall of exact's {recall(index, np.asarray(getattr(results['exact'], stage).index)):.4f}"
            print(line)


if __name__ == "__main__":
    main()
