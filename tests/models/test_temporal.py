"""Temporal pools: masked means at the start, naive references with random weights, and frames that do not count."""

from math import exp, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models import temporal

DIM, HEADS = 8, 4
POOLS = {"mean": temporal.MeanPool(), "gem": temporal.GeMPool(), "attention": temporal.AttentionPool(HEADS)}
ORDERED = {
    "relative": temporal.AttentionPool(HEADS, relative=True),
    "motion": temporal.Motion(temporal.MeanPool()),
    "motion attention": temporal.Motion(temporal.AttentionPool(HEADS)),
}
EVERY = POOLS | ORDERED


@jax.jit(static_argnums=0)
def run(name: str, variables: dict, x: np.ndarray, mask: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Pooled features and the slope of a smooth sum of them in every frame: one compilation a pool."""
    pooled, back = jax.vjp(lambda x: EVERY[name].apply(variables, x, mask), x)
    return pooled, back(jnp.cos(pooled))[0]


def apply(*arguments) -> np.ndarray:
    return np.asarray(run(*arguments)[0])


def clips(seed: int = 0, lengths: tuple[int, ...] = (5, 3, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Frame features [B, T, D], positive and negative, and a mask of clips of these lengths."""
    x = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), DIM)).astype(np.float32)
    return x, np.arange(max(lengths)) < np.array(lengths)[:, None]


def random_variables(name: str, seed: int = 0) -> dict:
    x, mask = clips()
    shapes = jax.eval_shape(lambda: EVERY[name].init(jax.random.key(0), x, mask))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (
            rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32)
            if leaf.ndim < 2
            else (rng.normal(size=leaf.shape) * 0.7).astype(np.float32)
        ),
        shapes,
    )


def naive_mean(x, mask):
    return np.array([np.mean([f for f, there in zip(clip, m) if there], axis=0) for clip, m in zip(x, mask)])


def softmax(scores):
    total = sum(exp(s - max(scores)) for s in scores)
    return [exp(s - max(scores)) / total for s in scores]


def naive_attention(params, clip, bias_of=lambda head, distance: 0.0):
    """One clip [n, D] of valid frames only, head by head and frame by frame; bias of a head by distance in time."""
    clip = clip.astype(np.float64)
    scale, bias = params["norm"]["scale"], params["norm"]["bias"]
    normed = [(f - f.mean()) / sqrt(f.var() + 1e-6) * scale + bias for f in clip]
    query, key, value = (
        [np.split(part, HEADS) for part in parts]
        for parts in zip(*[np.split(y @ params["qkv"]["kernel"], 3) for y in normed])
    )
    frames = []
    for i, frame in enumerate(clip):
        heads = []
        for h in range(HEADS):
            scores = [query[i][h] @ key[j][h] / sqrt(DIM / HEADS) + bias_of(h, j - i) for j in range(len(clip))]
            weights = softmax(scores)
            heads.append(sum(w * value[j][h] for j, w in enumerate(weights)))
        frames.append(frame + np.concatenate(heads) @ params["out"]["kernel"] + params["out"]["bias"])
    weights = softmax([float((f @ params["score"]["kernel"])[0]) for f in frames])
    return sum(w * f for w, f in zip(weights, frames))


def test_mean_equals_naive():
    x, mask = clips()
    np.testing.assert_allclose(apply("mean", {}, x, mask), naive_mean(x, mask), atol=1e-6)


def test_gem_equals_naive():
    x, mask = clips()
    for p in (1.0, 2.5):
        expected = naive_mean(np.maximum(x, 1e-6).astype(np.float64) ** p, mask) ** (1 / p)
        np.testing.assert_allclose(apply("gem", {"params": {"p": np.float32(p)}}, x, mask), expected, rtol=1e-4)


def test_attention_equals_naive():
    x, mask = clips()
    variables = random_variables("attention")
    expected = [naive_attention(variables["params"], clip[m]) for clip, m in zip(x, mask)]
    pooled = apply("attention", variables, x, mask)
    np.testing.assert_allclose(pooled, expected, atol=1e-4)
    assert np.abs(pooled - naive_mean(x, mask)).max() > 0.1  # random weights do something


def test_attention_starts_as_the_mean():
    x, mask = clips()
    variables = jax.jit(POOLS["attention"].init)(jax.random.key(1, impl="rbg"), x, mask)
    assert np.abs(variables["params"]["qkv"]["kernel"]).max() > 0.01
    np.testing.assert_allclose(apply("attention", variables, x, mask), naive_mean(x, mask), atol=1e-6)


def test_gem_starts_at_three():
    assert float(jax.jit(POOLS["gem"].init)(jax.random.key(0), *clips())["params"]["p"]) == 3.0


def naive_motion(params, clip):
    """The frames [n, D] of one clip of valid frames only, each with what its neighbours add."""
    clip = clip.astype(np.float64)
    scale, bias = params["norm"]["scale"], params["norm"]["bias"]
    normed = [(f - f.mean()) / sqrt(f.var() + 1e-6) * scale + bias for f in clip]
    y = [f @ params["down"]["kernel"] + params["down"]["bias"] for f in normed]
    frames = []
    for i, frame in enumerate(clip):
        near = [y[max(i - 1, 0)], y[i], y[min(i + 1, len(clip) - 1)]]
        seen = np.maximum(sum(w * f for w, f in zip(params["kernel"], near)), 0)
        frames.append(frame + seen @ params["out"]["kernel"] + params["out"]["bias"])
    return np.array(frames)


