"""What a file in `data/sets/` declares of its data set: `SPEC = DatasetSpec(...)`.

A new data set is one such file and one line in `data/sets/__init__.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset
from hitpro_jax.options import DataOptions


def _nothing_changed(data: DataOptions, own: Any) -> tuple[str, ...]:
    return ()


def _as_it_is(protocol: Protocol, dataset: Dataset, own: Any) -> Protocol:
    return protocol


@dataclass(frozen=True)
class DatasetSpec:
    """A data set, as the rest of the package knows it.

    `own` are the options of the set's own section `data.<name>`: an instance of `options`, or None.

    Attributes:
      name: the value of `data.name` that chooses it; also the name of its own section of the config.
      title: the data set's name for people; stands in messages.
      options: frozen dataclass of the own section, of the form of `hitpro_jax/options.py`; None: it has no section.
      load: (data, own) -> `Dataset`; draws or crops what is not on the disk yet. `data.root` is never empty there.
      protocols: how it may be scored. One alone is also chosen by an empty `data.protocol`; of several one must be
        named.
      protocol_of: (protocol, dataset, own) -> the protocol with all that depends on options and rows, such as a trial's
        number in its name. Default: as it is.
      rows_changed: (data, own) -> what makes the rows that are scored other than the published ones, a short text each.
        Missing frames are counted elsewhere. Default: nothing.
      training_trial: name of the own option that is the number of the trial, where each trial has a training set of its
        own and an encoder trained there has seen test people of the others. Its value 0 takes the test sets of all, and
        then nothing may be trained. "": there is one training set.
      default_root: (data, own) -> the folder where `data.root` is ""; None: `data.root` must be set.
      drops_unmatched: a direction in which no query has a match is left out, with a note, instead of failing when it is
        scored. For lists that people make themselves, not for published ones.
      titles: key of a direction -> its name for people, for keys that are not in `protocols.TITLES`.
    """

    name: str
    title: str
    load: Callable[[DataOptions, Any], Dataset]
    protocols: tuple[Protocol, ...]
    options: type | None = None
    protocol_of: Callable[[Protocol, Dataset, Any], Protocol] = _as_it_is
    rows_changed: Callable[[DataOptions, Any], tuple[str, ...]] = _nothing_changed
    training_trial: str = ""
    default_root: Callable[[DataOptions, Any], str] | None = None
    drops_unmatched: bool = False
    titles: Mapping[str, str] = field(default_factory=dict)

    def choose_protocol(self, name: str) -> Protocol:
        """The protocol of this name; "" is that of a data set that has but one.

        Raises:
          ValueError: there is none of this name.
        """
        known = {protocol.name: protocol for protocol in self.protocols}
        if not name and len(known) == 1:
            return self.protocols[0]
        if name not in known:
            raise ValueError(f"unknown data.protocol {name!r} of {self.name}; choose one of {', '.join(known)}")
        return known[name]
