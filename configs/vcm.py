"""HITSZ-VCM, full size: ResNet-50, 288 x 144, 50 epochs of 300 steps.

  python -m hitpro_jax.main --config=configs/vcm.py --config.data.root=/path/to/HITSZ-VCM \
      --config.init.weights=/path/to/resnet50.safetensors

Give pretrained weights (docs/weights.md): without them the encoder starts from random ones, which no published result
of the field does. The fields for ViT-B/16 and for a CPU: docs/data.md, "HITSZ-VCM".
Hardware: one GPU of the H200's class with 12 or more cores to feed it.
Time: 35 minutes, 20 with a packed cache (data.packed); calculated, not measured.
Result: not yet run, needs the licensed data.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.encoder.dtype = "bfloat16"
    config.data.num_workers = 8
    return config
