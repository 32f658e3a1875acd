"""The list of methods, and what is refused when one is made."""

import re
from dataclasses import is_dataclass

import numpy as np
import pytest

from configs import base
from hitpro_jax.methods import registry
from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.run import read_options


def made(labels=None, **fields):
    config = base.get_config()
    config.update_from_flattened_dict(fields)
    return registry.make_method(read_options(config), Setting(2, None, labels))


@pytest.mark.parametrize("name", registry.METHODS)
def test_labels_in_the_wrong_hands_are_refused(name):
    wrong = None if name == "supervised" else np.zeros(4, np.int32)
    with pytest.raises(ValueError, match="needs person ids" if name == "supervised" else "must not see person ids"):
        made(wrong, **{"method.name": name})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method.name": "adka"}, "method.name is 'adka': choose one of hitpro"),
        ({"method.name": "adca", "clusters.k2": 31}, "clusters.k2 is 31: give at most k1, which is 30"),
        ({"method.name": "cap", "cap.k1": 5}, "cap.k1 is 5: give at least clusters.k2, which is 6"),
    ],
)
def test_a_wrong_choice_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        made(**fields)


def test_every_method_is_made_by_its_name():
    for name, kind in registry.METHODS.items():
        labels = np.zeros(4, np.int32) if kind.needs_identities else None
        assert type(made(labels, **{"method.name": name})) is kind
        assert Method in kind.__mro__
        assert re.fullmatch("[a-z_]+", name)


def test_a_method_with_a_section_has_a_type_for_it():
    for kind in registry.METHODS.values():
        assert bool(kind.section) == (kind.section_type is not None)
        assert kind.section_type is None or is_dataclass(kind.section_type)


def test_one_method_alone_needs_person_ids():
    assert [name for name, kind in registry.METHODS.items() if kind.needs_identities] == ["supervised"]
