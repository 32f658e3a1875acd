"""Pretrains the small encoder on other synthetic people, visible light only: a stand-in for ImageNet weights.

  python -m experiments.pretrain_small --out=hitpro_jax/models/weights/resnet_small.safetensors

People (seed 9000) and cameras (camera_seed 9000) are others than those of every data set that the project trains or
tests on, and there is no infrared picture among them. Colour is destroyed on purpose (random channel mixtures that may
turn the contrast around, grey, gamma), so that the features rest on shape and pattern.
"""

import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from configs import base
from experiments import supervised
from hitpro_jax.data import pipeline
from hitpro_jax.data.records import anonymise
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.data.synthetic import world as synthetic
from hitpro_jax.encode import make_embed
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.models.pretrained import weights as pretrained
from hitpro_jax.sharding import make_mesh

OUT = flags.DEFINE_string("out", "hitpro_jax/models/weights/resnet_small.safetensors", "where the weights go")
ROOT = flags.DEFINE_string("root", "data/pretraining", "where the pretraining set is drawn")
EPOCHS = flags.DEFINE_integer("epochs", 50, "epochs of 100 steps")
SEED = flags.DEFINE_integer("seed", synthetic.PRETRAINING_SEED, "of people, cameras, initial weights and order")


def recolour(key: jax.Array, frames: jax.Array) -> jax.Array:
    """One random colour change per clip: channel mixture, grey, negative and solarised pictures, gain, gamma, noise.

    frames: uint8 [B, T, H, W, 3]; returns the same.
    """
    batch, one = frames.shape[0], (frames.shape[0], 1, 1, 1, 1)
    keys = jax.random.split(key, 8)
    mix = jax.random.dirichlet(keys[0], jnp.ones(3) * 0.7, (batch, 3))
    mix = jnp.where(jax.random.bernoulli(keys[1], 0.5, (batch, 1, 1)), mix[:, :1], mix)  # equal rows: grey
    x = jnp.einsum("bthwc,bdc->bthwd", frames.astype(jnp.float32) / 255.0, mix)
    x = jnp.where(jax.random.bernoulli(keys[2], 0.5, one), 1.0 - x, x)
    knee = jax.random.uniform(keys[3], one, minval=0.3, maxval=0.9)
    solarised = jax.random.bernoulli(keys[4], 0.4, one) & (x > knee)
    x = jnp.where(solarised, jnp.maximum(2.0 * knee - x, 0.0), x)
    gain = jax.random.uniform(keys[5], one, minval=0.6, maxval=1.3)
    gamma = jax.random.uniform(keys[6], one, minval=0.6, maxval=1.6)
    x = jnp.clip(x * gain, 1e-4, 1.0) ** gamma + 0.03 * jax.random.normal(keys[7], x.shape)
    return (jnp.clip(x, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def main(_) -> None:
    world = synthetic.World(
        seed=SEED.value,
        camera_seed=SEED.value,
        cameras=12,
        train_ids=800,
        test_ids=60,
        views_per_modality=(3, 5),
        stay_frames=(12, 16),
        infrared=False,
    )
    root = synthetic.ensure(ROOT.value, world, jobs=2)
    data = hitsz_vcm.load(root)
    tracklets, pids = anonymise(data.train, seed=0)
    labels = np.unique(pids, return_inverse=True)[1]
    encoder = make_encoder("resnet_small", "mean", as_product=True)
    variables = init_variables(encoder, world.image_size, SEED.value)
    reader = pipeline.FrameReader(str(root), world.image_size, cache=True)
    start = time.time()
    variables = supervised.fit(
        encoder,
        variables,
        reader,
        tracklets,
        labels,
        epochs=EPOCHS.value,
        steps=100,
        tracklets_per_modality=32,
        clips_per_tracklet=1,
        clip_length=1,
        learning_rate=3e-3,
        triplet=0.0,
        seed=SEED.value,
        recolour=recolour,
        warmup=100,
    )
    minutes = (time.time() - start) / 60.0
    mesh = make_mesh()
    scores = supervised.visible_scores(
        make_embed(encoder, mesh), variables, (*data.query, *data.gallery), reader, base.get_config().eval, mesh
    )
    print(f"visible light, unseen people: mAP {scores['mAP']:.1f}, rank-1 {scores['rank1']:.1f}; {minutes:.1f} min")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], check=False, capture_output=True, text=True).stdout.strip()
    command = f"python -m experiments.pretrain_small --epochs={EPOCHS.value} --seed={SEED.value}"
    print(pretrained.save(OUT.value, variables, {"command": command, "seed": str(SEED.value), "commit": commit}))


if __name__ == "__main__":
    app.run(main)
