"""MARS, tracklets of six visible cameras: ResNet-50, 256 x 128; no second modality, so no level 3.

  python -m hitpro_jax.main --config=configs/mars.py --config.data.root=/path/to/MARS \
      --config.init.weights=/path/to/resnet50.safetensors

The gallery holds the queries, as in the set's own code; --config.data.mars.gallery=without_queries leaves them out, as
most PyTorch loaders do. More: docs/data.md, "Sets for comparison".
Time: not yet measured; meant for one GPU.
Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "mars"
    config.data.image_size = (256, 128)
    config.data.min_frames = 1
    config.data.num_workers = 8
    config.encoder.dtype = "bfloat16"
    config.across.enabled = False
    config.loss.across = 0.0
    return config
