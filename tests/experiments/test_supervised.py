"""Supervised training of the encoder alone: what batches draw from, and a whole short training."""

import jax
import numpy as np
import pytest

from experiments import supervised
from hitpro_jax.data.pipeline import FrameReader
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.models.encoder import init_variables, make_encoder
from hitpro_jax.options import BatchOptions, EncoderOptions


def test_partners_are_other_tracklets_of_the_same_person():
    table = supervised.same_person(np.array([0, 1, 0, 0]), 2)
    assert table.tolist() == [[2, 3], [-1, -1], [0, 3], [0, 2]]


@pytest.mark.slow
def test_a_short_training_moves_the_encoder_and_recolours_on_the_device(world):
    size = 64, 32
    encoder = make_encoder(EncoderOptions(backbone="resnet_small", aggregator="mean", as_product=True))
    start = init_variables(encoder, size, 0)
    data = supervised.labelled(FrameReader(world, size), hitsz_vcm.load(world).train, seed=0)
    assert set(data.identity) == set(range(data.identity.max() + 1))

    lines, recoloured = [], []

    def negative(key, frames):
        recoloured.append(frames.shape)
        return 255 - frames

    batch = BatchOptions(tracklets_per_modality=2, clips_per_tracklet=1, clip_length=1)
    recipe = supervised.Recipe(epochs=1, steps=2, batch=batch, learning_rate=1e-3, recolour=negative)
    tuned = supervised.fit(encoder, start, data, recipe, seed=0, log=lines.append)
    assert recoloured[0] == (4, 1, *size, 3)
    assert len(lines) == 1
    assert lines[0].startswith("supervised epoch 1/1: cross-entropy ")
    assert jax.tree.structure(tuned) == jax.tree.structure(start)
    moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(tuned["params"]), jax.tree.leaves(start["params"]))]
    assert np.mean(moved) > 0.5
