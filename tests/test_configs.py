"""Every config loads, knows no field that base.py does not, and has switches that the code accepts."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver
from ml_collections import ConfigDict

from configs import base
from hitpro_jax import main, optim, train
from hitpro_jax.data import protocols
from hitpro_jax.methods import registry
from hitpro_jax.models.encoder import make_encoder
from hitpro_jax.types import Encoded, TrackletInfo

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
    make_encoder(**config.encoder)
    optim.make_optimiser(
        config.optim.name,
        learning_rate=config.optim.learning_rate,
        weight_decay=config.optim.weight_decay,
        schedule=config.optim.schedule,
        warmup_steps=config.optim.warmup_steps,
        total_steps=100,
    )
    size, width, shape = 40, 6, jax.ShapeDtypeStruct
    labels = np.zeros(size, np.int32) if config.method.name == "supervised" else None
    method = registry.make_method(config, num_views=4, mesh=None, labels=labels)
    if config.method.name == "frozen":
        return
    ids, yes = shape((size,), jnp.int32), shape((size,), bool)
    clips = {"tracklet": shape((4,), jnp.int32), "mask": shape((4, 2), bool)}
    encoded = Encoded(shape((4, width), jnp.float32), shape((4, 2, width), jnp.float32))

    def epoch(parts, mask, info, encoded, clips, progress):
        memory = method.empty(size, width)
        if not getattr(method, "on_host", False):
            memory = method.refresh(memory, parts, mask, info, progress)
        loss, _ = method.loss(memory, encoded, clips, info, progress)
        return loss, method.update(memory, encoded.tracklet, clips["tracklet"])

    jax.eval_shape(
        epoch,
        shape((size, 3, width), jnp.float32),
        shape((size, 3), bool),
        TrackletInfo(ids, ids, ids, yes),
        encoded,
        clips,
        shape((), jnp.float32),
    )


@pytest.mark.parametrize("name", NAMES)
def test_switches_are_accepted(name):
    trace(load(name))


def documented() -> list[tuple[str, str]]:
    """(field, value) of every `a | b | c` in a comment of base.py, the stage's for both stages."""
    names = re.search(r"# (.+)\n    method\.name = ", (ROOT / "configs" / "base.py").read_text())[1]
    found = [("method.name", name) for name in names.split(" | ")]
    for section, field, words in re.findall(
        r"^    (\w+)\.(\w+) = .*?# .*?(\w+(?: \| \w+)+)", (ROOT / "configs" / "base.py").read_text(), re.MULTILINE
    ):
        for place in {"stage": ("within", "across")}.get(section, (section,)):
            found += [(f"{place}.{field}", word) for word in words.split(" | ")]
    found += [("within.camera_bias", word) for word in ("none", "mean", "zscore")]
    return sorted(set(found) | {("across.debias", word) for word in ("none", "mean", "balanced_knn")})


def test_the_documented_switches_are_found():
    counted = {field: sum(f == field for f, _ in documented()) for field, _ in documented()}
    assert counted["across.rule"] == 4
    assert counted["within.weighting"] == 5
    assert counted["loss.ambiguity"] == 3
    assert counted["encoder.aggregator"] == 3
    assert counted["optim.schedule"] == 3
    assert len(counted) >= 15
    assert [name for field, name in documented() if field == "method.name"] == sorted(registry.NAMES)


@pytest.mark.parametrize(
    ("field", "value"), [pair for pair in documented() if not pair[0].startswith("data.")], ids=str
)
def test_every_documented_switch_is_accepted(field, value):
    config = load("synthetic")
    config.update_from_flattened_dict({field: value})
    trace(config)


@pytest.mark.parametrize(
    "field", sorted({field for field, _ in documented() if not field.startswith("data.")} - {"encoder.dtype"})
)
def test_an_unknown_switch_is_refused(field):
    config = load("synthetic")
    config.update_from_flattened_dict({field: "nonsense"})
    with pytest.raises(ValueError, match="'nonsense'"):
        trace(config)


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
    assert set(train.FREE) <= known


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS["buptcampus"], ids=lambda protocol: protocol.name)
def test_buptcampus_config_sets_what_its_protocol_prescribes(protocol, command_line):
    config = command_line(f"--config={ROOT}/configs/buptcampus.py:{protocol.name}")
    assert protocols.choose(config.data.name, config.data.protocol) is protocol
    assert protocol.departure(config.eval.frames, tuple(config.data.image_size)) is None
    assert config.across.ban_same_camera
    assert config.data.min_frames == 1
    assert not config.data.auxiliary
    assert main.default_workdir(config).name.startswith("buptcampus-")


def test_buptcampus_config_without_a_word_is_full_and_an_unknown_word_is_left_to_be_refused(command_line):
    assert load("buptcampus").data.protocol == "full"
    assert command_line(f"--config={ROOT}/configs/buptcampus.py:ful").data.protocol == "ful"


@pytest.fixture
def command_line(monkeypatch):
    """Parses a command line as `main` does, and forgets it."""

    def parse(*words: str) -> ConfigDict:
        monkeypatch.setattr(sys, "argv", ["main", *words])  # where ml_collections looks for fields
        main.parse(sys.argv)
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
    with pytest.raises(ValueError, match=r"data.image_size is \(64,\): give height and width"):
        train.refuse_zeros(config)


def test_each_config_has_a_workdir_of_its_own(command_line):
    config = command_line(f"--config={ROOT}/configs/synthetic.py")
    own = main.default_workdir(config)
    assert own == main.default_workdir(load("synthetic"))
    assert re.fullmatch("runs/synthetic-[0-9a-f]{8}", str(own))
    config.data.num_workers, config.train.log_every = 4, 1  # no number changes with them
    assert main.default_workdir(config) == own
    for field, value in (("root", "elsewhere"), ("seed", 1)):
        other = load("synthetic")
        other.data[field] = value
        assert main.default_workdir(other) != own
