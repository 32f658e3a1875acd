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
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import vcm
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.registry import make_method
from hitpro_jax.run import Run, TrainingSet, open_run
from hitpro_jax.steps import Steps
from hitpro_jax.types import INTERLEAVED, Clips, TrackletInfo, TrainState
from hitpro_jax.workdir import Workdir

BACKBONE = flags.DEFINE_string("backbone", "resnet50", "a name of encoder.backbone")
DTYPE = flags.DEFINE_string("dtype", None, "of the arithmetic (default: the config's)")
REMAT = flags.DEFINE_bool("remat", False, "recompute activations in the backward pass")
PRODUCT = flags.DEFINE_bool("as_product", False, "convolutions as matrix products")
EXECUTE = flags.DEFINE_bool("execute", False, "run the step once, too")
BANK, VIEWS, GIB = 11_264, 12, 2**30  # tracklets, views, bytes


Arguments = tuple[TrainState, Clips, TrackletInfo]


def open_vcm(workdir: Workdir) -> Run:
    """A run of configs/vcm.py with the flags' encoder; no data are read."""
    config = vcm.get_config()
    config.encoder.backbone, config.encoder.remat = BACKBONE.value, REMAT.value
    config.encoder.as_product = PRODUCT.value
    config.encoder.dtype = DTYPE.value or config.encoder.dtype
    return open_run(config, workdir)


def build(run: Run) -> tuple[Steps, Arguments]:
    """The compiled steps, and the arguments of one training step as arrays on the host."""
    row = np.arange(BANK, dtype=np.int32)
    info = TrackletInfo(row % 2, row // 2 % 6, row % VIEWS, np.ones(BANK, bool))
    mesh = run.mesh if run.mesh.size > 1 else None
    method = make_method(run.options, Setting(VIEWS, mesh, None))
    steps, state, _ = run.build(TrainingSet((), info, info), method)
    clips = random_clips(run)
    count, length, height, width, _ = clips.frames.shape
    encoder = run.options.encoder
    print(
        f"{encoder.backbone}, {encoder.dtype}, remat {encoder.remat}: {count} clips x "
        f"{length} frames of {height} x {width} = {count * length} frames",
        flush=True,
    )
    return steps, (state, clips, info)


def random_clips(run: Run) -> Clips:
    """A batch of noise, RGB and infrared clips in turn, each of another tracklet."""
    batch, index = run.options.batch, np.arange(run.options.batch.clips, dtype=np.int32)
    shape = batch.clips, batch.clip_length
    frames = np.random.default_rng(0).integers(0, 256, (*shape, *run.options.data.image_size, 3), np.uint8)
    none = np.zeros_like(index)
    return Clips(frames, np.ones(shape, bool), index, index % 2, part=none, unreadable=none)


def main(_) -> None:
    with tempfile.TemporaryDirectory() as folder, Workdir(folder) as workdir:
        steps, arguments = build(open_vcm(workdir))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), arguments)
    start = time.monotonic()
    compiled = steps.train.lower(*shapes, INTERLEAVED).compile()
    seconds, account = time.monotonic() - start, compiled.memory_analysis()
    whole = account.temp_size_in_bytes + account.argument_size_in_bytes + account.output_size_in_bytes
    print(
        f"compiled in {seconds:.0f} s; temporaries {account.temp_size_in_bytes / GIB:.2f} GiB, arguments "
        f"{account.argument_size_in_bytes / GIB:.2f} GiB, outputs {account.output_size_in_bytes / GIB:.2f} GiB "
        f"({account.alias_size_in_bytes / GIB:.2f} GiB of them written over the arguments): at most "
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
