"""Supervised training of the encoder alone, for pretraining and calibration. HiTPro itself never imports this.

As a method of a run, with checkpoints: `--config.method.name=supervised` (`hitpro_jax/methods/supervised.py`), with the
same losses.
"""

from collections.abc import Callable

import jax
import numpy as np
import optax

from hitpro_jax import evaluate
from hitpro_jax.data import pipeline, sampling
from hitpro_jax.data.records import Tracklet
from hitpro_jax.encode import layout_of
from hitpro_jax.kernels.losses import mean_over
from hitpro_jax.kernels.pseudo_labels import batch_hard_triplet, identity_entropy
from hitpro_jax.models.encoder import Encoder

TEMPERATURE, MARGIN = 0.07, 0.2


def fit(
    encoder: Encoder,
    variables: dict,
    reader,
    tracklets: list[Tracklet],
    labels: np.ndarray,
    *,
    epochs: int,
    steps: int,
    tracklets_per_modality: int,
    clips_per_tracklet: int,
    clip_length: int,
    learning_rate: float,
    seed: int,
    augmentation: dict | None = None,
    recolour: Callable | None = None,
    positives: int = 20,
    warmup: int = 50,
    triplet: float = 1.0,
    say: Callable = print,
) -> dict:
    """Trains with identity cross-entropy on cosine proxies plus a batch-hard triplet term; returns the variables.

    labels: int [N], dense identities. augmentation: keywords of `transforms.augment`. recolour: (key, frames uint8
    [B, T, H, W, 3]) -> uint8, an augmentation that runs on the device.
    """
    rng = np.random.default_rng(seed)
    modality = np.array([t.modality for t in tracklets])
    dim = variables["params"]["neck"]["scale"].shape[0]
    proxies = 0.05 * rng.standard_normal((labels.max() + 1, dim)).astype(np.float32)  # short: quick to turn
    params = {"encoder": variables["params"], "proxies": proxies}
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(warmup, epochs * steps // 4), epochs * steps)
    optimiser = optax.adamw(schedule, weight_decay=1e-4)
    opt_state, statistics = optimiser.init(params), variables["batch_stats"]
    same = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    partners = np.full((len(labels), positives), -1, np.int32)
    for i, label in enumerate(labels):
        others = same[label][same[label] != i][:positives]
        partners[i, : len(others)] = others

    def loss_fn(params, statistics, frames, mask, label, layout):
        encoded, updates = encoder.apply(
            {"params": params["encoder"], "batch_stats": statistics},
            frames,
            mask,
            layout,
            train=True,
            mutable=["batch_stats"],
        )
        z = encoded.tracklet
        entropy = mean_over(*identity_entropy(z, params["proxies"], label, temperature=TEMPERATURE))
        hard = mean_over(*batch_hard_triplet(z, label, margin=MARGIN))
        return entropy + triplet * hard, (updates["batch_stats"], entropy)

    @jax.jit(static_argnums=6)
    def step(params, statistics, opt_state, batch, label, key, layout):
        frames = batch["frames"] if recolour is None else recolour(key, batch["frames"])
        grads, (statistics, entropy) = jax.grad(loss_fn, has_aux=True)(
            params, statistics, frames, batch["mask"], label, layout
        )
        updates, opt_state = optimiser.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), statistics, opt_state, entropy

    key = jax.random.key(seed)
    view = np.unique(np.array([(t.modality, t.camid) for t in tracklets]), axis=0, return_inverse=True)[1].ravel()
    for epoch in range(epochs):
        plan = sampling.plan_epoch(
            seed,
            epoch,
            view,
            modality,
            steps=steps,
            tracklets_per_modality=tracklets_per_modality,
            clips_per_tracklet=clips_per_tracklet,
            partner_share=0.5,
            within_index=partners,
        )
        losses = []
        for batch in pipeline.train_batches(
            reader, tracklets, plan, clip_length=clip_length, seed=seed, epoch=epoch, augmentation=augmentation
        ):
            key, sub = jax.random.split(key)
            clips = {name: batch[name] for name in ("frames", "mask")}
            params, statistics, opt_state, entropy = step(
                params, statistics, opt_state, clips, labels[batch["tracklet"]], sub, layout_of(batch["modality"])
            )
            losses.append(entropy)
        say(f"supervised epoch {epoch + 1}/{epochs}: cross-entropy {np.mean(jax.device_get(losses)):.3f}")
    return jax.device_get({"params": params["encoder"], "batch_stats": statistics})


def visible_scores(embed, variables: dict, records, reader, options, mesh) -> dict:
    """The pretrained encoder in its own domain: every visible tracklet queries all the others in other cameras."""
    features, pids, camids, _ = evaluate.embed_split(embed, variables, records, reader, options, mesh)
    return evaluate.score(features, features, pids, pids, camids, camids)
