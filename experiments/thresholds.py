"""Fixed bars of equal recall: the control of the dynamic thresholds (DTS), read from a finished run that has them.

  python -m experiments.thresholds --workdir=runs/sweeps/evidence/thresholds/HiTPro/seed11

prints them as flags of another run. The run's last prototypes are mined once more, by its own rules as they were at
its last refresh, and with a constant in their place. The bar of a stage is the highest constant, to 0.001, with which
as many tracklets have a right positive (`recall_any`) as with the rules; stage 2 is mined on a stage 1 that has its bar
already. One constant serves both modalities, as in `within.fixed`. Person ids are read: without them no such bar can be
chosen.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from hitpro_jax import legacy, resume
from hitpro_jax.diagnostics import PREFIX
from hitpro_jax.methods.hitpro import HiTPro, Memory
from hitpro_jax.run import Run, defaults, open_run
from hitpro_jax.sharding import fetch
from hitpro_jax.types import TrackletInfo
from hitpro_jax.workdir import Workdir

STEPS = 1000  # of a cosine of 1


def equal_bars(run: Run) -> dict[str, float]:
    """The fixed bar of each stage that finds as much as the run's thresholds do.

    Args:
      run: a finished one.

    Raises:
      ValueError: it has no checkpoint, no person ids, or a stage that is off or finds nothing.
    """
    training, folder = run.training, run.workdir.path
    with run.checkpoints(read_only=True) as checkpoints:
        found = resume.newest(run, checkpoints)
    if found is None:
        raise ValueError(f"no checkpoint in {folder}: give the workdir of a finished run")
    memory, progress = found[0].memory, 1.0 - 1.0 / run.options.train.epochs
    mine = jax.jit(partial(mined, training.method))

    def recall(stage: str, bars: dict[str, float]) -> float:
        again = training.method.mined(mine(memory, training.data.bank_info, progress, bars))
        return training.describe(fetch(again), None).get(f"{PREFIX[stage]}/recall_any", 0.0)

    bars: dict[str, float] = {}
    for stage in PREFIX:
        wanted = recall(stage, {})
        if not wanted:
            raise ValueError(
                f"the last prototypes in {folder} have no right positive {stage} modalities, or no person ids: "
                "no bar of equal recall can be read there"
            )
        bars[stage] = highest(lambda bar, stage=stage, wanted=wanted: recall(stage, bars | {stage: bar}) >= wanted)
    return bars


def mined(method: HiTPro, memory: Memory, info: TrackletInfo, progress: float, bars: dict[str, float]) -> Memory:
    """Both stages mined on the bank as it is, those in `bars` with that constant in the place of their rule.

    Args:
      method: of the run.
      memory: whose prototypes and thresholds are read.
      info: of its rows.
      progress: of the training, which decides how strict the rules are.
      bars: stage to constant; may be traced.
    """
    stages = {
        stage: dataclasses.replace(getattr(method, stage), rule="fixed", fixed=bar) for stage, bar in bars.items()
    }
    # a refresh of one part a tracklet, the prototype itself
    parts, there = memory.prototypes[:, None], info.valid[:, None]
    return dataclasses.replace(method, **stages).refresh(memory, parts, there, info, progress)


def highest(enough: Callable[[float], bool]) -> float:
    """The highest cosine, in steps of 1 / STEPS from -1 on, that is enough; what is above one that is not, is not.

    >>> highest(lambda bar: bar <= 0.25)
    0.25
    """
    low, high = -STEPS, STEPS + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if enough(middle / STEPS) else (low, middle)
    return low / STEPS


def config_of(path: Path) -> ConfigDict:
    """The config of a run of any release, with today's names and fields.

    Args:
      path: its workdir.
    """
    saved = json.loads((path / "config.json").read_text())
    return ConfigDict(legacy.completed(legacy.upgraded(saved), defaults()))


def flags_of(bars: dict[str, float]) -> list[str]:
    """The bars as flags of a run.

    >>> flags_of({"within": 0.5})
    ['--config.within.fixed=0.5']
    """
    return [f"--config.{stage}.fixed={bar}" for stage, bar in bars.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a finished run with dynamic thresholds")
    path = parser.parse_args().workdir
    if not (path / "result.json").exists():
        parser.error(f"{path} holds no finished run: run it to its end first")
    with Workdir(path, Console(stderr=True)) as workdir:  # standard output is for the flags alone
        try:
            print(*flags_of(equal_bars(open_run(config_of(path), workdir))))
        except (ValueError, OSError) as error:
            parser.error(str(error))


if __name__ == "__main__":
    main()
