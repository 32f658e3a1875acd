"""The encoder: a naive forward pass, unit features in one space, masks, batches, and its initial variables."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from hitpro_jax.models import encoder as encoders
from hitpro_jax.models import resnet
from hitpro_jax.models.temporal import AttentionPool, GeMPool, MeanPool, make_aggregator
from hitpro_jax.options import EncoderOptions

SIZE = (8, 6)
TINY = encoders.Encoder(resnet.ResNet(resnet.BasicBlock, (1,), (8,), (2,), 4, 3, False), AttentionPool(2))


class Pixels(nn.Module):
    """A backbone whose maps are the pixels themselves."""

    @nn.compact
    def __call__(self, x, layout, length, train):
        return resnet.gem(x)


def batch(clips: int = 4, length: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random uint8 clips, the later ones shorter."""
    frames = np.random.default_rng(seed).integers(0, 256, (clips, length, *SIZE, 3), np.uint8)
    return frames, np.arange(length) < np.array([length, length, length - 1, 1])[:clips, None]


@pytest.fixture(scope="module")
def variables():
    """Random leaves; norms and statistics away from 1 and 0, and an attention that does something."""
    rng = np.random.default_rng(3)
    start = encoders.init_variables(TINY, SIZE, 0)
    return jax.tree.map(lambda leaf: (leaf + rng.uniform(0.1, 0.4, leaf.shape)).astype(np.float32), start)


encode = jax.jit(partial(TINY.apply, train=False), static_argnums=3)


