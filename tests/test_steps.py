"""The compiled steps on a tiny encoder: one against four devices, no second compilation, and what a step changes."""

import json
import os
import re
import subprocess
import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hitpro_jax import encode, steps
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.hitpro import HiTPro
from hitpro_jax.models import encoder as encoders
from hitpro_jax.models import resnet
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.options import AcrossOptions, AlignmentOptions, LossOptions, Options, WithinOptions
from hitpro_jax.sharding import fetch, make_mesh, row_sharding, to_global
from hitpro_jax.types import INTERLEAVED, Clips, TrackletInfo
from tests.batches import clips_of

SIZE, PARTS, CLIPS, FRAMES, PIXELS, DIM, TOTAL = 12, 2, 8, 2, (8, 6), 8, 10
# stems alone: quick to compile
TINY = encoders.Encoder(resnet.ResNet(resnet.BasicBlock, (), (), (), DIM, 3, False), MeanPool())


def method(mesh=None) -> HiTPro:
    small = {
        "reciprocity": 4,
        "positives": 3,
        "ambiguous": 2,
        "neighbours": 6,
        "block": 4,
        "rho": (0.5, 0.5),
        "kappa": (-1.0, -2.0),
    }
    loss = LossOptions(within_begin=0.0, across_begin=0.0, ramp=0.0, frame=0.3, hard_negatives=4, temperature=0.5)
    options = Options(
        within=WithinOptions(**small, camera_bias="none"),
        across=AcrossOptions(**small, debias="none"),
        alignment=AlignmentOptions(centre=False),
        loss=loss,
    )
    return HiTPro.create(options, Setting(4, mesh, None))


