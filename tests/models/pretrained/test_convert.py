"""Conversion of public weights: what stops it, sizes of positions, pixels, and files that cannot be read."""

import json
import re
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from hitpro_jax.models import resnet, vit
from hitpro_jax.models.encoder import MEAN, STD, Encoder, init_variables, shapes_of
from hitpro_jax.models.pretrained import convert, naming, weights
from hitpro_jax.models.temporal import MeanPool
from tests.models.pretrained.narrow import NARROW, SIZE, tensors
from tests.reference import public_weights as public


def converted(found: dict, **options) -> tuple[dict, list]:
    return convert.convert(naming.recognise(found, "w.pth"), NARROW, SIZE, path="w.pth", **options)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "base.", "module.backbone.", "model."])
def test_wrappers_are_stripped(prefix):
    leaves, lacks = converted({prefix + name: value for name, value in tensors().items()})
    expected, _ = converted(tensors())
    assert lacks == ["batch_stats/neck/mean", "batch_stats/neck/var", "params/neck/scale"]
    for name, value in expected.items():
        np.testing.assert_array_equal(leaves[name], value)


def test_a_name_beside_the_tower_that_no_rule_knows_stops_it():
    found = {f"visual.{name}": value for name, value in public.state_dict(public.clip(8, 1)).items()}
    source = naming.recognise(found | {"audio.weight": np.ones(3)}, "w.pth")
    with pytest.raises(ValueError, match=r"Not in the encoder: \['outside:audio.weight \(source: audio.weight\)'\]"):
        convert.convert(
            source, Encoder(vit.vit_b16_clip().clone(width=8, depth=1, heads=2), MeanPool()), SIZE, path="w.pth"
        )


def test_every_misfit_is_listed_in_both_directions():
    found = tensors(
        **{
            "dist_token": np.ones((1, 1, 8)),
            "blocks.0.ls1.gamma": np.ones(8),
            "norm.bias": None,
            "blocks.0.mlp.fc1.weight": np.ones((5, 8), np.float32),
        }
    )
    with pytest.raises(ValueError, match="does not fit this encoder") as caught:
        converted(found)
    lists = r"w\.pth .*Not in the encoder: (.*)\. Not in the file: (.*)\. Other shape: (.*)\.$"
    unknown, missing, shape = re.search(lists, str(caught.value)).groups()
    assert unknown == "['blocks.0.ls1.gamma', 'dist_token']"
    assert missing == "['params/backbone/norm/bias']"
    assert shape == "['params/backbone/layer0/fc1/kernel (source: blocks.0.mlp.fc1.weight) (8, 5) instead of (8, 32)']"


