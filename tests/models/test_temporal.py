"""Temporal pools: masked means at the start, naive references with random weights, and frames that do not count."""

from math import exp, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models import temporal

DIM, HEADS = 8, 4
POOLS = {"mean": temporal.MeanPool(), "gem": temporal.GeMPool(), "attention": temporal.AttentionPool(HEADS)}


@jax.jit(static_argnums=0)
def run(name: str, variables: dict, x: np.ndarray, mask: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Pooled features and the slope of a smooth sum of them in every frame: one compilation a pool."""
    pooled, back = jax.vjp(lambda x: POOLS[name].apply(variables, x, mask), x)
    return pooled, back(jnp.cos(pooled))[0]


def apply(*arguments) -> np.ndarray:
    return np.asarray(run(*arguments)[0])


def clips(seed: int = 0, lengths: tuple[int, ...] = (5, 3, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Frame features [B, T, D], positive and negative, and a mask of clips of these lengths."""
    x = np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), DIM)).astype(np.float32)
    return x, np.arange(max(lengths)) < np.array(lengths)[:, None]


def random_variables(name: str, seed: int = 0) -> dict:
    x, mask = clips()
    shapes = jax.eval_shape(lambda: POOLS[name].init(jax.random.key(0), x, mask))
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


def naive_attention(params, clip):
    """One clip [n, D] of valid frames only, head by head and frame by frame."""
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
            weights = softmax([query[i][h] @ key[j][h] / sqrt(DIM / HEADS) for j in range(len(clip))])
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


@pytest.mark.parametrize("name", POOLS)
def test_padding_changes_nothing(name):
    """Whatever the masked frames hold, and wherever they stand."""
    x, mask = clips(1, (5, 3, 2))
    variables = random_variables(name)
    expected, slope = run(name, variables, x, mask)
    loud = np.where(mask[..., None], x, 50.0).astype(np.float32)
    order = np.array([4, 0, 3, 1, 2])  # frames of a clip have no order for these pools
    for frames, valid in ((loud, mask), (loud[:, order], mask[:, order])):
        np.testing.assert_allclose(apply(name, variables, frames, valid), expected, atol=1e-5)
    assert not slope[~mask].any()
    assert (np.abs(slope).max(-1) > 0)[mask].all()
    mask[0, 4] = False
    assert np.abs(apply(name, variables, x, mask) - expected)[0].max() > 0.01


@pytest.mark.parametrize("name", POOLS)
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
