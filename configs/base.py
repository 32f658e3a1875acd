"""Every field there is, at its default; the other configs change some of them.

  python -m hitpro_jax.main --config=configs/base.py --config.data.root=/path/to/HITSZ-VCM

Their meaning: hitpro_jax/options.py. The fields of one data set are in a section below `data`, explained in its file in
hitpro_jax/data/sets/; those of the baselines are in hitpro_jax/methods/baselines/options.py.
It is there to be changed: for HITSZ-VCM use configs/vcm.py, which has this and bfloat16.
Time: not yet measured.
Result: not yet run.
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


def use_single_pictures(config: ConfigDict) -> None:
    """Lengths for sets of single pictures, of which each is encoded once."""
    config.data.min_frames = 1
    config.encoder.dtype = "bfloat16"
    config.encoder.aggregator = "mean"  # of one frame: the frame itself
    config.prototypes.parts = config.prototypes.clip_length = 1
    config.batch.clip_length = config.eval.frames = 1
    # a second clip of a picture would show nothing new; 128 pictures are fewer than the 384 frames of configs/vcm.py
    config.batch.tracklets_per_modality, config.batch.clips_per_tracklet = 64, 1
    config.prototypes.batch_size = config.eval.batch_size = 128
    config.loss.same_view = 40  # a person has 10 to 30 pictures in a camera
