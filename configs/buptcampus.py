"""BUPTCampus, full size: ResNet-50, 50 epochs of 300 steps, scored by one of three protocols in print.

  python -m hitpro_jax.main --config=configs/buptcampus.py:full --config.data.root=/path/to/BUPTCampus \
      --config.init.weights=/path/to/resnet50.safetensors

full (the default): 6 frames of 288x144, rows of the query's person and camera left out. full_no_camera: 10 frames of
256x128, nothing left out. auxnet: the same on the official sampler's rows. A model is scored at the size that it was
trained at, so the protocol is chosen before training. More: docs/data.md, "BUPTCampus".
Time: not yet measured; meant for one GPU.
Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base

SETTINGS = {"full": (6, (288, 144)), "full_no_camera": (10, (256, 128)), "auxnet": (10, (256, 128))}


def get_config(protocol: str = "full") -> ConfigDict:
    config = base.get_config()
    data = config.data
    data.name = "buptcampus"
    data.protocol = protocol  # an unknown one is refused, in one sentence, when the data is opened
    config.eval.frames, data.image_size = SETTINGS.get(protocol, SETTINGS["full"])
    data.min_frames = 1
    data.num_workers = 8
    config.encoder.dtype = "bfloat16"
    # Choice: both modalities of a tracklet are pixel-aligned, so they could be matched without looking at the person
    config.across.ban_same_camera = True
    return config
