"""The contract of a method: what must be there, and what there is by default."""

import inspect

import numpy as np
import pytest

from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.options import Options
from hitpro_jax.types import TrackletInfo

MUST = ["create", "init", "loss", "mined", "refresh", "shardings", "update"]


def methods_without(*missing: str) -> type[Method]:
    """A method that does nothing, and lacks some functions."""
    there = {name: lambda self, *arguments: None for name in MUST if name not in ("create", *missing)}
    if "create" not in missing:
        there["create"] = classmethod(lambda cls, options, setting: cls())
    return type("Nothing", (Method,), there)


def test_what_a_method_must_have():
    assert sorted(Method.__abstractmethods__) == MUST


@pytest.mark.parametrize("name", MUST)
def test_a_method_that_forgets_a_function_cannot_be_made(name):
    with pytest.raises(TypeError, match=f"abstract method.* '?{name}'?$"):
        methods_without(name)()


@pytest.fixture
def nothing():
    return methods_without().create(Options(), Setting(4, None, None))


def test_by_default_a_method_trains_on_the_device_without_options_and_ids(nothing):
    assert (nothing.section, nothing.section_type) == ("", None)
    assert nothing.trains
    assert not any((nothing.needs_identities, nothing.refresh_on_host, nothing.image_method))


def test_by_default_there_are_no_faults_notes_and_parameters(nothing):
    info = TrackletInfo(*(np.zeros(3, np.int32),) * 3, np.ones(3, bool))
    assert nothing.faults(Options()) == []
    assert nothing.notes(info) == nothing.notes(info, np.ones(3, int)) == nothing.warnings(None, info) == []
    assert nothing.own_parameters(8, 0) == {}


def test_defaults_are_made_anew(nothing):
    """Else what one run adds to them would be there for the next one."""
    nothing.faults(Options()).append("x")
    nothing.own_parameters(8, 0)["x"] = 1
    assert (nothing.faults(Options()), nothing.own_parameters(8, 0)) == ([], {})


def test_every_function_of_the_contract_is_described():
    for name, function in inspect.getmembers(Method, inspect.isroutine):
        if not name.startswith("_"):
            assert inspect.getdoc(function), name
