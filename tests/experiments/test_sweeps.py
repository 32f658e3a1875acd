"""Every variant of every sweep is a config that a run accepts, given as the command line gives it."""

import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import sweeps
from hitpro_jax.run import read_options

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def parsed(monkeypatch):
    """Gives the config of a command line with overrides."""

    def parse(config: str, overrides: dict):
        fields = [f"--config.{name}={value}" for name, value in overrides.items()]
        # ml_collections finds the overrides in sys.argv
        monkeypatch.setattr("sys.argv", ["main", f"--config={CONFIGS / config}.py", *fields])
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        values(sys.argv)
        return values.config

    return parse


@pytest.mark.parametrize("sweep", sweeps.SWEEPS)
@pytest.mark.parametrize("config", ["synthetic", "evidence", "vcm"])
def test_every_variant_is_a_config_that_a_run_accepts(parsed, config, sweep):
    for _, overrides in sweeps.SWEEPS[sweep]():
        plain = {name: 0.5 if isinstance(value, sweeps.BarOf) else value for name, value in overrides.items()}
        options = read_options(parsed(config, plain))
        for name, value in plain.items():
            assert option(options, name) == value, name


def option(options, name: str):
    """The option of a dotted field."""
    section, _, field = name.rpartition(".")
    if section in options.more:
        return getattr(options.more[section], field)
    return getattr(getattr(options, section) if section else options, field)


def test_a_field_that_is_not_there_is_found(parsed):
    with pytest.raises((AttributeError, KeyError)):
        parsed("synthetic", {"within.no_such_field": 1})


def test_bars_come_from_runs_of_the_same_sweep_with_dynamic_thresholds():
    variants = dict(sweeps.thresholds())
    sources = {}
    for name, overrides in variants.items():
        for value in overrides.values():
            if isinstance(value, sweeps.BarOf):
                sources.setdefault(name, set()).add(value.variant)
        assert (overrides.get("within.rule") == overrides.get("across.rule") == "fixed") == (name in sources)
    preset = {name: fields.get("data.synthetic.preset") for name, fields in variants.items()}
    assert len(sources) == 4
    for name, of in sources.items():
        (source,) = of
        assert source not in sources
        assert (preset[source] == preset[name]) == ("equal recall" in name)
