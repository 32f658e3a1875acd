"""BatchNorm whose statistics are over an explicit number of clips, whatever the number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike


class BatchNorm(nn.BatchNorm):
    """Flax's BatchNorm over the last axis; in training its batch may fall into `groups` consecutive equal parts.

    Every part is normalised with its own statistics, in float32 whatever the dtype. The running statistics move towards
    the mean of the parts' means and variances. Evaluation knows no parts, and one part is Flax's own arithmetic.

    Choice: parts of the global batch, not "per device" as in torch's DataParallel. So a run gives the same numbers on
    every number of devices.
    """

    groups: int = 1

    @nn.compact
    def __call__(  # ty: ignore[incompatible-method-override]  # Flax's `mask` is not supported: nothing here needs it
        self, x: jax.Array, use_running_average: bool | None = None
    ) -> jax.Array:
        """Normalises [N, .., C].

        Args:
          x: [N, .., C]; with groups, N is a multiple of them.
          use_running_average: evaluation, where the module's field of this name is None; static.

        Returns:
          [N, .., C].
        """
        evaluates = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        if self.groups == 1 or evaluates or self.is_initializing():
            # x may be sharded over devices: under jit a mean over an axis is over all of it, so no axis_name is needed
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


def backbone_norm(train: bool, dtype: DTypeLike, groups: int) -> partial[BatchNorm]:
    """The BatchNorm of every backbone, with torch's momentum and epsilon, on which pretrained statistics rest."""
    return partial(BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, groups=groups)


def groups_of(clips: int, norm_group: int, interleaved: bool) -> int:
    """Number of parts that a batch falls into for BatchNorm.

    A part is `norm_group` consecutive clips of the global batch. Of an interleaved batch it is norm_group / 2 pairs, so
    that a stem's statistics are over the norm_group / 2 clips of its modality.

    Args:
      clips: clips of the global batch.
      norm_group: clips a part; 0 for the whole batch.
      interleaved: whether RGB and IR clips stand in turn.

    Returns:
      The number, from 1.

    Raises:
      ValueError: the batch does not fall into whole parts.

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
