"""BatchNorm over groups of clips: each group's own statistics, the mean of them kept, one result on 1 and 4 devices."""

import os
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from flax import linen as nn

from hitpro_jax.models import encoder as encoders
from hitpro_jax.models import resnet
from hitpro_jax.models.norms import BatchNorm, groups_of
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.sharding import make_mesh, replicated, row_sharding
from hitpro_jax.types import INTERLEAVED

SIZE, CLIPS, LENGTH = (8, 6), 8, 2


def norm_variables(width: int, rng) -> dict:
    draw = partial(rng.uniform, 0.5, 1.5, width)
    return {"params": {"scale": draw(), "bias": draw()}, "batch_stats": {"mean": draw(), "var": draw()}}


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_equal_numpy(groups):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(6, 4, 3, 5)) * 2 + np.arange(6)[:, None, None, None]).astype(np.float32)
    start = norm_variables(5, rng)
    module = BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, groups=groups)
    y, updates = jax.jit(partial(module.apply, mutable=["batch_stats"]))(start, x)
    parts = x.reshape(groups, -1, 5).astype(np.float64)
    mean, var = parts.mean(1, keepdims=True), parts.var(1, keepdims=True)
    expected = (parts - mean) / np.sqrt(var + 1e-5) * start["params"]["scale"] + start["params"]["bias"]
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=1e-4)
    for name, value in (("mean", mean), ("var", var)):
        old = start["batch_stats"][name]
        np.testing.assert_allclose(updates["batch_stats"][name], 0.9 * old + 0.1 * value.mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_one_group_is_flax_to_the_bit(train):
    rng = np.random.default_rng(1)
    x, start = rng.normal(size=(6, 4, 5)).astype(np.float32), norm_variables(5, rng)
    options = {"use_running_average": not train, "momentum": 0.9, "epsilon": 1e-5}
    ours, theirs = (
        jax.jit(partial(kind(**options).apply, mutable=["batch_stats"]))(start, x) for kind in (BatchNorm, nn.BatchNorm)
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_evaluation_knows_no_groups():
    rng = np.random.default_rng(1)
    x, start = rng.normal(size=(5, 3)).astype(np.float32), norm_variables(3, rng)
    y = BatchNorm(use_running_average=True, groups=2).apply(start, x)
    np.testing.assert_array_equal(y, nn.BatchNorm(use_running_average=True).apply(start, x))


def test_groups_are_checked():
    assert [groups_of(8, size, True) for size in (0, 2, 4, 8)] == [1, 4, 2, 1]
    for size, message in (
        (3, "norm_group=3 does not divide the batch of 8 clips"),
        (16, "does not divide"),
        (-2, "does not divide"),
    ):
        with pytest.raises(ValueError, match=message):
            groups_of(8, size, False)
    with pytest.raises(ValueError, match="norm_group=3 is odd"):
        groups_of(6, 3, True)
    assert groups_of(6, 3, False) == 2


def encoder(norm_group: int) -> encoders.Encoder:
    backbone = resnet.ResNet(resnet.BasicBlock, (1,), (6,), (2,), 4, 3, False, norm_group=norm_group)
    return encoders.Encoder(backbone, MeanPool(), norm_group)


def train(norm_group: int, frames: np.ndarray, layout: str = INTERLEAVED) -> dict[str, np.ndarray]:
    """Features and new statistics of a training pass with the batch sharded over this process's devices."""
    mesh, module = make_mesh(), encoder(norm_group)
    variables = encoders.init_variables(module, SIZE, 0)
    mask = np.ones(frames.shape[:2], bool)
    rows, whole = row_sharding(mesh), replicated(mesh)
    apply = jax.jit(
        lambda v, f, m: module.apply(v, f, m, layout, True, mutable=["batch_stats"]),
        in_shardings=(whole, rows, rows),
        out_shardings=whole,
    )
    encoded, updates = apply(variables, frames, mask)
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    return {"tracklet": np.array(encoded.tracklet)} | {jax.tree_util.keystr(k): np.array(v) for k, v in leaves}


def clips() -> np.ndarray:
    """Pairs whose brightness differs much, so that a group's statistics are not the batch's."""
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(25 * i, 25 * i + 60, (LENGTH, *SIZE, 3)) for i in range(CLIPS)]).astype(np.uint8)


def test_an_encoder_treats_every_group_as_a_batch():
    """Stems, blocks and neck: the two halves of a batch come out as if each had been a batch of its own."""
    both = train(CLIPS // 2, clips())
    halves = [train(0, part) for part in np.split(clips(), 2)]
    np.testing.assert_allclose(both.pop("tracklet"), np.concatenate([h.pop("tracklet") for h in halves]), atol=1e-4)
    assert len(both) == 2 * (2 + 3 + 1)
    for name, value in both.items():
        np.testing.assert_allclose(value, (halves[0][name] + halves[1][name]) / 2, atol=1e-5, err_msg=name)
    whole = train(0, clips())
    assert max(np.abs(whole[name] - value).max() for name, value in both.items()) > 1e-2


def test_a_batch_without_whole_groups_is_refused():
    with pytest.raises(ValueError, match="norm_group=6 does not divide the batch of 8 clips"):
        jax.eval_shape(
            lambda: encoder(6).apply(
                encoders.init_variables(encoder(6), SIZE, 0),
                clips(),
                np.ones((CLIPS, LENGTH), bool),
                "rgb",
                True,
                mutable=["batch_stats"],
            )
        )


@pytest.mark.parametrize("norm_group", [0, 4])
def test_four_devices_equal_one(norm_group, tmp_path):
    script = (
        "import sys, jax, numpy; from tests.models.test_norms import clips, train;"
        f"assert jax.device_count() == 4; numpy.savez(sys.argv[1], **train({norm_group}, clips()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "four.npz")],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "four.npz") as four:
        for name, value in train(norm_group, clips()).items():
            np.testing.assert_allclose(four[name], value, rtol=1e-4, atol=1e-4, err_msg=name)
