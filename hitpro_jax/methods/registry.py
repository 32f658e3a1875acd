"""Methods by name, from the config's sections; below this line there are only plain keywords."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from hitpro_jax.methods.baselines.adca import ADCA
from hitpro_jax.methods.baselines.cap import CAP
from hitpro_jax.methods.baselines.clusters import ClusterContrast
from hitpro_jax.methods.baselines.pgm import PGM
from hitpro_jax.methods.baselines.sdcl import SDCL
from hitpro_jax.methods.baselines.supervised import Supervised
from hitpro_jax.methods.hitpro import HiTPro

CLUSTERED = {"cluster_contrast": ClusterContrast, "adca": ADCA, "pgm": PGM, "cap": CAP, "sdcl": SDCL}
NAMES = ("hitpro", "frozen", *CLUSTERED, "supervised")


class Frozen:
    """The pretrained encoder as it is: no step is taken, so there is nothing to remember."""

    def empty(self, size: int, dim: int) -> tuple:
        return ()

    def layout(self) -> tuple:
        return ()


def make_method(config: ConfigDict, num_views: int, mesh: Mesh | None, labels: np.ndarray | None = None) -> Any:
    """The method that `config.method.name` names, with its switches.

    Args:
      config: of the run.
      num_views: V.
      mesh: over which HiTPro's memory is cut; None: all on one device.
      labels: int [P] identities from 0 on, -1 for padding: for `supervised`, and refused by every other method.

    Raises:
      ValueError: an unknown name, a field out of range, labels where they do not belong, or several processes for a
        method that clusters on the host.
    """
    name = config.method.name
    if name not in NAMES:
        raise ValueError(f"unknown method {name!r}: choose one of {', '.join(NAMES)}")
    if (labels is not None) != (name == "supervised"):
        raise ValueError(f"method {name} " + ("needs" if labels is None else "must not see") + " person ids")
    if name == "hitpro":
        return HiTPro(
            config.prototypes.to_dict(),
            config.within.to_dict(),
            config.across.to_dict(),
            config.loss.to_dict(),
            num_views,
            mesh,
            config.alignment.to_dict(),
        )
    if name == "frozen":
        return Frozen()
    if jax.process_count() > 1:
        raise ValueError(
            f"method {name} makes its labels on one host: run it as a single process, on any number of "
            "devices, or choose method.name=hitpro"
        )
    own = config[name].to_dict() if name in config else {}
    clusters = {field: own.pop(field, value) for field, value in config.clusters.items()}
    if not 1 <= clusters["k2"] <= clusters["k1"] or clusters["k1"] < 2:
        raise ValueError(f"clusters.k1 is {clusters['k1']} and k2 is {clusters['k2']}: give 1 <= k2 <= k1 and k1 >= 2")
    if name == "supervised":
        return Supervised(clusters, own, num_views, labels)
    return CLUSTERED[name](clusters, own, num_views)


def adapt(config: ConfigDict) -> str | None:
    """Gives an image method its one adaptation to video: tracklet feature := mean of frame features.

    Returns what to tell the user, if anything was changed.
    """
    if config.method.name not in CLUSTERED or config.encoder.aggregator == "mean":
        return None
    before, config.encoder.aggregator = config.encoder.aggregator, "mean"
    return (
        f"note: {config.method.name} is an image method, whose tracklet feature is the mean of frame features: "
        f"encoder.aggregator is mean, not {before}"
    )
