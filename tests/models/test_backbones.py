"""Every backbone in the list keeps the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.models.backbones import BACKBONES, make_backbone
from hitpro_jax.models.layers import STEM_IR, STEM_RGB
from hitpro_jax.options import EncoderOptions
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY

FRAMES = np.zeros((8, 32, 16, 3), np.float32)  # four clips of two frames


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request):
    """Name, module, and the shapes of its variables."""
    module = make_backbone(EncoderOptions(request.param))
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), FRAMES, RGB_ONLY, 2, False))
    return request.param, module, shapes


@pytest.mark.parametrize("layout", [RGB_ONLY, IR_ONLY, INTERLEAVED])
@pytest.mark.parametrize("train", [False, True])
def test_frames_become_features_of_the_listed_width(backbone, layout, train):
    name, module, variables = backbone

    def apply(variables):
        return module.apply(variables, FRAMES, layout, 2, train, mutable=["batch_stats"])

    features, updates = jax.eval_shape(apply, variables)
    assert features.shape == (8, BACKBONES[name].width)
    assert features.dtype == jnp.float32
    assert set(updates) == {kind for kind in variables if kind == "batch_stats"}


def test_the_stems_are_alike_and_all_else_is_shared(backbone):
    _, _, variables = backbone
    for tree in variables.values():
        assert (STEM_RGB in tree) == (STEM_IR in tree)
    assert variables["params"][STEM_RGB] == variables["params"][STEM_IR]
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_every_backbone_takes_the_shared_options(backbone):
    name, _, variables = backbone
    options = EncoderOptions(name, dtype="bfloat16", as_product=True, remat=True, norm_group=2)
    module = make_backbone(options)
    assert (module.dtype, module.as_product, module.remat, module.norm_group) == (jnp.bfloat16, True, True, 2)
    others = jax.eval_shape(lambda: module.init(jax.random.key(0), FRAMES, INTERLEAVED, 2, True))
    assert others == variables


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(ValueError, match="encoder.backbone is 'vgg': choose one of .*resnet50.*vit_b16_ics"):
        make_backbone(EncoderOptions("vgg"))
