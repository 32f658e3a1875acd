"""The demo and test bed: HiTPro on the synthetic camera network, on a CPU, from the small pretrained encoder.

  python -m hitpro_jax.main --config=configs/synthetic.py
  python -m hitpro_jax.main --config=configs/synthetic.py --config.data.seed=1
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    data = config.data
    data.name = "synthetic"
    data.preset = "small"  # tiny | small | large
    data.seed = 0  # of the people
    data.camera_seed = 0  # of the cameras
    data.jobs = 2  # processes that draw the pictures
    data.image_size = (64, 32)
    data.cache = True

    config.encoder.backbone = "resnet_small"
    config.encoder.as_product = True
    config.init.weights = "hitpro_jax/models/weights/resnet_small.safetensors"

    config.batch.tracklets_per_modality = 8
    config.batch.clip_length = 3
    config.prototypes.clip_length = 3
    config.within.neighbours = config.across.neighbours = 32

    config.optim.warmup_steps = 50
    config.optim.schedule = "cosine"
    config.train.epochs = 10
    config.train.steps_per_epoch = 60
    config.train.eval_every = 2
    return config
