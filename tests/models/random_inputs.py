"""Random variables of any module, and random pictures."""

import math

import jax
import numpy as np
from flax import linen as nn


def variables_of(module: nn.Module, *arguments, seed: int = 0) -> dict:
    """Random leaves in Flax's shapes: no compilation, and scales, biases and statistics that say something."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *arguments))
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if path[-1].key == "kernel":
            return (rng.normal(size=leaf.shape) / math.sqrt(math.prod(leaf.shape[:-1]))).astype(np.float32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def pictures(clips: int, length: int = 1, size: tuple[int, int] = (9, 7), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(clips * length, *size, 3)).astype(np.float32)


def backbone_of(variables: dict) -> dict:
    """The part of an encoder's variables that belongs to its backbone."""
    return {kind: tree["backbone"] for kind, tree in variables.items() if "backbone" in tree}
