"""RegDB, single pictures: ResNet-50, 288 x 144, each picture encoded once; one of ten trials.

  for t in 1 2 3 4 5 6 7 8 9 10; do
    python -m hitpro_jax.main --config=configs/regdb.py --config.data.root=/path/to/RegDB --config.data.regdb.trial=$t \
        --config.init.weights=/path/to/resnet50.safetensors --workdir=runs/regdb-$t
  done

The published figure is the mean of these ten trainings. trial=0 scores all ten test sets, with an encoder that was not
trained on RegDB (--config.method.name=frozen). Time: not yet measured; meant for one GPU.
Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.name = "regdb"
    config.data.num_workers = 8
    base.use_single_pictures(config)
    return config
