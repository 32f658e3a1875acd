"""Converted public weights give the activations of PyTorch's own modules.

Weights in the public names are made here, written as safetensors, converted and loaded as a user would; the activations
to meet are in tests/goldens/models, made by tests/goldens/make_model_goldens.py.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from hitpro_jax.models import resnet, vit
from hitpro_jax.models.encoder import MEAN, STD, Encoder, init_variables, make_encoder
from hitpro_jax.models.pretrained import __main__ as command
from hitpro_jax.models.pretrained import convert, naming, weights
from hitpro_jax.models.temporal import MeanPool
from hitpro_jax.options import EncoderOptions
from hitpro_jax.types import INTERLEAVED, IR_ONLY, RGB_ONLY
from tests.models.random_inputs import backbone_of
from tests.reference import public_weights as public

GOLDENS = Path(__file__).parents[2] / "goldens" / "models"
SIZE, SMALL = (288, 144), (64, 32)
TOLERANCE = 1e-4  # largest difference over largest value, float32


def under(prefix: str, shapes: public.Shapes) -> dict[str, np.ndarray]:
    """A state dict whose values are drawn by the bare names, below a prefix."""
    return {prefix + name: value for name, value in public.state_dict(shapes).items()}


def text_tower() -> dict[str, np.ndarray]:
    names = ("positional_embedding", "transformer.resblocks.0.ln_1.weight", "token_embedding.weight", "logit_scale")
    return {name: np.ones((2, 2), np.float32) for name in names}


CASES = {  # golden, tensors, backbone, image size, options
    "torchvision": (
        "torchvision_1111",
        lambda: under("", public.torchvision((1, 1, 1, 1))),
        resnet.resnet50().clone(depths=(1, 1, 1, 1)),
        SMALL,
        {},
    ),
    "timm": (
        "timm_narrow",
        lambda: under("", public.timm(128, 2)),
        vit.ViT(128, 2, 4),
        SIZE,
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    ),
    # names as TransReID wraps them; its positions would be resized bilinearly there, ours are bicubically for all
    "timm_wrapped": (
        "timm_narrow",
        lambda: under("module.base.", public.timm(128, 2)),
        vit.ViT(128, 2, 4),
        SIZE,
        {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    ),
    "transreid_ssl": (
        "transreid_ssl_narrow",
        lambda: under("backbone.", public.transreid_ssl(128, 2)),
        vit.ViT(128, 2, 4, conv_stem=True),
        SIZE,
        {},
    ),
    "clip": (
        "clip_narrow",
        lambda: under("visual.", public.clip(128, 2)) | text_tower(),
        vit.vit_b16_clip().clone(width=128, depth=2, heads=4),
        SIZE,
        {},
    ),
    "clip_hf": (
        "clip_hf_narrow",
        lambda: (
            under("vision_model.", public.clip_hf(128, 2))
            | {"text_model.final_layer_norm.weight": np.ones(3, np.float32), "logit_scale": np.ones((), np.float32)}
        ),
        vit.vit_b16_clip().clone(width=128, depth=2, heads=4),
        SIZE,
        {},
    ),
}


def loaded(tmp_path, tensors, encoder, size, options) -> dict:
    """The backbone's variables, by way of two files."""
    save_file(tensors, tmp_path / "public.safetensors")
    source = naming.recognise(convert.read(tmp_path / "public.safetensors"), "public.safetensors")
    leaves, lacks = convert.convert(source, encoder, size, path="public.safetensors", **options)
    weights.write(tmp_path / "ours.safetensors", leaves, {"lacks": json.dumps(lacks)})
    return backbone_of(weights.load_into(init_variables(encoder, size, 0), tmp_path / "ours.safetensors"))


def activations(backbone, variables, size, layout, early):
    """Features and one early part's output of the four frames, as two clips of two frames."""
    x = (jnp.asarray(public.frames(size), jnp.float32) / 255.0 - jnp.array(MEAN)) / jnp.array(STD)
    features, state = jax.jit(
        lambda x: backbone.apply(
            variables,
            x,
            layout,
            2,
            False,
            capture_intermediates=lambda module, _: module.name == early,
            mutable=["intermediates"],
        )
    )(x)
    seen = state["intermediates"][early]["__call__"][0]
    return {"features": features, "early": seen.mean(tuple(range(1, seen.ndim - 1)))}


def require_parity(golden, found):
    with np.load(GOLDENS / f"{golden}.npz") as expected:
        assert set(expected.files) == set(found)
        for name in expected.files:
            assert found[name].shape == expected[name].shape
            assert found[name].dtype == np.float32
            assert np.abs(expected[name]).max() > 0.5
            assert expected[name].std(0).max() > 0.01
            error = np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()
            assert error <= TOLERANCE, (name, error)


@pytest.mark.parametrize("family", CASES)
def test_activations_equal_torch(family, tmp_path):
    golden, tensors, backbone, size, options = CASES[family]
    variables = loaded(tmp_path, tensors(), Encoder(backbone, MeanPool()), size, options)
    early = "layer1_0" if golden.startswith("torchvision") else "layer0"
    layouts = (RGB_ONLY, IR_ONLY, INTERLEAVED) if family in ("torchvision", "timm") else ("ir",)
    for layout in layouts:
        require_parity(golden, activations(backbone, variables, size, layout, early))


@pytest.mark.parametrize(
    ("golden", "tensors", "name", "size", "early"),
    [
        pytest.param(
            "torchvision_resnet50",
            lambda: under("", public.torchvision((3, 4, 6, 3))),
            "resnet50",
            SMALL,
            "layer1_2",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "timm_b16", lambda: under("", public.timm(768, 12)), "vit_b16", SIZE, "layer0", marks=pytest.mark.slow
        ),
        pytest.param(
            "clip_b16",
            lambda: under("visual.", public.clip(768, 12)) | text_tower(),
            "vit_b16_clip",
            SIZE,
            "layer0",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_command_on_whole_models(golden, tensors, name, size, early, tmp_path):
    save_file(tensors(), tmp_path / "public.safetensors")
    lines = []
    command.main(
        [str(tmp_path / "public.safetensors"), str(tmp_path / "ours.safetensors"), f"--image_size={size[0]},{size[1]}"],
        lines.append,
    )
    assert f"--config.encoder.backbone={name}" in lines[-1]
    encoder = make_encoder(EncoderOptions(name, "attention"))
    variables = backbone_of(weights.load_into(init_variables(encoder, size, 0), tmp_path / "ours.safetensors"))
    require_parity(golden, activations(encoder.backbone, variables, size, INTERLEAVED, early))
