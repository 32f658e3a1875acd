"""HCL against per-clip loops in float64, gradients against finite differences of those loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels import losses
from tests.reference import losses as naive
from tests.reference.losses import assert_highest_precision
from tests.reference.worlds import world

intra = jax.jit(losses.intra_camera, static_argnames="mode")
soft = jax.jit(losses.soft_target, static_argnames="hard_negatives")


def _case(seed, clips=6, size=17, positives=4, ambiguous=3):
    """Similarities, targets with a gap, positives with an empty row, ambiguous ids, candidates."""
    rng = np.random.default_rng(seed)
    w = world(seed, size=size)
    similarity = rng.uniform(-1.0, 1.0, (clips, size)).astype(np.float32)
    target = rng.permutation(np.flatnonzero(w.valid))[:clips].astype(np.int32)
    target[0] = -1
    index = np.full((clips, positives), -1, np.int32)
    weight = np.zeros((clips, positives), np.float32)
    for b in range(2, clips):  # clip 1 has no positive
        length = rng.integers(1, positives + 1)
        index[b, :length] = rng.permutation([j for j in range(size) if j != target[b]])[:length]
        weight[b, :length] = rng.dirichlet(np.ones(length))
    ignore = rng.integers(-1, size, (clips, ambiguous)).astype(np.int32)
    ignore[2, 0] = index[2, 0]  # a positive that is ambiguous too stays a positive
    ignore[3, 0] = target[3]  # and so does the own prototype
    candidate = (rng.uniform(size=(clips, size)) < 0.7) & w.valid
    return w, similarity, target, index, weight, ignore, candidate


@pytest.mark.parametrize("mode", ["mask", "positive", "none"])
def test_intra_camera_equals_naive(mode):
    for seed in range(3):
        w, similarity, target, _, _, ignore, _ = _case(seed)
        arguments = (target, w.view, w.valid, ignore)
        loss, has = intra(similarity, *arguments, temperature=0.1, mode=mode)
        expected, term = naive.intra_camera(similarity.astype(np.float64), *arguments, 0.1, mode)
        np.testing.assert_allclose(loss, expected, atol=1e-5)
        assert has.tolist() == term.tolist()


@pytest.mark.parametrize("alpha", [0.5, 0.0, 1.0])
@pytest.mark.parametrize("hard_negatives", [0, 3, 50])
def test_soft_target_equals_naive(alpha, hard_negatives):
    for seed in range(3):
        _, similarity, *rest, ignore, candidate = _case(seed)
        loss, has = soft(
            similarity, *rest, candidate, ignore, temperature=0.1, alpha=alpha, hard_negatives=hard_negatives
        )
        expected, term = naive.soft_target(
            similarity.astype(np.float64), *rest, candidate, ignore, 0.1, alpha, hard_negatives
        )
        np.testing.assert_allclose(loss, expected, atol=2e-5)
        assert has.tolist() == term.tolist()


@pytest.mark.parametrize("mode", ["mask", "positive", "none"])
def test_intra_camera_gradient(mode):
    w, similarity, target, _, _, ignore, _ = _case(5)
    arguments = (target, w.view, w.valid, ignore)
    slope = jax.grad(lambda s: losses.mean_over(*intra(s, *arguments, temperature=0.2, mode=mode)))(similarity)
    expected = naive.gradient(
        lambda s: naive.mean_over(*naive.intra_camera(s, *arguments, 0.2, mode)),
        similarity.astype(np.float64),
    )
    np.testing.assert_allclose(slope, expected, atol=1e-5)
    assert not np.any(slope[0])  # the clip without a term


@pytest.mark.parametrize("alpha", [0.5, 0.0])
def test_soft_target_gradient(alpha):
    _, similarity, *rest, ignore, candidate = _case(6)
    arguments = (*rest, candidate, ignore)
    slope = jax.grad(lambda s: losses.mean_over(*soft(s, *arguments, temperature=0.2, alpha=alpha, hard_negatives=3)))(
        similarity
    )
    expected = naive.gradient(
        lambda s: naive.mean_over(*naive.soft_target(s, *arguments, 0.2, alpha, 3)),
        similarity.astype(np.float64),
    )
    np.testing.assert_allclose(slope, expected, atol=1e-5)
    assert not np.any(slope[:2])


def test_gradient_reaches_features_and_never_prototypes():
    rng = np.random.default_rng(0)
    z, p = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    to_z, to_p = jax.grad(lambda z, p: jnp.sum(losses.similarities(z, p) ** 2), (0, 1))(z, p)
    np.testing.assert_allclose(to_z, 2 * (z @ p.T) @ p, rtol=1e-4, atol=1e-5)
    assert not np.any(to_p)


def test_bfloat16_features_give_float32_similarities():
    z = jnp.array([[1.0, 2.0]], jnp.bfloat16)
    similarity = losses.similarities(z, jnp.array([[1.0, 1e-3]]))
    assert similarity.dtype == jnp.float32
    np.testing.assert_allclose(similarity, [[1.002]], rtol=1e-6)  # bfloat16 would round this to 1.0


def test_products_are_at_highest_precision_forward_and_backward():
    """Accelerators otherwise round them to bfloat16 or TF32, which the temperature multiplies by twenty."""
    assert_highest_precision(losses.similarities)


@pytest.mark.parametrize("clips", [1, 6])
def test_no_positive_at_all_is_no_loss_and_no_gradient(clips):
    _, similarity, target, index, weight, ignore, candidate = _case(7, clips=6)
    nothing = np.full_like(index, -1), np.zeros_like(weight)

    def total(s):
        return losses.mean_over(
            *soft(s, target[:clips], nothing[0][:clips], nothing[1][:clips], candidate[:clips], ignore[:clips])
        )

    with jax.debug_nans(True):
        value, slope = jax.value_and_grad(total)(similarity[:clips])
    assert float(value) == 0.0
    assert not np.any(slope)


def test_all_padding():
    """Not compiled, so that NaN would be caught inside the losses too, not only in what they return."""
    similarity, target = jnp.zeros((2, 3)), jnp.full(2, -1)
    ids, never = jnp.full((2, 1), -1), jnp.zeros(3, bool)

    def total(s):
        level1 = losses.intra_camera(s, target, jnp.zeros(3, int), never, ids)
        level3 = losses.soft_target(s, target, ids, jnp.zeros((2, 1)), jnp.zeros((2, 3), bool), ids, alpha=0.0)
        return losses.mean_over(*level1) + losses.mean_over(*level3)

    with jax.debug_nans(True):
        value, slope = jax.value_and_grad(total)(similarity)
    assert float(value) == 0.0
    assert not np.any(slope)


def test_no_clips():
    similarity, target, ids = jnp.zeros((0, 3)), jnp.zeros(0, int), jnp.zeros((0, 2), int)
    level1 = losses.intra_camera(similarity, target, jnp.zeros(3, int), jnp.ones(3, bool), ids)
    level2 = losses.soft_target(similarity, target, ids, ids * 1.0, similarity > 0, ids)
    assert float(losses.mean_over(*level1)) == float(losses.mean_over(*level2)) == 0.0


def test_one_prototype_in_the_view_is_already_right():
    loss, has = intra(jnp.array([[0.3]]), jnp.array([0]), jnp.array([0]), jnp.ones(1, bool), jnp.array([[-1]]))
    assert (loss.tolist(), has.tolist()) == ([0.0], [True])


def test_mean_is_over_clips_with_the_term():
    assert float(losses.mean_over(jnp.array([2.0, jnp.inf, 4.0]), jnp.array([True, False, True]))) == 3.0


def test_large_logits_stay_finite():
    similarity = jnp.array([[1.0, -1.0, 0.9]])
    loss, _ = intra(
        similarity, jnp.array([1]), jnp.zeros(3, int), jnp.ones(3, bool), jnp.array([[-1]]), temperature=1e-3
    )
    np.testing.assert_allclose(loss, [2000.0], rtol=1e-6)


def test_one_trace_across_epochs():
    traces = []

    @jax.jit
    def level(similarity, alpha, temperature):
        traces.append(1)
        one = jnp.zeros((1, 1), int)
        return losses.soft_target(
            similarity,
            one[0],
            one + 1,
            one + 1.0,
            similarity > -9,
            one - 1,
            alpha=alpha,
            temperature=temperature,
        )

    values = [float(level(jnp.array([[0.1, 0.2, 0.3]]), a, t)[0][0]) for a, t in ((0.0, 0.05), (0.5, 0.1))]
    assert len(traces) == 1
    assert values[0] != values[1]


def test_unknown_mode():
    with pytest.raises(ValueError, match="unknown ambiguity mode 'drop'"):
        losses.intra_camera(
            jnp.zeros((1, 1)),
            jnp.zeros(1, int),
            jnp.zeros(1, int),
            jnp.ones(1, bool),
            jnp.zeros((1, 1), int),
            mode="drop",
        )