def info() -> TrackletInfo:
    """Two cameras a modality, and two rows of padding."""
    row = np.arange(SIZE, dtype=np.int32)
    return TrackletInfo(row % 2, row // 2 % 2, row % 4, row < SIZE - 2)


def batch(seed: int) -> Clips:
    """Clips of both modalities in turn; the first two of each are of one tracklet."""
    rng = np.random.default_rng(seed)
    tracklet = np.array([0, 1, 0, 1, 2, 3, 4, 5], np.int32)
    frames = rng.integers(0, 256, (CLIPS, FRAMES, *PIXELS, 3), np.uint8)
    return clips_of(tracklet, frames=frames, mask=np.arange(FRAMES) < rng.integers(1, FRAMES + 1, (CLIPS, 1)))


def parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sub-tracklet features of three people, and padding rows without any part."""
    rng = np.random.default_rng(seed)
    people = np.abs(rng.normal(size=(3, DIM)))[np.arange(SIZE) // 4]
    features = people[:, None] + 0.3 * rng.normal(size=(SIZE, PARTS, DIM))
    return features.astype(np.float32), np.repeat(info().valid[:, None], PARTS, 1)


@cache
def compiled():
    """The mesh of all devices of this process and the steps; plain descent adds no noise to small gradients."""
    mesh = make_mesh()
    shardings = steps.state_sharding(initial(), method(mesh), mesh, cut_parameters=False)
    return mesh, steps.make_steps(TINY, optax.sgd(0.02), method(mesh), TOTAL, mesh, shardings), shardings


def initial():
    return steps.initial_state(encoders.init_variables(TINY, PIXELS, 0), optax.sgd(0.02), method().init(SIZE, DIM), {})


def start():
    """The mesh, the steps, the state at step 0 and the tracklets' info on all devices."""
    mesh, tools, shardings = compiled()
    return mesh, tools, jax.device_put(initial(), shardings), jax.device_put(info(), row_sharding(mesh))


def run() -> dict[str, np.ndarray]:
    """A refresh, three steps and an embedding, as one flat mapping of host arrays."""
    mesh, tools, state, rows = start()
    state = tools.refresh(state, *parts(0), rows)
    out = {"positives": np.array(state.memory.within.weight)}
    for step in range(3):
        state, metrics = tools.train(state, to_global(batch(step), mesh), rows, INTERLEAVED)
        out |= {f"step {step} {name}": np.array(value) for name, value in metrics.items()}
    clips = to_global(batch(9), mesh)
    embed = encode.make_embed(TINY, mesh)
    out["features"] = np.array(embed(state.variables, clips.frames, clips.mask, INTERLEAVED))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        out[jax.tree_util.keystr(path)] = np.array(leaf)
    return out


@pytest.fixture(scope="module")
def one_device():
    return run()


def test_four_devices_equal_one(one_device, tmp_path):
    script = (
        "import sys, jax, numpy; from tests.test_steps import run; assert jax.device_count() == 4;"
        "numpy.savez(sys.argv[1], **run())"
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
        assert set(four.files) == one_device.keys()
        for name, value in one_device.items():
            np.testing.assert_allclose(four[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


COLLECTIVES = """
import json
from tests.test_steps import CLIPS, INTERLEAVED, SIZE, batch, parts, start, to_global
from hitpro_jax.commands.check import collectives

mesh, tools, state, rows = start()
assert mesh.size == 4
train = tools.train.lower(state, to_global(batch(0), mesh), rows, INTERLEAVED).compile().as_text()
refresh = tools.refresh.lower(state, *to_global(parts(0), mesh), rows).compile().as_text()
print(json.dumps([collectives(train), collectives(refresh), train]))
"""


def test_the_bank_is_never_gathered():
    """Clips come to the bank: their features are gathered, its rows are not; mining passes parts round a ring."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECTIVES],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    train, refresh, text = json.loads(done.stdout.splitlines()[-1])
    assert set(train) == {"all-gather", "all-reduce", "reduce-scatter"}
    gathered = re.findall(r"= \w+\[(\d+)[^ ]* all-gather\(", text)
    # features of clips and frames, ids and mask of the batch, and twice the hardest negatives; all by clips
    assert gathered == [str(CLIPS)] * 6
    assert train["all-gather"] == 6
    assert set(refresh) == {"collective-permute", "all-reduce"}


def test_a_step_has_all_three_levels_and_learns(one_device):
    assert one_device["positives"].any()
    assert not one_device["positives"][-2:].any()
    for step in range(3):
        found = {name.removeprefix(f"step {step} ") for name in one_device if name.startswith(f"step {step} ")}
        assert found == {"loss", "grad_norm", "intra", "within", "across", "frame", "weight_within", "weight_across"}
        assert all(one_device[f"step {step} {name}"] > 0 for name in found)
    terms = {name: float(one_device[f"step 0 {name}"]) for name in ("intra", "within", "across", "frame")}
    weights = {"intra": 1.0, "within": 0.5, "across": 0.5, "frame": 0.3}
    assert one_device["step 0 loss"] == pytest.approx(sum(weights[name] * value for name, value in terms.items()), 1e-5)
    assert one_device[".step"] == 3
    np.testing.assert_allclose(np.linalg.norm(one_device["features"], axis=1), 1.0, atol=1e-5)


def test_what_a_step_changes():
    mesh, tools, state, rows = start()
    state = tools.refresh(state, *parts(0), rows)
    before, clips = jax.tree.map(np.array, state), batch(0)

    def naive(params):
        variables = {"params": params, "batch_stats": before.batch_stats}
        encoded, updates = TINY.apply(variables, clips.frames, clips.mask, INTERLEAVED, True, mutable=["batch_stats"])
        loss, _ = method().loss(
            jax.tree.map(jnp.asarray, before.memory),
            {},
            encoded,
            jax.tree.map(jnp.asarray, clips),
            rows,
            before.step / TOTAL,
        )
        return loss, (encoded.tracklet, updates["batch_stats"])

    (loss, (features, statistics)), slope = jax.jit(jax.value_and_grad(naive, has_aux=True))(before.params)
    state, metrics = tools.train(state, to_global(clips, mesh), rows, INTERLEAVED)
    after = jax.tree.map(np.array, state)
    close = partial(np.testing.assert_allclose, atol=1e-5)
    close(metrics["loss"], loss)
    close(metrics["grad_norm"], np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(slope))), rtol=1e-4)
    jax.tree.map(lambda new, old, g: close(new, old - 0.02 * g), after.params, before.params, slope)
    jax.tree.map(close, after.batch_stats, statistics)
    moved = np.abs(after.memory.prototypes - before.memory.prototypes).max(1) > 1e-4
    assert moved.tolist() == [row in batch(0).tracklet for row in range(SIZE)]
    features = np.array(features)  # of the parameters before the step
    mean = features[4], (features[0] + features[2]) / 2
    for row, clip in zip((2, 0), mean, strict=True):
        new = 0.9 * before.memory.prototypes[row] + 0.1 * clip
        close(after.memory.prototypes[row], new / np.linalg.norm(new))
    jax.tree.map(
        np.testing.assert_array_equal, after.memory._replace(prototypes=None), before.memory._replace(prototypes=None)
    )


def test_the_memory_counts_for_progress():
    """A refresh late in training has another threshold than one at the start."""
    _, tools, state, rows = start()
    state = jax.tree.map(np.array, state)
    thresholds = []
    for step in (0, TOTAL):
        state = state._replace(step=np.array(step, np.int32))
        thresholds.append(np.array(tools.refresh(state, *parts(0), rows).memory.within.threshold))
    assert (thresholds[0] > thresholds[1] + 0.01).all()


def test_copies_on_the_host_outlive_a_refresh():
    """The loop keeps the memory before a refresh for its diagnostics, while the refresh gives its buffers up."""
    _, tools, state, rows = start()
    state = tools.refresh(state, *parts(0), rows)
    before = fetch(state.memory)
    kept = jax.tree.map(np.array, before)
    state = tools.refresh(state, *parts(5), rows)
    jax.tree.map(np.testing.assert_array_equal, before, kept)
    assert np.abs(np.array(state.memory.prototypes) - kept.prototypes).max() > 0.01


def test_nothing_compiles_again_between_epochs():
    mesh, tools, state, rows = start()

    def epoch(state, seed):
        state = tools.refresh(state, *parts(seed), rows)
        for step in range(2):
            state, _ = tools.train(state, to_global(batch(seed + step), mesh), rows, INTERLEAVED)
        return state

    state = epoch(state, 0)  # the first call may differ in where its arguments lie
    sizes = tools.refresh._cache_size(), tools.train._cache_size()
    for seed in (1, 2, 3):
        state = epoch(state, seed)
    assert (tools.refresh._cache_size(), tools.train._cache_size()) == sizes
    assert int(state.step) == 8
