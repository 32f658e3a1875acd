"""Supervised training of the encoder alone, for pretraining and calibration. HiTPro itself never imports this.

As a method of a run, with checkpoints: `--config.method.name=supervised`
(`hitpro_jax/methods/baselines/supervised.py`), with the same losses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from hitpro_jax.data import pipeline, sampling
from hitpro_jax.data.pipeline import FrameReader
from hitpro_jax.data.records import Record, Tracklet, anonymise, views
from hitpro_jax.encode import layout_of
from hitpro_jax.evaluate import score
from hitpro_jax.features import Embedder, embed_split
from hitpro_jax.kernels.losses import mean_over
from hitpro_jax.kernels.pseudo_labels import batch_hard_triplet, identity_entropy
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.options import AugmentOptions, BatchOptions
from hitpro_jax.types import Clips, Layout

TEMPERATURE, MARGIN = 0.07, 0.2


@dataclass(frozen=True)
class Labelled:
    """Training tracklets with the identity of each."""

    reader: FrameReader
    tracklets: Sequence[Tracklet]
    identity: np.ndarray  # int [N], dense from 0 on


@dataclass(frozen=True)
class Recipe:
    """How the encoder is trained."""

    epochs: int
    steps: int  # of an epoch
    batch: BatchOptions
    learning_rate: float  # after the warm-up; then it falls by half a cosine
    warmup: int = 50  # steps, at most a quarter of all
    triplet: float = 1.0  # weight of the triplet term
    partners: int = 20  # at most so many tracklets of an anchor's person, from which its batch draws
    augment: AugmentOptions = AugmentOptions()
    # (key, frames uint8 [B, T, H, W, 3]) -> uint8, an augmentation that runs on the device
    recolour: Callable[[jax.Array, jax.Array], jax.Array] | None = None


class State(NamedTuple):
    """What a step changes."""

    params: dict  # "encoder", and "proxies" [C, D]
    statistics: dict  # of BatchNorm
    optimiser: Any


def labelled(reader: FrameReader, records: Sequence[Record], seed: int) -> Labelled:
    """A split in random order, its person ids made dense."""
    tracklets, pids = anonymise(records, seed)
    return Labelled(reader, tracklets, np.unique(pids, return_inverse=True)[1])


def fit(encoder: Encoder, variables: dict, data: Labelled, recipe: Recipe, *, seed: int, log: Callable = print) -> dict:
    """Trains with identity cross-entropy on cosine proxies plus a batch-hard triplet term; returns the variables."""
    dim = variables["params"]["neck"]["scale"].shape[0]
    normal = np.random.default_rng(seed).standard_normal((data.identity.max() + 1, dim))
    proxies = 0.05 * normal.astype(np.float32)  # short, so that they turn quickly
    params = {"encoder": variables["params"], "proxies": proxies}
    optimiser = make_optimiser(recipe)
    step = make_step(encoder, optimiser, recipe)
    state = State(params, variables["batch_stats"], optimiser.init(params))
    key = jax.random.key(seed)
    for epoch in range(recipe.epochs):
        entropies = []
        for clips in epoch_batches(data, recipe, seed, epoch):
            key, own = jax.random.split(key)
            identity = np.where(clips.tracklet >= 0, data.identity[clips.tracklet], -1)
            state, entropy = step(state, clips.frames, clips.mask, identity, own, layout_of(clips.modality))
            entropies.append(entropy)
        mean = np.mean(jax.device_get(entropies))
        log(f"supervised epoch {epoch + 1}/{recipe.epochs}: cross-entropy {mean:.3f}")
    return jax.device_get({"params": state.params["encoder"], "batch_stats": state.statistics})


def make_optimiser(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW with a warm-up and half a cosine."""
    total = recipe.epochs * recipe.steps
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, min(recipe.warmup, total // 4), total)
    return optax.adamw(rate, weight_decay=1e-4)


def make_step(encoder: Encoder, optimiser: optax.GradientTransformation, recipe: Recipe) -> Callable:
    """The compiled step: (state, frames, mask, identity, key, layout) -> (state, cross-entropy)."""

    def loss_of(params: dict, statistics: dict, frames, mask, identity, layout: Layout):
        variables = {"params": params["encoder"], "batch_stats": statistics}
        encoded, updates = encoder.apply(variables, frames, mask, layout, train=True, mutable=["batch_stats"])
        features = encoded.tracklet
        entropy = mean_over(*identity_entropy(features, params["proxies"], identity, temperature=TEMPERATURE))
        hard = mean_over(*batch_hard_triplet(features, identity, margin=MARGIN))
        return entropy + recipe.triplet * hard, (updates["batch_stats"], entropy)

    @jax.jit(static_argnums=5)
    def step(state: State, frames, mask, identity, key, layout: Layout) -> tuple[State, jax.Array]:
        frames = frames if recipe.recolour is None else recipe.recolour(key, frames)
        grads, (statistics, entropy) = jax.grad(loss_of, has_aux=True)(
            state.params, state.statistics, frames, mask, identity, layout
        )
        updates, optimiser_state = optimiser.update(grads, state.optimiser, state.params)
        return State(optax.apply_updates(state.params, updates), statistics, optimiser_state), entropy

    return step


def epoch_batches(data: Labelled, recipe: Recipe, seed: int, epoch: int) -> Iterator[Clips]:
    """The batches of an epoch; partners are tracklets of the anchors' persons."""
    view, _ = views(data.tracklets)
    plan = sampling.plan_epoch(
        seed,
        epoch,
        view,
        np.array([tracklet.modality for tracklet in data.tracklets]),
        steps=recipe.steps,
        batch=recipe.batch,
        partners=sampling.Partners(within_index=same_person(data.identity, recipe.partners)),
    )
    return pipeline.train_batches(
        data.reader,
        data.tracklets,
        plan,
        clip_length=recipe.batch.clip_length,
        seed=seed,
        epoch=epoch,
        augmentation=recipe.augment,
    )


def same_person(identity: np.ndarray, count: int) -> np.ndarray:
    """The first `count` other tracklets of each tracklet's person, int32 [N, count], -1 for none.

    >>> same_person(np.array([0, 1, 0]), 2).tolist()
    [[2, -1], [-1, -1], [0, -1]]
    """
    members = [np.flatnonzero(identity == person) for person in range(identity.max() + 1)]
    table = np.full((len(identity), count), -1, np.int32)
    for row, person in enumerate(identity):
        others = members[person][members[person] != row][:count]
        table[row, : len(others)] = others
    return table


def visible_scores(embedder: Embedder, variables: dict, records: Sequence[Record]) -> dict[str, Any]:
    """The pretrained encoder in its own domain: every visible tracklet queries all the others in other cameras."""
    features, pids, camids, _ = embed_split(embedder, variables, records)
    return score(features, features, pids, pids, camids, camids)