def test_relative_attention_equals_naive():
    x, mask = clips(3, (12, 3, 1))
    variables = random_variables("relative")
    table = variables["params"]["distance"]["bias"]
    assert table.shape == (HEADS, 17)

    def bias_of(head, distance):
        return table[head, min(max(distance, -8), 8) + 8]

    expected = [naive_attention(variables["params"], clip[m], bias_of) for clip, m in zip(x, mask)]
    np.testing.assert_allclose(apply("relative", variables, x, mask), expected, atol=1e-4)


def test_motion_equals_naive():
    x, mask = clips()
    variables = random_variables("motion")
    moved = [naive_motion(variables["params"], clip[m]) for clip, m in zip(x, mask)]
    pooled = apply("motion", variables, x, mask)
    np.testing.assert_allclose(pooled, [frames.mean(0) for frames in moved], atol=1e-4)
    variables = random_variables("motion attention")
    moved = [naive_motion(variables["params"], clip[m]) for clip, m in zip(x, mask)]
    expected = [naive_attention(variables["params"]["pool"], frames) for frames in moved]
    np.testing.assert_allclose(apply("motion attention", variables, x, mask), expected, atol=1e-4)


@pytest.mark.parametrize("name", ORDERED)
def test_order_starts_as_the_mean(name):
    x, mask = clips()
    variables = jax.jit(EVERY[name].init)(jax.random.key(1, impl="rbg"), x, mask)
    np.testing.assert_allclose(apply(name, variables, x, mask), naive_mean(x, mask), atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_the_order_of_frames_is_seen_where_it_is_asked_for(name):
    x, mask = clips(4, (6, 4))
    variables = random_variables(name)
    moved = np.abs(apply(name, variables, x, mask) - apply(name, variables, x[:, [2, 0, 3, 1, 4, 5]], mask)).max()
    assert (moved > 0.01) == (name in ORDERED)
    assert (moved < 1e-5) == (name in POOLS)


@pytest.mark.parametrize("name", ORDERED)
def test_a_clip_of_equal_frames_has_no_order(name):
    """The ends of a clip are no motion, whatever its length."""
    x, mask = clips(5, (6, 6, 6))
    still = np.repeat(x[:, :1], 6, axis=1)
    variables = random_variables(name)
    expected = apply(name, variables, still, mask)
    np.testing.assert_allclose(apply(name, variables, still[:, :2], mask[:, :2]), expected, atol=1e-5)
    np.testing.assert_allclose(apply(name, variables, still, mask & [1, 0, 1, 1, 0, 1]), expected, atol=1e-5)


@pytest.mark.parametrize("name", ORDERED)
def test_every_parameter_of_the_order_is_trained(name):
    """Behind those that start at zero there is no slope at step 0, and one from the first step on."""
    x, mask = clips()
    variables = jax.jit(EVERY[name].init)(jax.random.key(1, impl="rbg"), x, mask)

    @jax.jit
    def slope(params):
        return jax.grad(lambda params: jnp.cos(EVERY[name].apply({"params": params}, x, mask)).sum())(params)

    params = variables["params"]
    first = slope(params)
    assert np.abs(first["out"]["kernel"]).max() > 0 or name == "relative"
    for _ in range(2):
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slope(params))
    own = {key: leaf for key, leaf in slope(params).items() if key != "pool"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(own):
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", EVERY)
def test_padding_changes_nothing(name):
    """Whatever the masked frames hold, and wherever they stand."""
    x, mask = clips(1, (5, 3, 2))
    variables = random_variables(name)
    expected, slope = run(name, variables, x, mask)
    loud = np.where(mask[..., None], x, 50.0).astype(np.float32)
    order = np.array([4, 0, 3, 1, 2])  # frames of a clip have no order for the pools
    moved = ((loud[:, order], mask[:, order]),) if name in POOLS else ()
    for frames, valid in ((loud, mask), *moved):
        np.testing.assert_allclose(apply(name, variables, frames, valid), expected, atol=1e-5)
    assert not slope[~mask].any()
    assert (np.abs(slope).max(-1) > 0)[mask].all()
    mask[0, 4] = False
    assert np.abs(apply(name, variables, x, mask) - expected)[0].max() > 0.01


@pytest.mark.parametrize("name", EVERY)
def test_clip_without_frames_is_finite_and_has_no_gradient(name):
    x, mask = clips(2)
    mask[1] = False
    pooled, slope = run(name, random_variables(name), x, mask)
    assert np.isfinite(pooled).all()
    assert np.isfinite(slope).all()
    assert np.abs(slope[0]).max() > 0
    assert not slope[1].any()


def test_names():
    assert {name: type(pool) for name, pool in POOLS.items()} == temporal.AGGREGATORS
    assert {name: temporal.make_aggregator(name, "none") for name in POOLS} == {
        "mean": temporal.MeanPool(),
        "gem": temporal.GeMPool(),
        "attention": temporal.AttentionPool(),
    }
    assert temporal.make_aggregator("attention", "relative") == temporal.AttentionPool(relative=True)
    assert temporal.make_aggregator("gem", "motion") == temporal.Motion(temporal.GeMPool())


def test_distances_need_attention():
    with pytest.raises(ValueError, match=r"encoder\.order=relative needs encoder\.aggregator=attention, not mean"):
        temporal.make_aggregator("mean", "relative")
