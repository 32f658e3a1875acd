"""SYSU-MM01, single pictures: ResNet-50, 288 x 144, each picture encoded once; both searches over ten trials.

  python -m hitpro_jax.main --config=configs/sysu_mm01.py --config.data.root=/path/to/SYSU-MM01 \
      --config.init.weights=/path/to/resnet50.safetensors

A picture is a tracklet of one frame: nothing of time, and no halves by which look-alikes could be known. Galleries and
trials: docs/data.md, "Sets for comparison". Weights: docs/weights.md.
Time: not yet measured; meant for one GPU.
Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "sysu_mm01"
    config.data.num_workers = 8
    base.use_single_pictures(config)
    return config
