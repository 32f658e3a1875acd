"""The pretrained encoder as it is: no step is taken, so there is nothing to remember."""

from collections.abc import Mapping
from typing import ClassVar, Self

import jax

from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.options import Options
from hitpro_jax.types import Clips, Encoded, Mined, TrackletInfo


class Frozen(Method):
    """Evaluation of the weights that training would start from."""

    trains: ClassVar[bool] = False

    @classmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        """There is nothing to choose."""
        return cls()

    def init(self, size: int, dim: int) -> tuple:
        """An empty memory."""
        return ()

    def shardings(self) -> tuple:
        """An empty memory."""
        return ()

    def refresh(self, memory: tuple, parts: jax.Array, part_mask: jax.Array, info: TrackletInfo, progress: jax.Array):
        """Never called, as `trains` is False."""
        raise NotImplementedError

    def loss(
        self,
        memory: tuple,
        own: Mapping[str, jax.Array],
        encoded: Encoded,
        clips: Clips,
        info: TrackletInfo,
        progress: jax.Array,
    ):
        """Never called, as `trains` is False."""
        raise NotImplementedError

    def update(self, memory: tuple, features: jax.Array, tracklet: jax.Array):
        """Never called, as `trains` is False."""
        raise NotImplementedError

    def mined(self, memory: tuple) -> Mined:
        """Never called, as `trains` is False."""
        raise NotImplementedError
