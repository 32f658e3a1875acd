"""What holds for every data set, and what a new one must not break."""

import dataclasses
import subprocess
import sys

import pytest

from hitpro_jax import options
from hitpro_jax.data import sets
from hitpro_jax.data.sets.base import DatasetSpec
from hitpro_jax.options import DataOptions

each = pytest.mark.parametrize("spec", sets.SPECS.values(), ids=sets.SPECS)


def test_the_names_are_those_that_configs_use():
    assert list(sets.SPECS) == [
        "hitsz_vcm",
        "buptcampus",
        "synthetic",
        "mot",
        "folder",
        "mars",
        "sysu_mm01",
        "regdb",
        "llcm",
    ]
    with pytest.raises(ValueError, match="unknown data.name 'market'; choose one of hitsz_vcm, "):
        sets.find("market")


def test_the_own_sections_and_their_defaults():
    found = {spec.name: options.plain(spec.options()) for spec in sets.SPECS.values() if spec.options}
    assert found == {
        "hitsz_vcm": {"repair": False},
        "buptcampus": {"auxiliary": False},
        "synthetic": {"preset": "small", "camera_seed": 0},
        "folder": {"csv": "tracklets.csv"},
        "mars": {"gallery": "with_queries"},
        "sysu_mm01": {"trial": -1, "gallery": "both", "shots": "single"},
        "regdb": {"trial": 1},
        "llcm": {"trial": -1, "query": "both"},
    }
    assert not {field.name for field in dataclasses.fields(DataOptions)} & set(sets.SPECS)


@each
def test_an_own_section_is_read_like_all_others(spec):
    if spec.options is None:
        return
    faults, default = [], spec.options()
    assert options.read(spec.options, options.plain(default), f"data.{spec.name}", faults) == default
    assert faults == []
    assert hash(default) == hash(spec.options())
    wrong = dict.fromkeys(options.plain(default), None)
    options.read(spec.options, wrong, f"data.{spec.name}", faults)
    assert len(faults) == len(wrong)
    assert all(fault.startswith(f"data.{spec.name}.") for fault in faults)


@pytest.mark.parametrize(("value", "good"), [(-1, False), (0, True), (10, True), (11, False)])
def test_a_trial_of_regdb_is_one_of_ten_or_0_for_all(value, good):
    faults = []
    options.read(sets.find("regdb").options, {"trial": value}, "data.regdb", faults)
    assert (faults == []) == good


@pytest.mark.parametrize("name", ["sysu_mm01", "llcm"])
@pytest.mark.parametrize(("value", "good"), [(-2, False), (-1, True), (0, True), (9, True), (77, True)])
def test_a_drawn_trial_is_a_seed_or_minus_1_for_all(name, value, good):
    faults, options_of = [], sets.find(name).options
    options.read(options_of, {**options.plain(options_of()), "trial": value}, f"data.{name}", faults)
    assert (faults == []) == good


@each
def test_a_training_trial_is_an_own_option(spec):
    assert not spec.training_trial or spec.training_trial in options.plain(spec.options())


@each
def test_protocols_have_names_of_their_own_and_directions_have_titles(spec):
    assert isinstance(spec, DatasetSpec)
    assert spec.protocols
    assert len({protocol.name for protocol in spec.protocols}) == len(spec.protocols)
    for protocol in spec.protocols:
        assert spec.choose_protocol(protocol.name) is protocol
        assert protocol.directions.keys() <= sets.DIRECTION_TITLES.keys()


def test_a_rule_is_named_in_full():
    rules = {p.name: p.camera_rule for spec in sets.SPECS.values() for p in spec.protocols}
    assert {name for name, rule in rules.items() if rule == "same_camera"} == {"sysu_mm01"}
    assert {name for name, rule in rules.items() if rule == "none"} == {
        "full_no_camera",
        "auxnet",
        "first_half_to_second_half",
        "regdb",
    }


def test_no_data_set_needs_jax():
    code = "import sys, hitpro_jax.data.sets; assert 'jax' not in sys.modules, 'jax was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
