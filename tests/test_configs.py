"""Every config loads, knows no field that base.py does not, and has switches that the code accepts."""

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver
from ml_collections import ConfigDict

from configs import base
from hitpro_jax import command_line as cli
from hitpro_jax import main, optim
from hitpro_jax.command_line import default_workdir
from hitpro_jax.data import sets
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Setting
from hitpro_jax.models.backbones import BACKBONES
from hitpro_jax.models.encoder import make_encoder
from hitpro_jax.options import FREE_FIELDS, Options
from hitpro_jax.run import open_run, read_options
from hitpro_jax.types import Encoded, TrackletInfo
from hitpro_jax.workdir import Workdir
from tests.batches import clips_of

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")


def load(name: str) -> ConfigDict:
    return importlib.import_module(f"configs.{name}").get_config()


def fields(config: ConfigDict, prefix: str = "") -> dict:
    """Dotted names of all leaves; a loader's cameras are one leaf."""
    leaves = {}
    for name, value in config.items():
        inner = isinstance(value, ConfigDict) and prefix + name != "data.cameras"
        leaves |= fields(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return leaves


def test_there_are_configs():
    assert {"base", "vcm", "buptcampus", "synthetic", "own_video"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_fields_are_those_of_base(name):
    known, found = fields(base.get_config()), fields(load(name))
    own = {field for field in found if field.startswith("data.cameras.")}  # as many as there are videos
    assert found.keys() - own == known.keys() - ({"data.cameras"} if own else set())
    for field in known.keys() & found.keys():
        value = known[field]
        assert type(found[field]) is type(value), field
        if isinstance(value, tuple):
            assert len(found[field]) == len(value), field


def trace(config: ConfigDict) -> None:
    """Builds all that a config's switches choose and traces a refresh, a loss and an update; nothing is compiled.

    A refresh that works on the host cannot be traced, and `frozen` has none of the three.
    """
    options = read_options(config)
    make_encoder(options.encoder)
    optim.make_optimiser(options.optim, 100)
    size, width, shape = 40, 6, jax.ShapeDtypeStruct
    kind = registry.METHODS[options.method.name]
    identities = np.zeros(size, np.int32) if kind.needs_identities else None
    method = registry.make_method(options, Setting(4, None, identities))
    if not method.trains:
        return
    ids, yes = shape((size,), jnp.int32), shape((size,), bool)
    clips = clips_of(np.zeros(4))
    encoded = Encoded(shape((4, width), jnp.float32), shape((4, 2, width), jnp.float32))
    own = {name: shape(array.shape, array.dtype) for name, array in method.own_parameters(width, 0).items()}

    def epoch(parts, mask, info, own, encoded, clips, progress):
        memory = method.init(size, width)
        if not method.refresh_on_host:
            memory = method.refresh(memory, parts, mask, info, progress)
        loss, _ = method.loss(memory, own, encoded, clips, info, progress)
        return loss, method.update(memory, encoded.tracklet, clips.tracklet)

    jax.eval_shape(
        epoch,
        shape((size, 3, width), jnp.float32),
        shape((size, 3), bool),
        TrackletInfo(ids, ids, ids, yes),
        own,
        encoded,
        clips,
        shape((), jnp.float32),
    )


@pytest.mark.parametrize("name", NAMES)
def test_switches_are_accepted(name):
    trace(load(name))


def choices(kind: type = Options, section: str = "") -> list[tuple[str, str]]:
    """(field, value) of every field that takes one of several names."""
    found = [] if section else [("method.name", name) for name in registry.METHODS]
    found += [] if section else [("encoder.backbone", name) for name in BACKBONES]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name == "more":
            continue
        if dataclasses.is_dataclass(hint):
            found += choices(hint, f"{section}{name}.")
        elif get_origin(hint) is Literal:
            found += [(f"{section}{name}", value) for value in get_args(hint)]
    return found


def test_every_field_of_names_is_found():
    counted = {field: sum(f == field for f, _ in choices()) for field, _ in choices()}
    assert counted["across.rule"] == 4
    assert counted["within.weighting"] == 5
    assert counted["loss.ambiguity"] == 3
    assert counted["encoder.aggregator"] == 3
    assert counted["optim.schedule"] == 3
    assert len(counted) >= 15


@pytest.mark.parametrize(("field", "value"), choices(), ids=str)
def test_every_choice_is_accepted(field, value):
    config = load("synthetic")
    config.update_from_flattened_dict({field: value})
    trace(config)


def numbers(config: ConfigDict) -> list[str]:
    """Dotted names of all fields that hold a number or several, sections of all data sets and methods included."""
    return [
        name
        for name, value in fields(config).items()
        if isinstance(value, int | float | tuple) and not isinstance(value, bool)
    ]


# Nothing but a sign or NaN can be wrong with these.
ANY_NUMBER = {"within.kappa", "across.kappa"}


@pytest.mark.parametrize("field", sorted({field for field, _ in choices()}))
def test_an_unknown_choice_is_refused(field):
    config = load("synthetic")
    config.update_from_flattened_dict({field: "nonsense"})
    with pytest.raises(ValueError, match=f"^{field} is 'nonsense': choose one of "):
        read_options(config)


@pytest.mark.parametrize("field", numbers(base.get_config()))
def test_every_number_has_a_range(field):
    """A number that no run can mean is refused, with the field's name, its value and what to give."""
    config = load("base")
    value = fields(config)[field]
    wrong = float("nan") if field in ANY_NUMBER else -2
    config.unlock()
    section, _, name = field.rpartition(".")
    place = config
    for part in section.split(".") if section else ():
        place = place[part]
    with place.ignore_type():
        place[name] = (wrong, *value[1:]) if isinstance(value, tuple) else wrong
    with pytest.raises(ValueError, match=rf"^{field} is .*(-2|nan).*: give "):
        read_options(config)


def test_all_faults_are_reported_at_once():
    config = load("synthetic")
    config.update_from_flattened_dict(
        {
            "loss.temperature": -0.05,
            "optim.learning_rate": -1.0,
            "prototypes.momentum": 1.5,
            "optim.name": "adan",
            "method.name": "adka",
            "data.synthetic.preset": "huge",
            "within.reciprocity": 500,
            "clusters.k1": 1,
        }
    )
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what it says is compared below
        read_options(config)
    first, *lines = str(error.value).splitlines()
    assert first == "8 fields of the config cannot be used:"
    assert {line.split()[0] for line in lines} == {
        "loss.temperature",
        "optim.learning_rate",
        "prototypes.momentum",
        "optim.name",
        "method.name",
        "data.synthetic.preset",
        "within.reciprocity",
        "clusters.k1",
    }
    assert "  loss.temperature is -0.05: give a number above 0" in lines
    assert "  prototypes.momentum is 1.5: give a number at least 0 and at most 1" in lines
    assert "  optim.name is 'adan': choose one of adam, adamw, sgd" in lines


def test_faults_are_found_before_data_are_read(tmp_path):
    config = load("vcm")
    config.data.root, config.optim.name = str(tmp_path / "nothing"), "adan"
    with Workdir(tmp_path / "run") as workdir, pytest.raises(ValueError, match="optim.name is 'adan'"):
        open_run(config, workdir)


def test_fields_that_a_config_lacks_or_has_besides_are_reported():
    config = load("synthetic")
    config.unlock()
    del config.loss.temperature
    config.loss.temprature = 0.1
    with pytest.raises(ValueError, match="(?s)loss.temperature is missing.*loss.temprature is no field of the config"):
        read_options(config)


def test_options_hold_what_the_config_holds():
    config = load("synthetic")
    options = read_options(config)
    assert options.within.rho == (0.85, 0.8)
    assert options.optim.warmup_steps == 30
    assert options.more["data.synthetic"].preset == "small"
    assert options.more["cap"].k1 == 20
    hash(options.within)


def test_on_and_off_switches_are_accepted():
    for field in (
        "within.enabled",
        "across.enabled",
        "within.use_reliability",
        "across.cycle",
        "across.ban_same_camera",
    ):
        config = load("synthetic")
        config.update_from_flattened_dict({field: not fields(config)[field]})
        trace(config)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_config_names_are_there(name):
    config = load(name)
    named = [config.init.weights] if config.init.weights else []
    for camera in config.data.get("cameras", {}).values():
        named += [camera.video, camera.boxes]
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("name", NAMES)
def test_levels_of_the_loss_start_in_turn_and_thresholds_loosen(name):
    config = load(name)
    assert 0 <= config.loss.within_begin < config.loss.across_begin < 1
    for stage in (config.within, config.across):
        assert stage.rho[0] > stage.rho[1]
        assert stage.kappa[0] > stage.kappa[1]
        assert stage.reciprocity <= stage.neighbours
    assert config.optim.adapt_steps + config.optim.warmup_steps < config.train.epochs * config.train.steps_per_epoch


def test_fields_free_to_change_exist():
    known = set().union(*(fields(load(name)) for name in NAMES))
    assert set(FREE_FIELDS) <= known


@pytest.mark.parametrize("protocol", sets.SPECS["buptcampus"].protocols, ids=lambda protocol: protocol.name)
def test_buptcampus_config_sets_what_its_protocol_prescribes(protocol, command_line):
    config = command_line(f"--config={ROOT}/configs/buptcampus.py:{protocol.name}")
    assert sets.SPECS[config.data.name].choose_protocol(config.data.protocol) is protocol
    assert protocol.departure(config.eval.frames, tuple(config.data.image_size)) is None
    assert config.across.ban_same_camera
    assert config.data.min_frames == 1
    assert not config.data.buptcampus.auxiliary
    assert default_workdir(config).name.startswith("buptcampus-")


def test_buptcampus_config_without_a_word_is_full_and_an_unknown_word_is_left_to_be_refused(command_line):
    assert load("buptcampus").data.protocol == "full"
    assert command_line(f"--config={ROOT}/configs/buptcampus.py:ful").data.protocol == "ful"


@pytest.fixture
def command_line(monkeypatch):
    """Parses a command line as `main` does, and forgets it."""

    def parse(*words: str) -> ConfigDict:
        monkeypatch.setattr(sys, "argv", ["main", *words])  # where ml_collections looks for fields
        cli.parse(sys.argv)
        return main.CONFIG.value

    with flagsaver.flagsaver():
        yield parse


def test_fields_are_set_from_the_command_line(command_line):
    config = command_line(
        f"--config={ROOT}/configs/synthetic.py",
        "--config.within.rule=fixed",
        "--config.seed=3",
        "--config.within.rho=0.7,0.6",
        "--config.across.enabled=false",
        "--workdir=somewhere",
    )
    found = config.within.rule, config.seed, config.within.rho, config.across.enabled
    assert found == ("fixed", 3, (0.7, 0.6), False)
    assert config.across.rule == "both"
    assert main.WORKDIR.value == "somewhere"
    assert main.MODE.value == "train"


def test_an_unknown_field_is_an_error(command_line):
    with pytest.raises(SystemExit, match=r"^error: the config has no such field \('rul' Did you mean \"rule\""):
        command_line(f"--config={ROOT}/configs/synthetic.py", "--config.within.rul=fixed")


def test_a_config_that_is_not_there_is_an_error():
    run = subprocess.run(
        [sys.executable, "-m", "hitpro_jax.main", "--config=nope.py"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(
        r"error: --config cannot be read \(.*No such file or directory: 'nope.py'\): give a file of "
        r"configs/\n",
        run.stderr,
    )


def test_an_image_size_is_two_numbers():
    config = load("synthetic")
    config.data.image_size = (64,)
    with pytest.raises(ValueError, match=r"data.image_size is \(64,\): give 2 values, each a whole number at least 1"):
        read_options(config)


def test_each_config_has_a_workdir_of_its_own(command_line):
    config = command_line(f"--config={ROOT}/configs/synthetic.py")
    own = default_workdir(config)
    assert own == default_workdir(load("synthetic"))
    assert re.fullmatch("runs/synthetic-[0-9a-f]{8}", str(own))
    config.data.num_workers, config.train.log_every = 4, 1  # no number changes with them
    assert default_workdir(config) == own
    for field, value in (("root", "elsewhere"), ("seed", 1)):
        other = load("synthetic")
        other.data[field] = value
        assert default_workdir(other) != own