FAMILIES = {  # tensors, a model that they fit
    "torchvision": (public.torchvision((1, 1, 1, 1)), resnet.resnet50().clone(depths=(1, 1, 1, 1))),
    "timm": (public.timm(8, 1), NARROW.backbone),
    "transreid_ssl": (public.transreid_ssl(8, 1), NARROW.backbone.clone(conv_stem=True)),
    "clip": (public.clip(8, 1), vit.vit_b16_clip().clone(width=8, depth=1, heads=2)),
    "clip_hf": (public.clip_hf(8, 1), vit.vit_b16_clip().clone(width=8, depth=1, heads=2)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_tensor_that_is_missing_is_listed(family, monkeypatch):
    shapes, backbone = FAMILIES[family]
    found, encoder = public.state_dict(shapes), Encoder(backbone, MeanPool())
    abstract = shapes_of(encoder, SIZE)
    monkeypatch.setattr(convert, "shapes_of", lambda encoder, image_size: abstract)
    whole = naming.recognise(found, "w.pth")
    assert whole.family == family
    leaves, _ = convert.convert(whole, encoder, SIZE, path="w.pth")
    listed = set()
    for name in found.keys() - set(whole.left_out):
        source = naming.recognise({key: value for key, value in found.items() if key != name}, "w.pth", family)
        with pytest.raises(ValueError, match="Not in the file: ") as caught:
            convert.convert(source, encoder, SIZE, path="w.pth")
        missing = re.search(r"Not in the file: \['([^',]*)'\]", str(caught.value))
        assert missing, (name, str(caught.value))  # one name and no other
        listed.add(missing.group(1))
    made = {"params/backbone/stem_rgb/bias"} if family.startswith("clip") else set()  # by folding CLIP's pixels
    assert listed == leaves.keys() - made


def test_the_second_token_of_a_distilled_model_is_listed():
    found = tensors(dist_token=np.ones((1, 1, 8)), pos_embed=np.ones((1, 11, 8)))
    with pytest.raises(ValueError, match=r"Not in the encoder: \['dist_token'\]. Not in the file: \[\]"):
        converted(found)


def test_what_is_named_may_be_missing_or_left_over(tmp_path):
    found = tensors(**{"blocks.0.ls1.gamma": np.ones(8), "norm.bias": None})
    named = frozenset({"blocks.0.ls1.gamma", "params/backbone/norm/bias"})
    leaves, lacks = converted(found, partial=named)
    assert "params/backbone/norm/bias" in lacks
    assert not named & leaves.keys()
    weights.write(tmp_path / "w.safetensors", leaves, {"lacks": json.dumps(lacks)})
    lines = []
    loaded = weights.load_into(init_variables(NARROW, SIZE, 0), tmp_path / "w.safetensors", lines.append)
    assert not loaded["params"]["backbone"]["norm"]["bias"].any()
    assert len(lines) == 1
    assert lines[0].endswith("not in it, so as initialised: neck, params/backbone/norm/bias")
    for name in named:
        with pytest.raises(ValueError, match=name):
            converted(found, partial=named - {name})
    with pytest.raises(ValueError, match=r"neither w.pth nor the encoder has alone: \['nothing'\]"):
        converted(found, partial=named | {"nothing"})


def test_misfits_are_listed_by_the_names_in_the_file_too():
    """Behind wrappers, as joined by us; and --partial takes the one name or the other."""
    found = {f"module.{name}": value for name, value in tensors(**{"norm2.weight": np.ones(3)}).items()}
    for name in ("module.norm2.weight", "norm2.weight"):
        leaves, _ = converted(found, partial=frozenset({name}))
        assert "norm2.weight" not in leaves
    with pytest.raises(ValueError, match=re.escape("['norm2.weight (source: module.norm2.weight)']")):
        converted(found)
    converted(
        tensors(**{f"extra.{part}_proj.weight": np.ones(3) for part in "qkv"}),
        partial=frozenset({"extra.k_proj.weight"}),
    )
    shapes, backbone = FAMILIES["clip_hf"]
    found = {f"vision_model.{name}": value for name, value in public.state_dict(shapes).items()}
    for part in "qkv":
        found[f"vision_model.encoder.layers.0.self_attn.{part}_proj.bias"] = np.ones(5, np.float32)
    joined = " + ".join(f"vision_model.encoder.layers.0.self_attn.{part}_proj.bias" for part in "qkv")
    with pytest.raises(ValueError, match=re.escape(f"layer0/qkv/bias (source: {joined}) (15,) instead of (24,)")):
        convert.convert(naming.recognise(found, "w.pth"), Encoder(backbone, MeanPool()), SIZE, path="w.pth")


@pytest.mark.parametrize(("count", "grid"), [(9, (3, 3)), (8, (4, 2)), (1, (1, 1))])
def test_the_grid_of_positions_is_a_square_or_twice_as_high(count, grid):
    positions = np.random.default_rng(0).normal(size=(count + 1, 4)).astype(np.float32)
    np.testing.assert_array_equal(convert.resize_positions(positions, None, grid), positions)
    np.testing.assert_array_equal(
        convert.resize_positions(positions, None, (5, 4)), convert.resize_positions(positions, grid, (5, 4))
    )
    assert convert.resize_positions(positions, None, (5, 4)).shape == (21, 4)


def test_another_grid_of_positions_must_be_given():
    positions = np.ones((13, 4), np.float32)
    with pytest.raises(ValueError, match=r"w\.pth has 12 positions.*--source_size"):
        converted(tensors(pos_embed=np.ones((1, 13, 8), np.float32)))
    assert convert.resize_positions(positions, (3, 4), (5, 4)).shape == (21, 4)


@pytest.mark.parametrize("shape", [(), (8,), (1, 8), (1, 0, 8), (1, 1, 8), (2, 10, 8), (1, 3, 3, 8), (1, 1, 10, 8)])
def test_positions_that_are_no_table_are_refused(shape):
    with pytest.raises(ValueError, match=rf"pos_embed in w\.pth is {re.escape(str(list(shape)))}, but positions are"):
        converted(tensors(pos_embed=np.ones(shape, np.float32)))


def test_resized_positions_keep_token_constants_and_slopes():
    rows, columns = np.mgrid[:8, :6].astype(np.float32)
    cells = np.stack([np.ones_like(rows), rows, columns], -1).reshape(-1, 3)
    positions = np.concatenate([[[7.0, 8.0, 9.0]], cells]).astype(np.float32)
    new = convert.resize_positions(positions, (8, 6), (16, 12))
    np.testing.assert_array_equal(new[0], [7, 8, 9])
    grid = new[1:].reshape(16, 12, 3)
    np.testing.assert_allclose(grid[..., 0], 1.0, atol=1e-6)
    inside = grid[4:-4, 4:-4]  # away from the repeated border, a plane stays a plane: position (i + 0.5) / 2 - 0.5
    down, right = (np.arange(4, 12)[:, None] - 0.5) / 2, (np.arange(4, 8)[None] - 0.5) / 2
    np.testing.assert_allclose(inside[..., 1], np.broadcast_to(down, (8, 4)), atol=0.05)
    np.testing.assert_allclose(inside[..., 2], np.broadcast_to(right, (8, 4)), atol=0.05)


def test_pixels_are_folded_exactly():
    mean, std = (0.2, 0.5, 0.7), (0.5, 0.25, 0.1)
    image = np.random.default_rng(0).uniform(size=(16, 16, 3))
    plain, folded = (converted(tensors(), **options)[0] for options in ({}, {"mean": mean, "std": std}))

    def embed(leaves, pixels):
        kernel, bias = (leaves[f"params/backbone/stem_rgb/{name}"] for name in ("kernel", "bias"))
        return np.einsum("hwi,hwio->o", pixels, kernel) + bias

    ours, theirs = embed(folded, (image - MEAN) / STD), embed(plain, (image - mean) / std)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(theirs - embed(plain, (image - MEAN) / STD)).max() > 0.5


def test_a_patch_bias_that_may_be_missing_is_made_of_the_pixels():
    """What folding writes is not reported as missing; without a kernel there is nothing to fold."""
    bias, kernel = (f"params/backbone/stem_rgb/{name}" for name in ("bias", "kernel"))
    leaves, lacks = converted(tensors(**{"patch_embed.proj.bias": None}), partial=frozenset({bias}), mean=(0.5,) * 3)
    assert bias in leaves
    assert bias not in lacks
    shapes, backbone = FAMILIES["clip"]
    source = naming.recognise(public.state_dict({n: s for n, s in shapes.items() if n != "conv1.weight"}), "w.pth")
    leaves, lacks = convert.convert(
        source, Encoder(backbone, MeanPool()), SIZE, path="w.pth", partial=frozenset({kernel})
    )
    assert {bias, kernel} <= set(lacks)
    assert not {bias, kernel} & leaves.keys()


def test_pixels_of_a_padded_convolution_cannot_be_folded():
    with pytest.raises(ValueError, match="must be ImageNet's here: the first convolution pads"):
        convert.fold_pixels(
            {"params/backbone/stem_rgb/conv1/kernel": np.ones((7, 7, 3, 1))}, np.full(3, 0.5), np.array(STD)
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value):
    found = tensors()
    found["blocks.0.mlp.fc1.weight"][0, 0] = found["norm.bias"][-1] = value
    listed = (
        "params/backbone/layer0/fc1/kernel (source: blocks.0.mlp.fc1.weight), "
        "params/backbone/norm/bias (source: norm.bias)"
    )
    with pytest.raises(ValueError, match=re.escape(f"w.pth holds NaN or infinity in {listed}: fetch")):
        converted(found)


def archive(path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "")


def test_without_torch_a_torch_file_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    archive(tmp_path / "w.pth", "w/data.pkl")
    with pytest.raises(ValueError, match="w.pth is a torch file, and torch is not installed"):
        convert.read(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 and no end", b"<!DOCTYPE html><html>404</html>"], ids=["empty", "cut short", "a page"]
)
def test_a_file_that_torch_has_not_written_is_refused(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth is cut short or no torch file: fetch it again"):
        convert.read(tmp_path / "w.pth")


def test_another_archive_is_no_torch_file(tmp_path):
    archive(tmp_path / "w.pth", "readme.txt")
    with pytest.raises(ValueError, match=r"w\.pth is cut short or no torch file: fetch it again"):
        convert.read(tmp_path / "w.pth")


def test_safetensors_under_another_name_get_the_remedy(tmp_path):
    save_file(tensors(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth looks like a safetensors file: give it the ending \.safetensors"):
        convert.read(tmp_path / "w.pth")
