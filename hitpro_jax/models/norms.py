"""BatchNorm whose statistics are over an explicit number of clips, whatever the number of devices."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class BatchNorm(nn.BatchNorm):
    """Flax's BatchNorm over the last axis; in training its batch may fall into `groups` consecutive equal parts.

    [N, .., C] to the same shape. Every part is normalised with its own statistics, and the running statistics move
    towards the mean of the parts' means and variances; for evaluation nothing changes. One part: Flax's own
    arithmetic. Statistics are float32 whatever the dtype.
    Choice: parts of the global batch rather than "per device" as in torch's DataParallel, so that a run gives the
    same numbers on every number of devices. Under jit the batch's leading axis may be sharded: the mean over an axis
    is the mean over all of it (the compiler adds the communication), so the whole batch needs no `axis_name`.
    """

    groups: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, use_running_average: bool | None = None) -> jax.Array:
        evaluates = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if self.groups == 1 or evaluates or self.is_initializing():
            return super().__call__(x, use_running_average)
        parts = x.astype(jnp.float32).reshape(self.groups, -1, x.shape[-1])
        mean, var = parts.mean(1), parts.var(1)  # [groups, C]
        for name, value in (("mean", mean), ("var", var)):
            running = self.variable("batch_stats", name, jnp.zeros, x.shape[-1:])
            running.value = self.momentum * running.value + (1 - self.momentum) * value.mean(0)
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        y = (parts - mean[:, None]) * (jax.lax.rsqrt(var + self.epsilon) * scale)[:, None]
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return y.reshape(x.shape).astype(self.dtype or x.dtype)


def backbone_norm(train: bool, dtype: Any, groups: int) -> partial:
    """The BatchNorm of every backbone, with torch's momentum and epsilon, on which pretrained statistics rest."""
    return partial(BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, groups=groups)


def groups_of(clips: int, norm_group: int, interleaved: bool) -> int:
    """Number of parts that a batch of `clips` clips falls into for BatchNorm.

    norm_group: clips a group, 0 for the whole batch. A group is `norm_group` consecutive clips of the global batch; of
    an interleaved batch it is norm_group / 2 pairs, so that a stem's statistics are over the norm_group / 2 clips of
    its modality.

    Raises:
      ValueError: the batch does not fall into whole groups.

    >>> groups_of(8, 4, True), groups_of(8, 0, True)
    (2, 1)
    """
    if not norm_group:
        return 1
    if norm_group < 0 or clips % norm_group:
        raise ValueError(
            f"encoder.norm_group={norm_group} does not divide the batch of {clips} clips: choose one of "
            f"its divisors, or 0 for the whole batch."
        )
    if interleaved and norm_group % 2:
        raise ValueError(
            f"encoder.norm_group={norm_group} is odd, but a batch of both modalities is made of pairs of "
            "clips: choose an even one."
        )
    return clips // norm_group
