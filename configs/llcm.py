"""LLCM, single pictures: ResNet-50, 288 x 144, each picture encoded once; both directions over ten trials.

  python -m hitpro_jax.main --config=configs/llcm.py --config.data.root=/path/to/LLCM \
      --config.init.weights=/path/to/resnet50.safetensors

As configs/sysu_mm01.py. Galleries and trials: docs/data.md, "Sets for comparison".
Time: not yet measured; meant for one GPU.
Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "llcm"
    config.data.num_workers = 8
    base.use_single_pictures(config)
    return config
