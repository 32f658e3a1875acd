"""HITSZ-VCM, full size: ResNet-50, 288 x 144, 50 epochs of 300 steps.

  python -m hitpro_jax.main --config=configs/vcm.py --config.data.root=/path/to/HITSZ-VCM \
      --config.init.weights=/path/to/resnet50.safetensors

Give pretrained weights (README, "Pretrained weights"): without --config.init.weights the encoder starts from random ones,
which no published result of the field does. ViT-B/16: --config.encoder.backbone=vit_b16 with its own weights.

Result: not yet run, because the data set is licensed and was not at hand.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.encoder.dtype = "bfloat16"
    config.data.num_workers = 8
    return config
