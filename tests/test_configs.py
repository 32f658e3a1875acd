"""Every config loads, knows no field that base.py does not, and has switches that the code accepts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import base
from hitpro_jax import optim
from hitpro_jax.command_line import default_workdir
from hitpro_jax.data import sets
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Setting
from hitpro_jax.models.encoder import make_encoder
from hitpro_jax.run import read_options
from hitpro_jax.types import Encoded, TrackletInfo
from tests.batches import clips_of
from tests.settings import NAMES, ROOT, changed, choices, fields, load


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


@pytest.mark.parametrize(("field", "value"), choices(), ids=str)
def test_every_choice_is_accepted(field, value):
    trace(changed("synthetic", **{field: value}))


def test_on_and_off_switches_are_accepted():
    for field in (
        "within.enabled",
        "across.enabled",
        "within.use_reliability",
        "across.cycle",
        "across.ban_same_camera",
    ):
        trace(changed("synthetic", **{field: not fields(load("synthetic"))[field]}))


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
