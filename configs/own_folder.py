"""Your own tracklets: one folder of images per tracklet and a CSV that lists them; no identities are needed.

  python -m hitpro_jax.main --config=configs/own_folder.py --config.data.root=/path/to/it

/path/to/it/tracklets.csv has the columns tracklet,modality,camera and a row such as yard/0001,rgb,yard for each folder.
With two more columns, pid and split (train, query or gallery), query and gallery are scored; training reads no pid. All
rules: docs/data.md, "A folder of tracklets".

As it is, it trains the small encoder, fit for a first look on a CPU. On a GPU leave out the line of use_small_encoder:
what remains is base.py, a ResNet-50 at 288 x 144 pixels.

Time: not yet measured; 500 steps of the encoder of configs/synthetic.py.
Result: not yet run on a real folder of tracklets.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    data = config.data
    data.name = "folder"
    data.root = "data/own_folder"
    data.min_frames = 4  # shorter tracklets are left out
    data.cache = True  # decoded frames stay in memory; for large sets False, and data.packed with --mode=pack instead

    base.use_small_encoder(config)
    config.batch.tracklets_per_modality = 8
    config.batch.clip_length = 3
    config.prototypes.clip_length = 3

    config.optim.warmup_steps = 20
    config.optim.schedule = "cosine"
    config.train.epochs = 10
    config.train.steps_per_epoch = 50
    return config
