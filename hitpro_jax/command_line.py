"""Around a command: parsing of its flags, the default workdir, and one sentence for what goes wrong. Imports no JAX."""

import contextlib
import importlib
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from hitpro_jax.commands import COMMANDS
from hitpro_jax.options import FREE_FIELDS, flat


def parse(argv: Sequence[str]) -> list[str]:
    """Absl's parsing of the command line, with the flags of the command that `--mode` names.

    Raises:
      SystemExit: the config, or a field of it, is not there; one sentence.
    """
    module = COMMANDS.get(mode_of(argv))
    if module:
        importlib.import_module(module)  # defines its flags
    try:
        arguments = _parse_flags(argv)
        _ = config_flag().value.method  # a file that cannot be read is found out when a field is asked for
    except (AttributeError, KeyError) as error:
        reason: Any = error.args[0]
        while isinstance(reason, Exception):  # ml_collections wraps one in the other
            reason = reason.args[0]
        sys.exit(
            f"error: the config has no such field ({' '.join(str(reason).split())}): hitpro_jax/options.py has them "
            "with their meaning; those of one data set or baseline are in hitpro_jax/data/sets/ and methods/baselines/"
        )
    except OSError as error:
        sys.exit(f"error: --config cannot be read ({str(error).splitlines()[-1].strip()}): give a file of configs/")
    return arguments


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Absl's parsing; a faulty flag ends in one sentence, with the right `--mode` for a flag of another command."""
    try:
        return flags.FLAGS(list(argv))
    except flags.UnrecognizedFlagError as error:
        for mode, module in COMMANDS.items():
            importlib.import_module(module)
            if error.flagname in flags.FLAGS:
                sys.exit(f"error: --{error.flagname} belongs to --mode={mode}: give that with it, or leave it out")
        sys.exit(f"error: {error}: --help lists the flags")
    except flags.Error as error:
        sys.exit(f"error: {error}")


def config_flag() -> Any:
    """The flag `--config`, which `main` defines."""
    return flags.FLAGS["config"]


def mode_of(argv: Sequence[str]) -> str:
    """The value of `--mode`, before any flag is parsed.

    >>> mode_of(["main", "--mode=eval"]), mode_of(["main", "-mode", "check"]), mode_of(["main"])
    ('eval', 'check', 'train')
    """
    mode = "train"
    for argument, following in zip(argv[1:], [*argv[2:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "mode":
            mode = value if equals else following
    return mode


def default_workdir(config: ConfigDict) -> Path:
    """One folder a config: the same command finds its own run again, another override gets another folder.

    Fields that change no number do not count, except the folder of the data; nor do those at their defaults, so that a
    field that a later release brings leaves the folder as it is.
    """
    from hitpro_jax.run import defaults  # here: see above

    known = flat(json.loads(json.dumps(defaults())))
    counted = {
        name: value
        for name, value in flat(json.loads(config.to_json_best_effort())).items()
        if known.get(name, "unknown") != value and (name not in FREE_FIELDS or name == "data.root")
    }
    stamp = zlib.crc32(json.dumps(counted, sort_keys=True).encode())
    name = Path(config_flag().config_filename).stem
    return Path("runs") / f"{name}-{stamp:08x}"


def open_workdir(path: str | Path) -> Any:
    """The `Workdir` of a run, its folder named in its log; ends the process in one sentence where it cannot be written.

    Args:
      path: of the folder.
    """
    from hitpro_jax import distributed
    from hitpro_jax.workdir import Workdir
    from hitpro_jax.workdir.files import remedy

    try:
        workdir = Workdir(path)
        workdir.log(f"workdir: {workdir.path}")
    except OSError as error:
        print(
            f"error: the workdir {path} cannot be written ({error.strerror or error}): {remedy(error)}", file=sys.stderr
        )
        distributed.fail()
    return workdir


@contextlib.contextmanager
def failures_reported(workdir: Any) -> Iterator[None]:
    """Reports what users can mend in one sentence, without a traceback, and ends the process.

    Args:
      workdir: a `Workdir`, whose log gets the sentence and the traceback.
    """
    from hitpro_jax import distributed
    from hitpro_jax.checkpoint import SaveError

    try:
        yield
    except distributed.Preempted as stop:
        workdir.log(str(stop))
    except (ValueError, OSError, FloatingPointError) as error:
        workdir.error(error)
        distributed.fail(at_once=isinstance(error, SaveError))
    except KeyboardInterrupt:
        workdir.log("interrupted; the same command goes on from the last checkpoint, if there is one")
        sys.exit(130)  # 128 + SIGINT, as shells have it
