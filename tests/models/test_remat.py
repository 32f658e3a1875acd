"""Recomputed activations: the same gradients and parameters, and less memory on CPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models import resnet, vit
from hitpro_jax.models.encoder import Encoder, init_variables
from hitpro_jax.models.temporal import MeanPool
from tests.models.random_inputs import backbone_of, pictures, variables_of

TINY = partial(resnet.ResNet, resnet.BasicBlock, (1,), (6,), (2,), 4, 3, False)


def test_remat_gives_the_same_gradients_and_parameters():
    x = pictures(2)

    def gradient_of(module):
        def loss(params):
            features, new = module.apply({**variables, "params": params}, x, "rgb", 1, True, mutable=["batch_stats"])
            return (features**2).sum(), new["batch_stats"]

        return jax.grad(loss, has_aux=True)

    variables = variables_of(TINY(), x, "rgb", 1, True)
    plain, again = gradient_of(TINY()), gradient_of(TINY(remat=True))
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
        *jax.jit(lambda params: (plain(params), again(params)))(variables["params"]),
    )
    programs = [str(jax.make_jaxpr(function)(variables["params"])) for function in (plain, again)]
    assert ["cond[" in program for program in programs] == [False, True]


@pytest.mark.slow
def test_remat_saves_memory_that_grows_with_depth():
    """Of the compiled program: nn.remat alone saves nothing on CPUs."""

    def temporaries(remat: bool) -> int:
        backbone = vit.ViT(32, 6, 2, patch=2, remat=remat)
        variables = backbone_of(init_variables(Encoder(backbone, MeanPool()), (16, 16), 0))
        x = jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.float32)
        loss = jax.grad(lambda p, x: (backbone.apply({"params": p}, x, "rgb", 1, True) ** 2).sum())
        return jax.jit(loss).lower(variables["params"], x).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(True) < 0.5 * temporaries(False)
