"""Options of the baselines: a method's own values, what goes together, and the sections of the config."""

from dataclasses import replace

import pytest

from hitpro_jax.methods.baselines.options import SECTIONS, ClusterOptions
from hitpro_jax.methods.registry import METHODS
from hitpro_jax.options import plain, read
from tests.methods.test_registry import made


def test_values_of_a_method_stand_for_those_of_the_family():
    clusters = {name: made(**{"method.name": name}).clusters for name in ("adca", "cap", "pgm")}
    assert clusters["adca"] == ClusterOptions()
    assert clusters["cap"] == replace(ClusterOptions(), k1=20, eps=0.5, temperature=0.07, momentum=0.2)
    assert clusters["pgm"] == replace(ClusterOptions(), momentum=0.2)


@pytest.mark.parametrize("name", SECTIONS)
def test_defaults_of_a_section_have_no_fault(name):
    kind, faults = SECTIONS[name], []
    assert read(kind, plain(kind()), name, faults) == kind()
    assert faults == []


def test_k2_is_at_most_k1():
    faults = []
    read(ClusterOptions, plain(ClusterOptions(k1=5, k2=6)), "clusters", faults)
    assert faults == ["clusters.k2 is 6: give at most k1, which is 5"]
    assert ClusterOptions(k1=6, k2=6).faults() == []


def test_every_section_is_that_of_a_method_or_of_the_family():
    of_methods = {method.section: method.section_type for method in METHODS.values() if method.section}
    assert {"clusters": ClusterOptions, **of_methods} == SECTIONS
