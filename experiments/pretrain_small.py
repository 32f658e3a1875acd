"""Pretrains the small encoder on other synthetic people, visible light only: a stand-in for ImageNet weights.

  python -m experiments.pretrain_small --out=hitpro_jax/models/weights/resnet_small.safetensors

People (seed 9000) and cameras (camera_seed 9000) are others than those of every data set that the project trains or
tests on, and there is no infrared picture among them. Colour is destroyed on purpose (random channel mixtures that may
turn the contrast around, grey, gamma), so that the features rest on shape and pattern.
"""

import time

import jax
import jax.numpy as jnp
from absl import app, flags

from experiments import supervised
from hitpro_jax.data.pipeline import ClipReading, FrameReader
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.data.synthetic import world as worlds
from hitpro_jax.encode import make_embed
from hitpro_jax.features import Embedder
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.models.pretrained import weights
from hitpro_jax.options import BatchOptions, EncoderOptions, EvalOptions
from hitpro_jax.sharding import make_mesh
from hitpro_jax.workdir.environment import git_commit

OUT = flags.DEFINE_string("out", "hitpro_jax/models/weights/resnet_small.safetensors", "where the weights go")
ROOT = flags.DEFINE_string("root", "data/pretraining", "where the pretraining set is drawn")
EPOCHS = flags.DEFINE_integer("epochs", 50, "epochs of 100 steps")
SEED = flags.DEFINE_integer("seed", worlds.PRETRAINING_SEED, "of people, cameras, initial weights and order")
STEPS = 100  # of an epoch


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


def world_of(seed: int) -> worlds.World:
    """The people and cameras of the pretraining set."""
    return worlds.World(
        seed=seed,
        camera_seed=seed,
        cameras=12,
        train_ids=800,
        test_ids=60,
        views_per_modality=(3, 5),
        stay_frames=(12, 16),
        infrared=False,
    )


def main(_) -> None:
    world = world_of(SEED.value)
    root = worlds.ensure(ROOT.value, world, jobs=2)
    dataset = hitsz_vcm.load(str(root))
    reader = FrameReader(str(root), world.image_size, cache=True)
    encoder = make_encoder(EncoderOptions(backbone="resnet_small", aggregator="mean", as_product=True))
    recipe = supervised.Recipe(
        epochs=EPOCHS.value,
        steps=STEPS,
        batch=BatchOptions(tracklets_per_modality=32, clips_per_tracklet=1, clip_length=1),
        learning_rate=3e-3,
        warmup=100,
        triplet=0.0,
        recolour=recolour,
    )
    start = time.time()
    untrained = init_variables(encoder, world.image_size, SEED.value)
    data = supervised.labelled(reader, dataset.train, seed=0)
    variables = supervised.fit(encoder, untrained, data, recipe, seed=SEED.value)
    minutes = (time.time() - start) / 60.0
    mesh = make_mesh()
    embedder = Embedder(make_embed(encoder, mesh), mesh, reader, EvalOptions(), ClipReading())
    scores = supervised.visible_scores(embedder, variables, (*dataset.query, *dataset.gallery))
    print(f"visible light, unseen people: mAP {scores['mAP']:.1f}, rank-1 {scores['rank1']:.1f}; {minutes:.1f} min")
    command = f"python -m experiments.pretrain_small --epochs={EPOCHS.value} --seed={SEED.value}"
    print(
        weights.save(
            OUT.value, variables, {"command": command, "seed": str(SEED.value), "commit": git_commit() or "unknown"}
        )
    )


if __name__ == "__main__":
    app.run(main)
