"""ResNets: one stem per modality, the shape of ResNet-50, half precision."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from hitpro_jax.models import resnet
from hitpro_jax.models.layers import Conv
from hitpro_jax.types import INTERLEAVED
from tests.models.random_inputs import pictures, variables_of

TINY = partial(resnet.ResNet, resnet.BasicBlock, (1,), (6,), (2,), 4, 3, False)


@pytest.fixture(scope="module")
def tiny():
    """An evaluation-mode function (variables, x, layout, length) -> features, and random variables for it."""
    module = TINY()
    variables = variables_of(module, pictures(2), INTERLEAVED, 1, True)
    return jax.jit(partial(module.apply, train=False), static_argnums=(2, 3)), variables


def without(variables: dict, stem: str) -> dict:
    """The same variables with one stem's leaves not finite: whatever reads them shows it."""
    return {
        kind: {
            name: jax.tree.map(lambda leaf: leaf * np.nan, part) if name == stem else part
            for name, part in tree.items()
        }
        for kind, tree in variables.items()
    }


@pytest.mark.parametrize(("layout", "own", "other"), [("rgb", "stem_rgb", "stem_ir"), ("ir", "stem_ir", "stem_rgb")])
def test_one_modality_reads_its_own_stem_alone(tiny, layout, own, other):
    apply, variables = tiny
    x = pictures(6)
    features = apply(variables, x, layout, 1)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, apply(without(variables, other), x, layout, 1))
    assert not np.isfinite(apply(without(variables, own), x, layout, 1)).any()


@pytest.mark.parametrize("length", [1, 3])
def test_interleaved_is_both_modalities_in_turn(tiny, length):
    apply, variables = tiny
    x = pictures(12)
    clips = x.reshape(-1, 2, length, *x.shape[1:])
    rgb, ir = (
        apply(variables, clips[:, i].reshape(6, *x.shape[1:]), layout, 1) for i, layout in enumerate(("rgb", "ir"))
    )
    both = np.asarray(apply(variables, x, INTERLEAVED, length)).reshape(-1, 2, length, *rgb.shape[1:])
    np.testing.assert_allclose(both[:, 0].reshape(rgb.shape), rgb, atol=1e-5)
    np.testing.assert_allclose(both[:, 1].reshape(ir.shape), ir, atol=1e-5)
    assert np.abs(rgb - apply(variables, clips[:, 0].reshape(6, *x.shape[1:]), "ir", 1)).max() > 0.01


def test_stem_statistics_see_their_modality_alone():
    module, length = TINY(), 2
    x = pictures(4, length)
    variables = variables_of(module, x, INTERLEAVED, length, True)
    train = jax.jit(lambda x: module.apply(variables, x, INTERLEAVED, length, True, mutable=["batch_stats"])[1])
    clips = x.reshape(4, length, *x.shape[1:]).copy()
    before = train(x)["batch_stats"]
    clips[1::2] += 5.0  # the infrared clips alone
    after = train(clips.reshape(x.shape))["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, before["stem_rgb"], after["stem_rgb"])
    changed = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
    assert changed["stem_ir"]["bn1"]["mean"] > 0.1
    assert changed["layer1_0"]["bn1"]["mean"] > 0.01

    pixels = jnp.asarray(clips[0::2].reshape(-1, *x.shape[1:]))
    y = Conv(4, 3, 2).apply({"params": variables["params"]["stem_rgb"]["conv1"]}, pixels)
    old = variables["batch_stats"]["stem_rgb"]["bn1"]["mean"]
    np.testing.assert_allclose(after["stem_rgb"]["bn1"]["mean"], 0.9 * old + 0.1 * y.mean((0, 1, 2)), atol=1e-5)


def count(tree: dict) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_resnet50_is_the_published_network():
    module = resnet.resnet50()
    x = jax.ShapeDtypeStruct((2, 288, 144, 3), jnp.float32)
    features, variables = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, "interleaved", 1, True), x
    )
    assert features.shape == (2, 2048)
    assert features.dtype == jnp.float32
    _, state = jax.eval_shape(
        lambda variables, x: module.apply(
            variables, x, "rgb", 1, False, mutable=["intermediates"], capture_intermediates=True
        ),
        variables,
        x,
    )
    assert state["intermediates"]["layer4_2"]["__call__"][0].shape == (2, 18, 9, 2048)  # the last stride is 1
    params = dict(variables["params"])
    stem = params.pop("stem_ir")
    assert count(params) == 23_508_032  # torchvision's resnet50 without its classifier
    assert count(stem) == 7 * 7 * 3 * 64 + 2 * 64
    convolutions = [path for path in flatten_dict(params) if path[-2].startswith("conv")]
    assert len(convolutions) == 53
    assert {path[-1] for path in convolutions} == {"kernel"}


def test_small_backbone_is_small():
    module = resnet.resnet_small()
    x = jax.ShapeDtypeStruct((2, 64, 32, 3), jnp.float32)
    features, variables = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x, "interleaved", 1, True), x
    )
    assert features.shape == (2, 192)
    assert 0.85e6 < count(variables["params"]) < 0.95e6


def test_bfloat16_arithmetic_keeps_float32_parameters():
    module = TINY(dtype=jnp.bfloat16)
    x = pictures(2)
    features, variables = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), x, "interleaved", 1, True))
    _, state = jax.eval_shape(
        lambda variables: module.apply(
            variables, x, "rgb", 1, False, mutable=["intermediates"], capture_intermediates=True
        ),
        variables,
    )
    assert state["intermediates"]["layer1_0"]["__call__"][0].dtype == jnp.bfloat16
    assert features.dtype == jnp.float32  # pooling sums in float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
