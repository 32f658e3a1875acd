"""Optimisers against torch's update rules written out in NumPy, schedules and groups against values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from hitpro_jax import optim
from hitpro_jax.models.encoder import make_encoder, shapes_of
from hitpro_jax.options import EncoderOptions, OptimOptions

PARAMS = {
    "backbone": {"stem_rgb": {"kernel": np.array([1.0, -2.0, 3.0], np.float32)}},
    "neck": {"scale": np.array([1.0, 2.0], np.float32), "bias": np.array([0.5], np.float32)},
    "temporal": {"kernel": np.array([[0.3, -0.4]], np.float32)},
}


def options(name: str = "adam", **fields) -> OptimOptions:
    """Options without decay of weights and rate and without warm-up, unless they are given."""
    plain = {"weight_decay": 0.0, "schedule": "constant", "warmup_steps": 0, "adapt_steps": 0}
    return OptimOptions(name, **plain | fields)


def gradients(step: int) -> dict:
    rng = np.random.default_rng(step)
    return jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), PARAMS)


def trained(optimiser: optax.GradientTransformation, steps: int = 5, params: dict = PARAMS) -> dict:
    state, update = optimiser.init(params), jax.jit(optimiser.update)
    for step in range(steps):
        updates, state = update(gradients(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def adam_by_hand(params: np.ndarray, grads: list, rate: float, coupled: float = 0.0, decoupled: float = 0.0):
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        g = g + coupled * params
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        params = params - rate * decoupled * params
        params = params - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return params


def sgd_by_hand(params: np.ndarray, grads: list, rate: float, coupled: float):
    velocity = 0.0
    for g in grads:
        velocity = 0.9 * velocity + g + coupled * params
        params = params - rate * velocity
    return params


def by_hand(rule, **keywords) -> dict:
    steps = [gradients(step) for step in range(5)]
    return jax.tree.map(lambda p, *g: rule(p, g, 0.01, **keywords), PARAMS, *steps)


def assert_close(actual: dict, wanted: dict):
    jax.tree.map(lambda a, w: np.testing.assert_allclose(a, w, rtol=1e-5, atol=1e-6), actual, wanted)


def test_adam_couples_the_decay_and_decays_every_parameter():
    optimiser = optim.make_optimiser(options("adam", learning_rate=0.01, weight_decay=0.5), 5)
    assert_close(trained(optimiser), by_hand(adam_by_hand, coupled=0.5))


def test_sgd_couples_the_decay():
    optimiser = optim.make_optimiser(options("sgd", learning_rate=0.01, weight_decay=0.5), 5)
    assert_close(trained(optimiser), by_hand(sgd_by_hand, coupled=0.5))


def test_adamw_decouples_the_decay_and_spares_bias_and_scale():
    optimiser = optim.make_optimiser(options("adamw", learning_rate=0.01, weight_decay=0.5), 5)
    wanted = by_hand(adam_by_hand, decoupled=0.5)
    wanted["neck"] = by_hand(adam_by_hand)["neck"]
    assert_close(trained(optimiser), wanted)


def test_constant_rate_after_warmup():
    rate = optim.make_schedule(options(learning_rate=0.4, warmup_steps=4), 10)
    np.testing.assert_allclose([rate(t) for t in range(6)], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rtol=1e-6)


def test_no_rate_before_batchnorm_has_adapted():
    rate = optim.make_schedule(options(learning_rate=0.4, adapt_steps=2, warmup_steps=2), 10)
    np.testing.assert_allclose([rate(t) for t in range(6)], [0, 0, 0.2, 0.4, 0.4, 0.4], rtol=1e-6)
    rate = optim.make_schedule(options(learning_rate=2.0, schedule="cosine", adapt_steps=1, warmup_steps=1), 10)
    np.testing.assert_allclose([rate(t) for t in (0, 1, 2, 6, 10)], [0, 2, 2, 1, 0], atol=1e-6)
    rate = optim.make_schedule(options(learning_rate=0.4, adapt_steps=2), 10)
    np.testing.assert_allclose([rate(t) for t in range(4)], [0, 0, 0.4, 0.4], rtol=1e-6)


def test_steps_fall_at_40_and_80_percent():
    rate = optim.make_schedule(options(learning_rate=1.0, schedule="steps"), 10)
    np.testing.assert_allclose([rate(t) for t in range(11)], [1] * 4 + [0.1] * 4 + [0.01] * 3, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(rate)(jnp.int32(8)), 0.01, rtol=1e-6)


def test_cosine_goes_from_the_peak_after_warmup_to_zero():
    rate = optim.make_schedule(options(learning_rate=2.0, schedule="cosine", warmup_steps=2), 10)
    np.testing.assert_allclose([rate(t) for t in (0, 1, 2, 6, 10, 12)], [1, 2, 2, 1, 0, 0], atol=1e-6)


def test_the_schedule_drives_the_optimiser():
    params = {"w": jnp.zeros(())}
    optimiser = optim.make_optimiser(options(learning_rate=1.0, schedule="steps"), 5, {})
    state, moves = optimiser.init(params), []
    for _ in range(5):
        updates, state = optimiser.update({"w": jnp.ones(())}, state, params)
        moves.append(float(updates["w"]))  # a constant gradient moves Adam by exactly the rate
    np.testing.assert_allclose(moves, [-1, -1, -0.1, -0.1, -0.01], rtol=1e-4)


def test_groups_scale_the_rate_and_the_first_match_wins():
    groups = {"backbone/.*": 0.1, ".*kernel": 3.0, "neck/bias": 0.0}
    plain, grouped = (trained(optim.make_optimiser(options(learning_rate=0.01), 5, g), steps=1) for g in ({}, groups))
    ratio = jax.tree.map(lambda g, q, p: (g - p) / (q - p), grouped, plain, PARAMS)
    for value, wanted in [
        (ratio["backbone"]["stem_rgb"]["kernel"], 0.1),
        (ratio["temporal"]["kernel"], 3),
        (ratio["neck"]["scale"], 1),
        (ratio["neck"]["bias"], 0),
    ]:
        np.testing.assert_allclose(value, wanted, rtol=1e-3)


def test_the_backbone_gets_its_share_of_the_rate():
    wanted = trained(optim.make_optimiser(options(learning_rate=0.01), 5, {"backbone/.*": 0.1}))
    found = trained(optim.make_optimiser(options(learning_rate=0.01, backbone_rate=0.1), 5))
    jax.tree.map(np.testing.assert_array_equal, found, wanted)
    frozen = trained(optim.make_optimiser(options(learning_rate=0.01, backbone_rate=0.0), 5))
    np.testing.assert_array_equal(frozen["backbone"]["stem_rgb"]["kernel"], PARAMS["backbone"]["stem_rgb"]["kernel"])


@pytest.mark.parametrize(("order", "own"), [("relative", "distance/bias"), ("motion", "kernel")])
def test_what_sees_the_order_of_frames_gets_the_full_rate(order, own):
    encoder = make_encoder(EncoderOptions("resnet_small", order=order))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes_of(encoder, (64, 32))["params"])
    optimiser = optim.make_optimiser(options("sgd", learning_rate=0.1, backbone_rate=0.5), 10)
    ones = jax.tree.map(np.ones_like, params)
    updates = flatten_dict(optimiser.update(ones, optimiser.init(params), params)[0], sep="/")
    np.testing.assert_allclose(updates[f"aggregator/{own}"], -0.1, rtol=1e-6)
    for name, update in updates.items():
        np.testing.assert_allclose(update, -0.05 if name.startswith("backbone/") else -0.1, rtol=1e-6, err_msg=name)


def test_frozen_parameters_have_no_state_and_do_not_count_in_the_clipped_norm():
    optimiser = optim.make_optimiser(options("sgd", learning_rate=1.0, clip_norm=1.0), 1, {"frozen": 0.0})
    params = {"frozen": jnp.ones(7), "w": jnp.zeros(2)}
    state = optimiser.init(params)
    assert not any(leaf.shape == (7,) for leaf in jax.tree.leaves(state))
    grads = {"frozen": jnp.full(7, jnp.nan), "w": jnp.array([3.0, 4.0])}
    updates, _ = optimiser.update(grads, state, params)
    np.testing.assert_allclose(updates["w"], [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_array_equal(updates["frozen"], np.zeros(7))


def test_no_clipping_by_default():
    optimiser = optim.make_optimiser(options("sgd", learning_rate=1.0), 1, {})
    updates, _ = optimiser.update(
        {"w": jnp.array([3.0, 4.0])}, optimiser.init({"w": jnp.zeros(2)}), {"w": jnp.zeros(2)}
    )
    np.testing.assert_allclose(updates["w"], [-3, -4])


def test_bad_names_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown optimiser 'lion': choose one of adam, adamw, sgd"):
        optim.make_optimiser(options("lion"), 1)
    with pytest.raises(ValueError, match="unknown schedule 'poly': choose one of constant, steps, cosine"):
        optim.make_schedule(options(learning_rate=1.0, schedule="poly"), 1)
    with pytest.raises(ValueError, match="'bakbone/.*' matches no parameter"):
        optim.make_optimiser(options(), 1, {"bakbone/.*": 0.1}).init(PARAMS)
