"""The contract of a learning method: a memory, and pure functions that make it, read it and move it.

`registry.METHODS` lists the methods; docs/extend/method.md builds one from nothing.
P prototypes (one a tracklet, padding included), D features, S parts of a tracklet, B clips, T frames.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax
import numpy as np
from jax.sharding import Mesh

from hitpro_jax.options import Options
from hitpro_jax.types import Clips, Encoded, Mined, TrackletInfo

Memory = Any  # a pytree of arrays that the method alone knows


class Setting(NamedTuple):
    """What a method is built for, besides its options."""

    num_views: int  # V, views that occur in the training set
    mesh: Mesh | None  # devices over which rows of the memory may be cut; None: all on one
    identities: np.ndarray | None  # int32 [P] from 0 on, -1 for padding; None unless the method needs them


class Method(Protocol):
    """A method of learning from tracklets; a new one subclasses this and overrides what differs.

    All functions but `create` are pure. Those without `refresh_on_host` are compiled, so they must not branch on values
    of arrays. Person ids reach a method by `Setting.identities` alone, and only if `needs_identities` is True.
    """

    section: ClassVar[str] = ""  # of the config, with the method's own options; "" for none
    section_type: ClassVar[type | None] = None  # dataclass of that section (see `hitpro_jax.options`)
    needs_identities: ClassVar[bool] = False  # trains with person ids: the supervised reference
    trains: ClassVar[bool] = True  # False: the encoder is evaluated as it is, and takes no step
    refresh_on_host: ClassVar[bool] = False  # `refresh` runs as plain Python, such as clustering with a library
    image_method: ClassVar[bool] = False  # its tracklet feature is the mean of its frame features

    @classmethod
    def faults(cls, options: Options) -> list[str]:
        """Faults between fields of different sections of the config, as sentences; found before data are read."""
        return []

    @classmethod
    @abstractmethod
    def create(cls, options: Options, setting: Setting) -> Self:
        """The method with its options.

        Raises:
          ValueError: the setting does not suit the method; one sentence with a remedy.
        """
        ...

    def notes(self, info: TrackletInfo, frames: np.ndarray | None = None) -> list[str]:
        """Lines for the start of the log, such as which parts of the loss have no terms on these tracklets.

        Args:
          info: of the tracklets, [N].
          frames: int [N], how many frames each has; None if it is not known.
        """
        return []

    def warnings(self, mined: Mined, info: TrackletInfo) -> list[str]:
        """Lines for the log after a refresh where the loss, or a part of it, learns nothing; each with a remedy.

        Args:
          mined: what the refresh found, NumPy arrays [P].
          info: of the tracklets, [N]: rows of `mined` before the padding.
        """
        return []

    @abstractmethod
    def init(self, size: int, dim: int) -> Memory:
        """The memory before the first refresh, for `size` rows of `dim` features.

        Checkpoints hold the rows of the tracklets alone, and those behind them are taken from here when a run goes on
        with another number of devices. So an array of `size` rows has one a tracklet, or at most as many, and the rest
        mean nothing.
        """
        ...

    def own_parameters(self, dim: int, seed: int) -> Mapping[str, np.ndarray]:
        """Arrays that are trained besides the encoder; empty for none."""
        return {}

    @abstractmethod
    def refresh(
        self, memory: Memory, parts: jax.Array, part_mask: jax.Array, info: TrackletInfo, progress: jax.Array
    ) -> Memory:
        """The memory made anew from the features of all tracklets.

        Args:
          memory: of the refresh before, moved by the steps since; of `init` the first time.
          parts: [P, S, D] float32 features of sub-tracklets.
          part_mask: [P, S] bool, False where a tracklet has no such part.
          info: of the tracklets.
          progress: [] float32, share of the training that is done.
        """
        ...

    @abstractmethod
    def loss(
        self,
        memory: Memory,
        own: Mapping[str, jax.Array],
        encoded: Encoded,
        clips: Clips,
        info: TrackletInfo,
        progress: jax.Array,
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """The loss of a batch, and its terms by name for the log.

        Args:
          memory: constants; no gradient flows into them.
          own: the parameters of `own_parameters`, trained with the encoder.
          encoded: features of the clips.
          clips: the batch; `tracklet` is -1 for a clip that takes part in no term.
          info: of the tracklets.
          progress: as in `refresh`.
        """
        ...

    @abstractmethod
    def update(self, memory: Memory, features: jax.Array, tracklet: jax.Array) -> Memory:
        """The memory after an optimiser step: features [B, D] of clips of the tracklets [B], -1 for none."""
        ...

    @abstractmethod
    def shardings(self) -> Memory:
        """A memory of `PartitionSpec`s: how each of its arrays is cut over the devices."""
        ...

    @abstractmethod
    def mined(self, memory: Memory) -> Mined:
        """What the memory knows of the tracklets, in the form that batches and diagnostics read."""
        ...
