"""Command line of hitpro_jax.

python -m hitpro_jax.main --config=configs/vcm.py --config.data.root=/path/to/HITSZ-VCM
python -m hitpro_jax.main --config=configs/synthetic.py --workdir=runs/demo --mode=eval
"""

import importlib
import sys

from absl import app, flags
from ml_collections import config_flags

from hitpro_jax.command_line import default_workdir, failures_reported, open_workdir, parse
from hitpro_jax.commands import COMMANDS

CONFIG = config_flags.DEFINE_config_file("config", None, "a file of configs/, fields with --config.name=value")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run; the same folder continues the same run (default: one below runs/)"
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    list(COMMANDS),
    "train; eval: score the newest checkpoint; check: measure what a run costs; pack: decode every frame once",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0, where neither Slurm nor a TPU pod gives it; with --processes and --process",
)
PROCESSES = flags.DEFINE_integer("processes", None, "number of processes, with --coordinator", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "number of this process from 0, with --coordinator", lower_bound=0)


def main(argv: list[str]) -> None:
    """Opens the run and hands it to the command of `--mode`."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments on the command line: {' '.join(argv[1:])}")
    # imported here, because the worker processes that read images import this file too
    from hitpro_jax import distributed
    from hitpro_jax.run import open_run

    command = importlib.import_module(COMMANDS[MODE.value])
    try:
        devices = getattr(command, "devices", lambda: None)()  # before anything touches a device
        distributed.start(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    with open_workdir(WORKDIR.value or default_workdir(CONFIG.value)) as workdir, failures_reported(workdir):
        command.main(open_run(CONFIG.value, workdir, devices))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
