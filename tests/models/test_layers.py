"""Convolutions, as products too, and the way of frames through the stem of their modality."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models.layers import Conv, through_stems
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY
from tests.models.random_inputs import pictures, variables_of


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [(1, 1, (5, 4)), (1, 2, (5, 4)), (3, 1, (5, 4)), (3, 2, (5, 7)), (3, 2, (6, 4)), (7, 1, (5, 4)), (7, 2, (9, 6))],
)
def test_product_equals_convolution(kernel, stride, size):
    x = pictures(2, size=size)
    variables = variables_of(Conv(5, kernel, stride), x)

    def run(as_product):
        y, back = jax.vjp(Conv(5, kernel, stride, as_product).apply, variables, x)
        return y, back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    plain, product = jax.jit(lambda: (run(False), run(True)))()
    assert plain[0].shape == (2, -(-size[0] // stride), -(-size[1] // stride), 5)
    assert float(jnp.abs(plain[0]).max()) > 0.1
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4, rtol=1e-4), plain, product)


def test_convolution_equals_loops():
    x = pictures(1, size=(5, 4))
    module = Conv(2, 3, 2)
    variables = variables_of(module, x)
    kernel, padded = variables["params"]["kernel"], np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 3, 2, 2))
    for i, j, c in np.ndindex(3, 2, 2):
        expected[0, i, j, c] = (padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel[..., c]).sum()
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_frames_pass_the_stem_of_their_modality_in_their_order():
    x = np.arange(12.0).reshape(12, 1)
    stems = (lambda x: x + 100, lambda x: -x)
    np.testing.assert_array_equal(through_stems(*stems, x, RGB_ONLY, 3, False), x + 100)
    np.testing.assert_array_equal(through_stems(*stems, x, IR_ONLY, 3, False), -x)
    expected = np.where(np.arange(12)[:, None] // 3 % 2, -x, x + 100)
    np.testing.assert_array_equal(through_stems(*stems, x, INTERLEAVED, 3, False), expected)


@pytest.mark.parametrize("layout", [RGB_ONLY, IR_ONLY, INTERLEAVED])
def test_both_stems_are_made_whatever_the_first_batch_holds(layout):
    called = []
    stems = [lambda x, name=name: called.append(name) or x for name in ("rgb", "ir")]
    through_stems(*stems, np.ones((4, 1)), layout, 1, True)
    assert called == ["rgb", "ir"]
