"""BUPTCampus, full size: ResNet-50, 50 epochs of 300 steps, scored by one of three protocols in print.

  python -m hitpro_jax.main --config=configs/buptcampus.py --config.data.root=/path/to/BUPTCampus \
      --config.init.weights=/path/to/resnet50.safetensors

  configs/buptcampus.py:full            6 frames of 288x144, rows of the query's person and camera left out (M3-ReID's);
                                        the default
  configs/buptcampus.py:full_no_camera  10 frames of 256x128, nothing left out
  configs/buptcampus.py:auxnet          the same on the official sampler's rows: 512 of 540 RGB queries, 522 of 536
                                        infrared ones with a match; published tables mix these counts with 540 and 536

A model is scored at the size that it was trained at, so the protocol is chosen before training; the same rows by other
frames or at another size (--config.data.protocol, --config.eval.frames) are scored as well, and said to be.

Hardware: one GPU; time and memory not yet measured.
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
