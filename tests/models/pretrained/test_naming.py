"""Names of public weights: families, prefixes, what is left out, what is joined."""

import numpy as np
import pytest

from hitpro_jax.models.pretrained import naming
from tests.models.pretrained.narrow import tensors
from tests.reference import public_weights as public


def test_heads_and_text_are_left_out_and_listed():
    tower = {f"visual.{name}": value for name, value in public.state_dict(public.clip(8, 1)).items()}
    found = naming.recognise(
        tower
        | {
            "positional_embedding": np.ones(3),
            "transformer.resblocks.0.attn.in_proj_weight": np.ones(3),
            "module.logit_scale": np.ones(()),
        },
        "w.pth",
    )
    assert found.family == "clip"
    assert found.left_out == [
        "module.logit_scale",
        "positional_embedding",
        "transformer.resblocks.0.attn.in_proj_weight",
        "visual.proj",
    ]
    assert found.tensors["positional_embedding"].shape == (197, 8)
    assert naming.recognise(tensors(), "w.pth").left_out == ["head.bias", "head.weight"]


def test_names_of_no_known_family_are_refused():
    with pytest.raises(ValueError, match=r"w.pth are of no known family.*\['a', 'b'\].*torchvision"):
        naming.recognise({"a": np.ones(1), "b": np.ones(1)}, "w.pth")


def test_two_models_in_one_file_are_refused():
    with pytest.raises(ValueError, match="holds norm.bias twice"):
        naming.recognise(tensors() | {"module.norm.bias": np.ones(8)}, "w.pth")


def test_split_projections_become_one():
    found = naming.recognise(public.state_dict(public.clip_hf(8, 1)), "w.pth")
    names = [f"encoder.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    joined = "encoder.layers.0.self_attn.qkv.weight"
    np.testing.assert_array_equal(found.tensors[joined], np.concatenate([public.tensor(n, (8, 8)) for n in names]))
    assert found.origin[joined] == " + ".join(names)
    assert not set(names) & found.tensors.keys()


@pytest.mark.parametrize("family", naming.FAMILIES)
def test_a_family_is_known_by_its_marker_or_given(family):
    marker = naming.FAMILIES[family].marker
    assert naming.recognise({marker: np.ones(1)}, "w.pth").family == family
    assert naming.recognise({"a": np.ones(1)}, "w.pth", family).family == family


def test_a_name_that_no_rule_knows_has_no_translation():
    rules = naming.FAMILIES["timm"].rules
    assert naming.translate("blocks.3.norm1.weight", np.ones(4), rules) == "params/backbone/layer3/norm1/scale"
    assert naming.translate("blocks.3.mlp.fc1.weight", np.ones((4, 4)), rules) == "params/backbone/layer3/fc1/kernel"
    assert naming.translate("blocks.3.ls1.gamma", np.ones(4), rules) is None
