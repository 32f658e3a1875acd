"""The synthetic world as a config opens it."""

import json
from typing import get_args

import pytest

from hitpro_jax import options
from hitpro_jax.data import opening
from hitpro_jax.data.sets import synthetic
from hitpro_jax.data.sets.synthetic import SyntheticOptions
from hitpro_jax.data.synthetic import world as worlds
from hitpro_jax.options import DataOptions
from tests.data.synthetic.test_world import BARE


def test_a_config_opens_it(tmp_path, monkeypatch):
    monkeypatch.setitem(worlds.PRESETS, "tiny", BARE)
    options = DataOptions(name="synthetic", root=str(tmp_path / "w"), seed=4, jobs=1, image_size=(24, 12), min_frames=2)
    own = SyntheticOptions(preset="tiny", camera_seed=5)
    data, protocol = opening.load(options, own)
    written = json.loads((tmp_path / "w" / "world.json").read_text())
    assert (written["seed"], written["camera_seed"], written["image_size"]) == (4, 5, [24, 12])
    assert data.name == "synthetic world"
    assert protocol.camera_rule == "same_person"
    assert len(data.train) == 4
    sides = {key: [side.split for side in pair] for key, pair in protocol.directions.items()}
    assert sides == {"i2v": ["query", "gallery"], "v2i": ["gallery", "query"]}
    with pytest.raises(ValueError, match="unknown data.synthetic.preset 'huge'"):
        opening.load(options, SyntheticOptions(preset="huge"))
    with pytest.raises(ValueError, match="are those of the shipped weights' own training"):
        opening.load(options, SyntheticOptions(preset="tiny", camera_seed=worlds.PRETRAINING_SEED))


def test_the_default_folder_is_the_worlds_own(tmp_path, monkeypatch):
    monkeypatch.setitem(worlds.PRESETS, "tiny", BARE)
    monkeypatch.chdir(tmp_path)
    options = DataOptions(name="synthetic", seed=4, jobs=1, image_size=(24, 12), min_frames=2)
    dataset, _ = opening.load(options, SyntheticOptions(preset="tiny", camera_seed=5))
    assert dataset.root == "data/synthetic-tiny-4-5"
    assert (tmp_path / dataset.root / "world.json").is_file()


def test_the_option_knows_the_presets_that_there_are():
    assert set(get_args(synthetic.Preset)) == set(worlds.PRESETS)
    faults = []
    options.read(SyntheticOptions, {"preset": "huge", "camera_seed": 0}, "data.synthetic", faults)
    (fault,) = faults
    assert fault.startswith("data.synthetic.preset is 'huge': choose one of tiny, small")