def test_features_equal_naive():
    frames, mask = batch()
    rng = np.random.default_rng(0)
    scale, mean, var = rng.uniform(0.5, 2.0, (3, 3)).astype(np.float32)
    neck = {"params": {"neck": {"scale": scale}}, "batch_stats": {"neck": {"mean": mean, "var": var}}}
    encoder = encoders.Encoder(Pixels(), MeanPool())
    found = jax.jit(lambda frames: encoder.apply(neck, frames, mask, "rgb", False))(frames)

    def unit(x):
        x = (x - mean) / np.sqrt(var + 1e-5) * scale
        return x / np.linalg.norm(x)

    for b, clip in enumerate(frames):
        pooled = []
        for frame in clip:
            pixels = (frame / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # ImageNet's, R first
            pooled.append((np.maximum(pixels, 1e-6) ** 3).mean((0, 1)) ** (1 / 3))
        np.testing.assert_allclose(found.frame[b], [unit(f) for f in pooled], atol=1e-4)
        np.testing.assert_allclose(found.tracklet[b], unit(np.mean(np.array(pooled)[mask[b]], 0)), atol=1e-4)


@pytest.mark.parametrize("layout", ["rgb", "interleaved"])
def test_features_have_unit_length(variables, layout):
    tracklet, frame = encode(variables, *batch(), layout)
    assert tracklet.shape == (4, 8)
    assert frame.shape == (4, 3, 8)
    assert tracklet.dtype == frame.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(tracklet, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(frame, axis=-1), 1.0, atol=1e-5)


def test_masked_frames_change_nothing(variables):
    frames, mask = batch()
    tracklet, frame = encode(variables, frames, mask, "interleaved")
    # New arrays: JAX may still be reading the first one (on a CPU it shares NumPy's memory and runs on its own).
    hidden = np.where(mask[..., None, None, None], frames, 255 - frames)
    again, again_frame = encode(variables, hidden, mask, "interleaved")
    np.testing.assert_allclose(tracklet, again, atol=1e-6)
    assert np.abs(frame - again_frame)[~mask].max() > 1e-3  # the frames themselves did change
    assert np.abs(tracklet - encode(variables, 255 - frames, mask, "interleaved").tracklet).max() > 1e-3


def test_clips_do_not_see_each_other(variables):
    frames, mask = batch()
    expected = encode(variables, frames, mask, "rgb")
    order = np.array([2, 0, 3, 1])
    for one, other in zip(expected, encode(variables, frames[order], mask[order], "rgb"), strict=True):
        np.testing.assert_allclose(one[order], other, atol=1e-5)
    alone = np.concatenate([frames[:1], np.zeros_like(frames[1:])])
    np.testing.assert_allclose(expected.tracklet[0], encode(variables, alone, mask, "rgb").tracklet[0], atol=1e-5)


def test_one_frame_and_its_clip_are_the_same_point():
    """At the start the pool is the mean, so clips of one valid frame tell whether both pass the same neck."""
    frames, mask = batch()
    mask[:] = [True, False, False]
    start = encoders.init_variables(TINY, SIZE, 0)
    start["batch_stats"]["neck"]["mean"][:] = np.linspace(0, 1, 8)
    tracklet, frame = encode(start, frames, mask, "rgb")
    np.testing.assert_allclose(tracklet, frame[:, 0], atol=1e-5)


def test_the_neck_counts_tracklets_alone_in_training():
    frames, mask = batch()
    module = encoders.Encoder(Pixels(), MeanPool())
    start = {
        "params": {"neck": {"scale": np.ones(3, np.float32)}},
        "batch_stats": {"neck": {"mean": np.full(3, 2.0, np.float32), "var": np.ones(3, np.float32)}},
    }

    encoded, updates = jax.jit(
        lambda frames: module.apply(
            start, frames, mask, "rgb", True, mutable=["batch_stats", "intermediates"], capture_intermediates=True
        )
    )(frames)
    pooled = np.asarray(updates["intermediates"]["aggregator"]["__call__"][0])
    statistics = updates["batch_stats"]["neck"]
    np.testing.assert_allclose(statistics["mean"], 0.9 * 2.0 + 0.1 * pooled.mean(0), atol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * pooled.var(0), atol=1e-5)
    normed = (pooled - pooled.mean(0)) / np.sqrt(pooled.var(0) + 1e-5)
    np.testing.assert_allclose(encoded.tracklet, normed / np.linalg.norm(normed, axis=1, keepdims=True), atol=1e-3)


def statistics_of(variables, frames, mask) -> dict:
    """BatchNorm's running statistics after a training step, and the features."""
    encoded, updates = jax.jit(
        lambda frames, mask: TINY.apply(variables, frames, mask, "interleaved", True, mutable=["batch_stats"])
    )(frames, mask)
    return updates["batch_stats"], encoded.tracklet


def test_what_is_masked_counts_for_batch_norm_as_the_picture_that_stands_there(variables):
    """Whether a frame counts for its clip is no matter to the backbone's statistics."""
    frames, mask = batch()
    found, _ = statistics_of(variables, frames, mask)
    expected, _ = statistics_of(variables, frames, np.ones_like(mask))
    jax.tree.map(np.testing.assert_array_equal, found["backbone"], expected["backbone"])


def test_a_clip_without_valid_frames_enters_the_neck_as_its_pictures(variables):
    """Not as a zero, which would move the statistics and so the features of all other clips."""
    frames, mask = batch()
    mask[2] = False
    whole = mask.copy()
    whole[2] = True
    (found, features), (expected, others) = (statistics_of(variables, frames, each) for each in (mask, whole))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    np.testing.assert_array_equal(features, others)


def test_initial_variables_are_a_function_of_the_seed():
    first, again, other = (encoders.init_variables(TINY, SIZE, seed) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    name = "stem_rgb"
    kernels = [tree["params"]["backbone"][name]["conv1"]["kernel"] for tree in (first, other)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1


def test_initial_variables_have_flax_shapes_and_useful_values():
    encoder = encoders.make_encoder(EncoderOptions("resnet_small", "attention"))
    variables = encoders.init_variables(encoder, (64, 32), 0)
    frames, mask = jax.ShapeDtypeStruct((2, 1, 64, 32, 3), jnp.uint8), jax.ShapeDtypeStruct((2, 1), bool)
    shapes = jax.eval_shape(partial(encoder.init, layout="rgb", train=False), jax.random.key(9), frames, mask)
    described = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (variables, shapes))
    assert next(described) == next(described)
    flat = flatten_dict(variables, sep="/")
    assert all(isinstance(leaf, np.ndarray) for leaf in flat.values())
    for name, leaf in flat.items():
        if name.endswith(("scale", "var")):
            assert (leaf == 1).all(), name
        elif name.endswith(("bias", "mean")) or "out/" in name or "score/" in name:
            assert not leaf.any(), name
        else:
            spread = math.sqrt(2 / math.prod(leaf.shape[:-1]))
            assert abs(leaf.std() / spread - 1) < 0.1, name
            assert abs(leaf.mean()) < 0.2 * spread, name
    stems = [flat[f"params/backbone/stem_{kind}/conv1/kernel"] for kind in ("rgb", "ir")]
    assert (stems[0] != stems[1]).all()


@pytest.mark.parametrize("order", ["relative", "motion"])
def test_the_order_of_frames_starts_as_none_and_comes_with_parameters_of_its_own(order):
    frames, mask = batch()
    modules = [
        encoders.Encoder(TINY.backbone, make_aggregator(name, which))
        for name, which in (("mean", "none"), ("attention", order))
    ]
    starts = [encoders.init_variables(module, SIZE, 0) for module in modules]
    starts[1]["params"]["backbone"] = starts[0]["params"]["backbone"]  # drawn behind the aggregator's parameters
    plain, ordered = (
        module.apply(start, frames, mask, "rgb", False) for module, start in zip(modules, starts, strict=True)
    )
    np.testing.assert_allclose(ordered.tracklet, plain.tracklet, atol=1e-5)
    np.testing.assert_allclose(ordered.frame, plain.frame, atol=1e-6)
    names = flatten_dict(starts[1]["params"]["aggregator"], sep="/")
    own = {"relative": {"distance/bias"}, "motion": {"kernel", "down/kernel", "out/kernel"}}[order]
    assert own <= names.keys()


def test_gem_starts_at_three():
    variables = encoders.init_variables(encoders.Encoder(Pixels(), GeMPool()), SIZE, 0)
    assert float(variables["params"]["aggregator"]["p"]) == 3.0


def test_parts_by_name():
    encoder = encoders.make_encoder(EncoderOptions("resnet50", "gem", dtype="bfloat16", remat=True, norm_group=4))
    assert (encoder.backbone.dtype, encoder.backbone.remat, encoder.backbone.as_product) == (jnp.bfloat16, True, False)
    assert encoder.backbone.norm_group == encoder.norm_group == 4
    assert encoder.backbone.depths == (3, 4, 6, 3)
    assert isinstance(encoder.aggregator, GeMPool)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("resnet18", "mean"), "encoder.backbone is 'resnet18': choose one of resnet_small, resnet50, vit_b16"),
        (("resnet50", "max"), "encoder.aggregator is 'max': choose one of mean, gem, attention"),
    ],
)
def test_unknown_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        encoders.make_encoder(EncoderOptions(*names))
