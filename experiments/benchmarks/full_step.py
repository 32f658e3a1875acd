"""Memory of one whole training step at the shapes of configs/vcm.py, on whatever device JAX finds.

  python -m experiments.benchmarks.full_step --backbone=resnet50 --remat
  python -m experiments.benchmarks.full_step --backbone=vit_b16 --remat --execute

Compiles the step that training compiles (encoder, three levels of the loss, optimiser, memory; batch and image size
from the config, a bank of 11,264 tracklets, as large as HITSZ-VCM's training set) and prints the compiler's own account
of its memory; --execute also runs it once on random frames and prints time and the process's peak.

The compiler's account on 2 CPU cores, 24 GiB (jax 0.10.2; 64 clips x 6 frames of 288 x 144 = 384 frames, bfloat16):

| backbone | remat | temporaries | at most |
|---|---|---|---|
| resnet50 | no  | 51.46 GiB | 52.04 GiB |
| resnet50 | yes | 12.68 GiB | 13.26 GiB |
| vit_b16  | no  | 70.08 GiB | 71.15 GiB |
| vit_b16  | yes |  9.66 GiB | 10.73 GiB |

One step executed there, float32, beside other work: vit_b16 with remat 684 s, peak of the process 13.4 GiB (the
compiler's account: at most 11.76 GiB); resnet50 with remat and --as_product 322 s, peak 19.9 GiB (account: 18.24 GiB).
Without --as_product resnet50 was stopped unfinished after 38 processor minutes, holding 16.3 GiB (account: 15.08 GiB).
The loss is that of an empty bank, the same for both.
"""

import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import vcm
from hitpro_jax.commands import check
from hitpro_jax.sharding import make_mesh
from hitpro_jax.types import INTERLEAVED

BACKBONE = flags.DEFINE_string("backbone", "resnet50", "a name of encoder.backbone")
DTYPE = flags.DEFINE_string("dtype", None, "of the arithmetic (default: the config's)")
REMAT = flags.DEFINE_bool("remat", False, "recompute activations in the backward pass")
PRODUCT = flags.DEFINE_bool("as_product", False, "convolutions as matrix products")
EXECUTE = flags.DEFINE_bool("execute", False, "run the step once, too")
BANK, GIB = 11_264, 2**30  # tracklets, bytes


def build():
    """The compiled steps, and the arguments of one training step as NumPy arrays."""
    config = vcm.get_config()
    config.encoder.backbone, config.encoder.remat = BACKBONE.value, REMAT.value
    config.encoder.as_product = PRODUCT.value
    config.encoder.dtype = DTYPE.value or config.encoder.dtype
    steps, state, _, clips, info = check.stand_ins(config, BANK, make_mesh())
    count, length, height, width, _ = clips["frames"].shape
    print(
        f"{config.encoder.backbone}, {config.encoder.dtype}, remat {config.encoder.remat}: {count} clips x "
        f"{length} frames of {height} x {width} = {count * length} frames",
        flush=True,
    )
    rng, place = np.random.default_rng(0), np.arange(count, dtype=np.int32)
    batch = {
        "frames": rng.integers(0, 256, clips["frames"].shape, np.uint8),
        "mask": np.ones(clips["mask"].shape, bool),
        "tracklet": place // 2 * 2 + place % 2,
    }
    return steps, (state, batch, info)


def main(_) -> None:
    steps, arguments = build()
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), arguments)
    start = time.monotonic()
    compiled = steps.train.lower(*shapes, INTERLEAVED).compile()
    seconds, account = time.monotonic() - start, compiled.memory_analysis()
    whole = account.temp_size_in_bytes + account.argument_size_in_bytes + account.output_size_in_bytes
    print(
        f"compiled in {seconds:.0f} s; temporaries {account.temp_size_in_bytes / GIB:.2f} GiB, arguments "
        f"{account.argument_size_in_bytes / GIB:.2f} GiB, outputs {account.output_size_in_bytes / GIB:.2f} GiB "
        f"({account.alias_size_in_bytes / GIB:.2f} GiB of them in the arguments' place): at most "
        f"{(whole - account.alias_size_in_bytes) / GIB:.2f} GiB",
        flush=True,
    )
    if EXECUTE.value:
        start = time.monotonic()
        _, metrics = compiled(*arguments)
        loss = float(metrics["loss"])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"one step: loss {loss:.4f}, {time.monotonic() - start:.0f} s, peak of the process {peak:.1f} GiB")


if __name__ == "__main__":
    app.run(main)
