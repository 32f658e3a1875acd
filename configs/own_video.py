"""Your own video: one file and one MOT box file per camera; no identities are needed.

  python -m hitpro_jax.main --config=configs/own_video.py

As it stands it runs on the short real clip in examples/own_video (six people, one visible camera): trains on the
tracklets, then finds the second half of each person's track from the first half. One view only, so level 1 alone has
terms. It takes about two minutes on 2 cores.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    data = config.data
    data.name = "mot"
    data.min_frames = 4
    data.cache = True
    data.cameras.first = ConfigDict(
        {
            "video": "examples/own_video/video.mp4",
            "boxes": "examples/own_video/boxes.txt",
            "modality": 0,  # 0 visible, 1 infrared
            "camid": 1,
        }
    )

    base.use_small_encoder(config)
    config.batch.tracklets_per_modality = 8
    config.batch.clip_length = 3
    config.prototypes.clip_length = 3

    config.optim.warmup_steps = 20
    config.optim.schedule = "cosine"
    config.train.epochs = 5
    config.train.steps_per_epoch = 20
    config.train.eval_every = 1
    return config
