"""The frozen encoder: a method without a memory that takes no step."""

import jax
import pytest

from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.frozen import Frozen
from hitpro_jax.options import Options


@pytest.fixture
def frozen():
    return Frozen.create(Options(), Setting(4, None, None))


def test_it_does_not_train_and_keeps_nothing(frozen):
    assert not frozen.trains
    assert not frozen.needs_identities
    assert jax.tree.leaves(frozen.init(8, 4)) == jax.tree.leaves(frozen.shardings()) == []
    assert frozen.own_parameters(4, 0) == {}


@pytest.mark.parametrize(("name", "arguments"), [("refresh", 5), ("loss", 6), ("update", 3), ("mined", 1)])
def test_what_training_would_call_is_an_error(frozen, name, arguments):
    with pytest.raises(NotImplementedError):
        getattr(frozen, name)(*[None] * arguments)
