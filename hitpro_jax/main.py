"""Command line of hitpro_jax.

python -m hitpro_jax.main --config=configs/vcm.py --config.data.root=/path/to/HITSZ-VCM
python -m hitpro_jax.main --config=configs/synthetic.py --workdir=runs/demo --mode=eval
"""

import json
import sys
import zlib
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "a file of configs/, fields with --config.name=value")
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "folder of the run; the same folder continues the same run (default: one below runs/ that belongs to the config)",
)
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "pack", "check"],
    "train, score the newest checkpoint, "
    "make the packed cache data.packed, or tell what a run would cost on each device",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0, where neither Slurm nor a TPU pod "
    "tells the processes of each other; with --processes and --process",
)
TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "with --mode=check: compile for a TPU slice that is not here, such as v5e-64, instead of running anything",
)
PROCESSES = flags.DEFINE_integer("processes", None, "number of processes, with --coordinator", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "number of this process from 0, with --coordinator", lower_bound=0)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown words on the command line: {' '.join(argv[1:])}")
    # imported here, so that the worker processes that draw or read images do not start JAX
    from hitpro_jax import distributed, evaluate, train
    from hitpro_jax.commands import check, pack
    from hitpro_jax.commands import compile_ahead as topology
    from hitpro_jax.methods.registry import adapt
    from hitpro_jax.workdir.writer import Writer

    if TOPOLOGY.value and MODE.value != "check":
        raise app.UsageError("--topology runs nothing: give --mode=check with it")
    try:
        ahead = topology.devices_of(TOPOLOGY.value, print) if TOPOLOGY.value else ()  # before a device is touched
        distributed.start(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    config = CONFIG.value
    note = adapt(config)
    with Writer(WORKDIR.value or default_workdir(config)) as writer:
        writer.say(f"workdir: {writer.path}")
        if note:
            writer.say(note)
        try:
            if MODE.value == "eval":
                evaluate.evaluate_checkpoint(config, writer)
                return
            if MODE.value == "pack":
                pack.pack(config, writer.say)
                return
            if MODE.value == "check":
                check.check_ahead(config, writer, ahead) if ahead else check.check(config, writer)
                return
            result = train.train(config, writer)
            writer.result(result)
            writer.table(result)
            writer.say(f"result: {writer.path / 'result.json'}")
        except distributed.Preempted as stop:
            writer.say(str(stop))
        except (ValueError, OSError, FloatingPointError) as error:
            writer.error(error)
            distributed.fail()
        except KeyboardInterrupt:
            writer.say("interrupted; the same command goes on from the last checkpoint, if there is one")
            sys.exit(130)


def default_workdir(config: ConfigDict) -> Path:
    """One folder a config: the same command finds its own run again, another override gets another folder.

    Fields that change no number do not count, but for the place of the data.
    """
    from hitpro_jax.train import FREE

    counted = json.loads(config.to_json_best_effort())
    for section, field in (name.split(".") for name in FREE if name != "data.root"):
        del counted[section][field]
    stamp = zlib.crc32(json.dumps(counted, sort_keys=True).encode())
    name = Path(flags.FLAGS["config"].config_filename).stem
    return Path("runs") / f"{name}-{stamp:08x}"


def parse(argv: list[str]) -> list[str]:
    """Absl's parsing of the command line, but one sentence for a config or a field of it that is not there."""
    try:
        words = app.parse_flags_with_usage(argv)
        CONFIG.value.method  # noqa: B018 - a file that cannot be read is told only when a field is asked for
    except (AttributeError, KeyError) as error:
        what = error.args[0]
        while isinstance(what, Exception):  # ml_collections wraps one in the other
            what = what.args[0]
        sys.exit(
            f"error: the config has no such field ({' '.join(str(what).split())}): configs/base.py has them all, "
            "with their meaning"
        )
    except OSError as error:
        sys.exit(f"error: --config cannot be read ({str(error).splitlines()[-1].strip()}): give a file of configs/")
    return words


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
