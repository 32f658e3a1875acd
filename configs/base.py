"""Every field there is, at its default; the other configs change some of them. Their meaning: hitpro_jax/options.py.

Sections of single data sets stand below `data`, those of baselines beside HiTPro's own.
"""

from ml_collections import ConfigDict

from hitpro_jax.data import sets
from hitpro_jax.methods.baselines.options import SECTIONS
from hitpro_jax.options import Options, plain


def get_config() -> ConfigDict:
    config = ConfigDict(plain(Options()))
    for spec in sets.SPECS.values():
        if spec.options:
            config.data[spec.name] = ConfigDict(plain(spec.options()))
    for name, section in SECTIONS.items():
        config[name] = ConfigDict(plain(section()))
    return config


def use_small_encoder(config: ConfigDict) -> None:
    """The encoder of 0.9 M parameters that comes with its weights, at its image size: what a CPU can train."""
    config.data.image_size = (64, 32)
    config.encoder.backbone = "resnet_small"
    config.encoder.as_product = True
    config.init.weights = "hitpro_jax/models/weights/resnet_small.safetensors"
