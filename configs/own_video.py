"""Your own video: one file and one MOT box file per camera; no identities are needed.

  python -m hitpro_jax.main --config=configs/own_video.py

As it is, it runs on the short real clip in examples/own_video (six people, one visible camera): it trains on the
tracklets, then finds the second half of each person's track from the first half. With one view only level 1 of the loss
has terms. Time: about two minutes on 2 cores.
Result: rank 1 for every track, before training as after it; the clip shows that the path works on real pixels, no more.
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
