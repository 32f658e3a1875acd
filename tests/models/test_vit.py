"""The ViT: stems of two modalities, recomputed activations, half precision."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models import vit
from hitpro_jax.models.encoder import Encoder, init_variables, make_encoder
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.options import EncoderOptions
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY
from tests.models.random_inputs import backbone_of


def test_modalities_part_at_the_stem_of_a_vit():
    """Frames reach the stem of their modality, and every stem its own frames alone."""
    backbone = vit.ViT(16, 1, 2, patch=4)
    variables = jax.tree.map(np.copy, init_variables(Encoder(backbone, MeanPool()), (8, 8), 0))
    variables = backbone_of(variables)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    apply = jax.jit(partial(backbone.apply, variables), static_argnums=(1, 2, 3))
    both = np.asarray(apply(x, INTERLEAVED, 2, False)).reshape(2, 2, 2, -1)
    for index, layout in enumerate((RGB_ONLY, IR_ONLY)):
        frames = x.reshape(2, 2, 2, 8, 8, 3)[:, index].reshape(4, 8, 8, 3)
        alone = apply(frames, layout, 2, False)
        np.testing.assert_allclose(both[:, index].reshape(4, -1), alone, atol=1e-5)
        other = apply(frames, (IR_ONLY, RGB_ONLY)[index], 2, False)
        assert np.abs(alone - other).max() > 0.05


def test_a_vit_of_another_patch_size_is_refused():
    with pytest.raises(ValueError, match="do not fall into patches of 16 x 16"):
        init_variables(make_encoder(EncoderOptions("vit_b16", "mean")), (100, 48), 0)


def test_remat_and_half_precision_of_a_vit():
    backbone = vit.ViT(16, 2, 2, patch=4)
    variables = backbone_of(init_variables(Encoder(backbone, MeanPool()), (8, 8), 0))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)

    def gradient(module):
        return jax.grad(lambda p: (module.apply({"params": p}, x, "rgb", 1, True)[:, :8] ** 2).sum())

    plain, again = gradient(backbone), gradient(backbone.clone(remat=True))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        *jax.jit(lambda p: (plain(p), again(p)))(variables["params"]),
    )
    rounding = backbone.clone(dtype=jnp.bfloat16)
    exact, half = jax.jit(lambda x: [module.apply(variables, x, "rgb", 1, False) for module in (backbone, rounding)])(x)
    seen = jax.eval_shape(
        lambda x: rounding.apply(variables, x, "rgb", 1, False, capture_intermediates=True, mutable=["intermediates"])[
            1
        ]["intermediates"],
        x,
    )
    block = seen["layer1"]
    assert block["proj"]["__call__"][0].dtype == jnp.bfloat16  # products
    assert block["norm2"]["__call__"][0].dtype == block["__call__"][0].dtype == jnp.float32  # norms, residual stream
    assert half.dtype == jnp.float32
    assert 1e-4 < np.abs(exact - half).max() < 0.15
