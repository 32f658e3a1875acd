"""The list of methods."""

from hitpro_jax.methods.base import Method, Setting
from hitpro_jax.methods.baselines.adca import ADCA
from hitpro_jax.methods.baselines.cap import CAP
from hitpro_jax.methods.baselines.clusters import ClusterContrast
from hitpro_jax.methods.baselines.pgm import PGM
from hitpro_jax.methods.baselines.sdcl import SDCL
from hitpro_jax.methods.baselines.supervised import Supervised
from hitpro_jax.methods.frozen import Frozen
from hitpro_jax.methods.hitpro import HiTPro
from hitpro_jax.options import Options

METHODS: dict[str, type[Method]] = {
    "hitpro": HiTPro,
    "frozen": Frozen,
    "cluster_contrast": ClusterContrast,
    "adca": ADCA,
    "pgm": PGM,
    "cap": CAP,
    "sdcl": SDCL,
    "supervised": Supervised,
}
"""By their names in `config.method.name`."""


def make_method(options: Options, setting: Setting) -> Method:
    """The method that `options.method.name` names.

    Args:
      options: of the run.
      setting: what it is built for. Person ids are refused by every method that does not need them.

    Raises:
      ValueError: ids are missing, or given to a method that must not see them; or the setting does not suit the method.
    """
    name = options.method.name
    kind = METHODS[name]
    if (setting.identities is not None) != kind.needs_identities:
        raise ValueError(f"method {name} {'needs' if kind.needs_identities else 'must not see'} person ids")
    return kind.create(options, setting)
