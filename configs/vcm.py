"""HITSZ-VCM, full size: ResNet-50, 288 x 144, 50 epochs of 300 steps.

  python -m hitpro_jax.main --config=configs/vcm.py --config.data.root=/path/to/HITSZ-VCM \
      --config.init.weights=/path/to/resnet50.safetensors

Give pretrained weights (README, "Pretrained weights"): without --config.init.weights the encoder starts from random
ones, which no published result of the field does. ViT-B/16, with its own weights and the field's rates for it:
  --config.encoder.backbone=vit_b16 --config.optim.name=adamw --config.optim.learning_rate=1e-4 \
      --config.optim.backbone_rate=0.1 --config.optim.schedule=cosine

On a CPU a full step needs --config.encoder.remat=True: 13.3 GiB for ResNet-50 and 10.7 GiB for ViT-B/16 by the
compiler's account, 52 and 71 GiB without (experiments/benchmarks/full_step.py).

Hardware: one GPU of the H200's class with 12 or more cores to feed it. Expected time, calculated and not measured:
35 minutes, 20 with a packed cache (data.packed). A step is 11.8 TFLOP (64 clips of 6 frames, 10.3 GFLOP a frame
forward, three times that in all), a refresh 2.4 PFLOP: at 40 % of 790 TFLOP/s in bfloat16 19 s an epoch. An epoch reads
349,000 frames: 38 s from JPEGs on 12 cores, 18 s packed, at the rates of experiments/benchmarks/feeding.py.
Result: not yet run, needs the licensed data.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.encoder.dtype = "bfloat16"
    config.data.num_workers = 8
    return config
