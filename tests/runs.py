"""Runs on a tiny world: from Python, and by the command as users give it, alone or as several processes joined by JAX;
and what they leave."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from configs import synthetic
from hitpro_jax import train
from hitpro_jax.commands import evaluate as evaluate_command
from hitpro_jax.data import opening, sampling
from hitpro_jax.models import resnet
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.run import open_run, read_options
from hitpro_jax.workdir import Workdir

REPO = Path(__file__).parent.parent
STEPS, EPOCHS = 4, 2
OVERRIDES = {
    "data.synthetic.preset": "tiny",
    "data.jobs": 1,
    "init.weights": "",
    "encoder.aggregator": "attention",
    "batch.tracklets_per_modality": 2,
    "batch.clip_length": 2,
    "prototypes.parts": 2,
    "prototypes.clip_length": 2,
    "prototypes.batch_size": 8,
    "eval.frames": 2,
    "eval.batch_size": 8,
    "train.epochs": EPOCHS,
    "train.steps_per_epoch": STEPS,
    "train.eval_every": 1,
    "train.save_steps": 2,
    "train.log_every": 1,
    "loss.within_begin": 0.0,
    "loss.across_begin": 0.0,
    "optim.warmup_steps": 1,
    "loss.frame": 0.5,
}


def tiny_config(world: str, **overrides):
    config = synthetic.get_config()
    config.update_from_flattened_dict({**OVERRIDES, "data.root": world, **overrides})
    return config


@contextlib.contextmanager
def opened(config, workdir):
    """A run opened from Python, its workdir closed at the end."""
    with Workdir(workdir) as files:
        yield open_run(config, files)


def run(config, workdir) -> dict:
    """Trains to the end; what result.json would hold."""
    with opened(config, workdir) as made:
        return train.train(made).to_json()


def evaluated(config, workdir) -> dict:
    """What eval/<step>.json holds after `--mode=eval`."""
    with opened(config, workdir) as made:
        evaluate_command.main(made)
        return json.loads((Path(workdir) / "eval" / f"{made.trained_variables()[1]}.json").read_text())


def dataset_of(config):
    """The data set of a config."""
    options = read_options(config)
    return opening.load(options.data, options.more.get(f"data.{options.data.name}"))[0]


def tiny_encoder(*_, **__) -> Encoder:
    """Stems alone: quick to compile."""
    return Encoder(resnet.ResNet(resnet.BasicBlock, (), (), (), 8, 3, False), MeanPool())


class Run:
    """One run of the command; whatever still runs at the end of its `with` is killed.

    Args:
      arguments: further arguments of the command line.
      processes: how many share the run.
      devices: fake ones of each process.
      overrides: config fields besides OVERRIDES.
    """

    def __init__(self, world: str, workdir: Path, *arguments: str, processes: int = 1, devices: int = 1, **overrides):
        fields = {**OVERRIDES, "data.root": world, **overrides}
        command = [
            sys.executable,
            "-m",
            "hitpro_jax.main",
            f"--config={REPO / 'configs' / 'synthetic.py'}",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in fields.items()),
            *arguments,
        ]
        joining = [[]]
        if processes > 1:
            meeting = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}"]
            joining = [[*meeting, f"--process={number}"] for number in range(processes)]
        self._workdir, self._stack, self.processes = workdir, contextlib.ExitStack(), []
        self._logs = [workdir.with_name(f"{workdir.name}.{number}.txt") for number in range(processes)]
        for flags, path in zip(joining, self._logs, strict=True):
            with open(path, "w", encoding="utf-8") as log:
                process = subprocess.Popen(
                    [*command, *flags],
                    cwd=REPO,
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)},
                )
            self.processes.append(self._stack.enter_context(process))  # waits for it, once it is killed
            self._stack.callback(process.kill)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def wait_for(self, moment) -> None:
        """Returns as soon as `moment` is true of the workdir; fails when a process ends before."""
        while not moment(self._workdir):
            assert all(process.poll() is None for process in self.processes), self.printed()
            time.sleep(0.002)

    def printed(self) -> str:
        """What all processes have printed so far, the first one's first."""
        return "".join(log.read_text() for log in self._logs)

    def end(self, timeout: float = 1800) -> list[int]:
        """Exit codes of all processes, once they have ended."""
        return [process.wait(timeout) for process in self.processes]


def finish(world: str, workdir: Path, *arguments: str, **options) -> str:
    """Runs the command to its end, which must be a good one; returns what it printed."""
    with Run(world, workdir, *arguments, **options) as run:
        assert not any(run.end()), run.printed()[-6000:]
        return run.printed()


def torn(world: str, root: Path, scored: dict[str, dict[int, int]]) -> str:
    """Copies a world to `root` and tears frames there: of a split's tracklet so many of those that are scored."""
    shutil.copytree(world, root)
    dataset = dataset_of(tiny_config(str(root)))
    for split, counts in scored.items():
        for number, count in counts.items():
            frames = getattr(dataset, split)[number].frames
            for position in sampling.test_frames(len(frames), OVERRIDES["eval.frames"])[:count]:
                (root / frames[position]).write_bytes(b"torn")
    return str(root)


def logged(step: int):
    """The moment at which the metrics of an optimiser step are there; step 0: those of the first refresh."""

    def reached(workdir: Path) -> bool:
        metrics = workdir / "metrics.jsonl"
        name = "train/" if step else "align/"
        return metrics.exists() and any(
            line.startswith(f'{{"step": {step},') and name in line for line in metrics.read_text().splitlines()
        )

    return reached


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def lines(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def checksums(workdir: Path) -> dict[str, int]:
    """CRC32 of every array of the last checkpoint: parameters, optimiser, statistics, bank and positives."""
    last = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    record = json.loads(json.loads((last / "record" / "metadata").read_text())["text"])
    assert int(last.name) == STEPS * EPOCHS
    return record["crc32"]
