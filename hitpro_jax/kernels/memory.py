"""The prototype memory between refreshes: a momentum update after every step."""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.segments import segment_mean


def momentum_update(
    prototypes: jax.Array, features: jax.Array, index: jax.Array, *, momentum: float | jax.Array
) -> jax.Array:
    """Pulls the prototype of each tracklet in the batch towards the mean of its clips.

    p_i <- unit(mu p_i + (1 - mu) mean_{clips z of i} z).

    Args:
      prototypes: [P, D] unit rows.
      features: [B, D] unit clip features.
      index: [B] row of each clip's tracklet; others are ignored.
      momentum: mu in [0, 1].

    Returns:
      [P, D]; rows without a clip are unchanged bit for bit. No gradient flows.

    Cost: O(B^2 + B D) memory.

    >>> print(momentum_update(jnp.eye(2), jnp.array([[0., 1.]]), jnp.array([0]), momentum=0.5)[0].round(2))
    [0.71 0.71]
    """
    chex.assert_rank([prototypes, features, index], [2, 2, 1])
    chex.assert_equal_shape_prefix([features, index], 1)
    chex.assert_equal_shape_suffix([prototypes, features], 1)
    prototypes, features = jax.lax.stop_gradient((prototypes, features))
    clips, rows = index.shape[0], prototypes.shape[0]

    order = jnp.arange(clips)
    # clips of one tracklet are averaged first: a scatter with repeated indices has no defined order
    first = jnp.min(jnp.where(index[:, None] == index[None, :], order[None, :], clips), axis=1, initial=clips)
    mean, _ = segment_mean(features, first, num_segments=clips)  # the first clip of a tracklet holds its mean
    writes = (first == order) & (index >= 0) & (index < rows)
    old = prototypes.at[jnp.where(writes, index, rows)].get(mode="fill", fill_value=0)
    new = unit(momentum * old + (1.0 - momentum) * mean)
    return prototypes.at[jnp.where(writes, index, rows)].set(new, mode="drop")
