"""HCL, clip by clip, in float64, and gradients by finite differences of the same loops."""

from math import exp, log

import jax
import jax.numpy as jnp
import numpy as np


def cross_entropy(similarity, targets, others, temperature):
    """Of one clip: targets {j: weight}, others an iterable of the remaining prototypes in the denominator."""
    total = sum(exp(similarity[j] / temperature) for j in set(targets) | set(others))
    return -sum(t * log(exp(similarity[j] / temperature) / total) for j, t in targets.items())


def intra_camera(similarity, target, view, valid, ignore, temperature, mode):
    loss = np.zeros(len(target))
    for b, y in enumerate(target):
        if y < 0:
            continue
        own = [j for j in range(len(view)) if j != y and valid[j] and view[j] == view[y]]
        ambiguous = [j for j in own if j in set(ignore[b])]
        targets = {y: 1.0}
        if mode == "mask":
            own = [j for j in own if j not in ambiguous]
        elif mode == "positive":
            targets = {j: 1.0 / (1 + len(ambiguous)) for j in [y] + ambiguous}
        loss[b] = cross_entropy(similarity[b], targets, own, temperature)
    return loss, np.array([y >= 0 for y in target], bool)


def soft_target(
    similarity, target, positive_index, positive_weight, candidate, ignore, temperature, alpha, hard_negatives
):
    loss, has = np.zeros(len(target)), np.zeros(len(target), bool)
    for b, y in enumerate(target):
        mined = {j: float(w) for j, w in zip(positive_index[b], positive_weight[b]) if j >= 0 and w > 0}
        if y < 0 or not mined:
            continue
        has[b] = True
        targets = {j: (1 - alpha) * w for j, w in mined.items()}
        if alpha > 0:
            targets[y] = alpha
        barred = set(mined) | set(ignore[b]) | {y}
        rivals = [j for j in range(similarity.shape[1]) if candidate[b, j] and j not in barred]
        rivals = sorted(rivals, key=lambda j: -similarity[b, j])[:hard_negatives]
        loss[b] = cross_entropy(similarity[b], targets, rivals, temperature)
    return loss, has


def mean_over(loss, has):
    return sum(loss[has]) / max(int(sum(has)), 1)


def gradient(function, x, step=1e-6):
    """Central differences of a scalar function of a float64 array."""
    slope = np.zeros_like(x)
    for position in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[position] += step
        down[position] -= step
        slope[position] = (function(up) - function(down)) / (2 * step)
    return slope


def assert_highest_precision(function):
    """Of all products of function(features, bank), forward and backward."""
    bank = jnp.eye(3)
    gradient = jax.grad(lambda z: sum(jnp.sum(x) for x in jax.tree.leaves(function(z, bank)) if x.dtype == jnp.float32))
    text = str(jax.make_jaxpr(gradient)(bank))
    assert 1 < text.count("dot_general[") == text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)")
