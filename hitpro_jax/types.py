"""The state that training carries from step to step and from checkpoint to checkpoint."""

from typing import Any

import jax
from flax import struct


class TrainState(struct.PyTreeNode):
    """All that a run needs to go on bit for bit; the order of data is a pure function of seed, step and memory.

    Shapes: everything a pytree of arrays; `memory` belongs to the method (for HiTPro its prototypes and positives).
    """

    step: jax.Array  # int32 [], optimiser steps done
    params: Any
    batch_stats: Any
    opt_state: Any
    memory: Any

    @property
    def variables(self) -> dict:
        """What the encoder's `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}
