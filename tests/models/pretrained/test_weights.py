"""Weights on disk: what is written, where it lands, and what does not fit; and the file that the package brings."""

import json
import re
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hitpro_jax.models import encoder as encoders
from hitpro_jax.models import resnet
from hitpro_jax.models.pretrained import weights
from hitpro_jax.models.temporal import AttentionPool
from hitpro_jax.options import EncoderOptions

SHIPPED = Path(weights.__file__).parents[1] / "weights" / "resnet_small.safetensors"
TINY = encoders.Encoder(resnet.ResNet(resnet.BasicBlock, (1,), (8,), (2,), 4, 3, False), AttentionPool(2))


def initial(seed: int, encoder=TINY, noise: float = 0.3) -> dict:
    rng = np.random.default_rng(seed)
    start = encoders.init_variables(encoder, (8, 6), seed)
    return jax.tree.map(lambda leaf: (leaf + noise * rng.normal(size=leaf.shape)).astype(np.float32), start)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"w\.safetensors is not a whole safetensors file"):
        weights.load_into(initial(1), tmp_path / "w.safetensors")


def stored(path: Path, dtype: str, data: bytes) -> Path:
    """A safetensors file of one vector, by hand: NumPy's side of the library writes no such types."""
    size = len(data) // (2 if dtype == "BF16" else 1)
    header = json.dumps({"a": {"dtype": dtype, "shape": [size], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_bfloat16_is_read(tmp_path):
    found, _ = weights.read(stored(tmp_path / "w.safetensors", "BF16", bytes([0x80, 0x3F, 0x20, 0xC0])))
    np.testing.assert_array_equal(found["a"].astype(np.float32), np.array([1.0, -2.5], np.float32))


def test_a_type_that_numpy_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"w\.safetensors holds numbers that cannot be read .*save them as float32"):
        weights.read(stored(tmp_path / "w.safetensors", "F8_E4M3", bytes(2)))


def test_round_trip(tmp_path):
    saved, start = initial(1), initial(2)
    path = weights.save(tmp_path / "below" / "w.safetensors", saved, {"seed": "1"})
    assert path.is_file()
    loaded = flatten_dict(weights.load_into(start, path), sep="/")
    saved, start = flatten_dict(saved, sep="/"), flatten_dict(start, sep="/")
    assert loaded.keys() == start.keys()
    for name, leaf in loaded.items():
        assert leaf.dtype == np.float32
        assert leaf.shape == start[name].shape
        if "aggregator" in name:
            np.testing.assert_array_equal(leaf, start[name])
        else:
            source = name.replace("stem_ir", "stem_rgb")
            np.testing.assert_array_equal(leaf, saved[source].astype(np.float16).astype(np.float32))
    assert any("stem_ir" in name for name in loaded)
    assert any("aggregator" in name for name in loaded)


def test_the_file_holds_half_precision_and_neither_infrared_nor_aggregator(tmp_path):
    path = weights.save(tmp_path / "w.safetensors", initial(1), {"seed": "1", "command": "make it"})
    found = load_file(path)
    assert {leaf.dtype for leaf in found.values()} == {np.dtype("float16")}
    assert {"params/neck/scale", "batch_stats/backbone/stem_rgb/bn1/var"} <= found.keys()
    assert not [name for name in found if "stem_ir" in name or "aggregator" in name]
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"seed": "1", "command": "make it"}


def test_a_stored_infrared_stem_is_kept(tmp_path):
    """ImageNet weights have one stem, weights of a training run could hold both."""
    flat = {name: leaf for name, leaf in flatten_dict(initial(1), sep="/").items() if "aggregator" not in name}
    save_file(flat, tmp_path / "both.safetensors")
    loaded = flatten_dict(weights.load_into(initial(2), tmp_path / "both.safetensors"), sep="/")
    name = "params/backbone/stem_ir/conv1/kernel"
    np.testing.assert_array_equal(loaded[name], flat[name])


def test_a_part_of_an_infrared_stem_is_an_error(tmp_path):
    flat = {name: leaf for name, leaf in flatten_dict(initial(1), sep="/").items() if "aggregator" not in name}
    rest = sorted(name for name in flat if "/stem_ir/bn1/" in name)
    save_file(
        {name: leaf for name, leaf in flat.items() if name not in rest},
        tmp_path / "part.safetensors",
        {"lacks": json.dumps([rest[0].replace("stem_ir", "stem_rgb")])},
    )  # of the other stem, so no excuse
    assert rest
    with pytest.raises(ValueError, match=re.escape(f"Not in the file: {rest}")):
        weights.load_into(initial(2), tmp_path / "part.safetensors")


def test_loading_leaves_the_given_variables_alone(tmp_path):
    start = initial(2)
    before = jax.tree.map(np.copy, start)
    weights.load_into(start, weights.save(tmp_path / "w.safetensors", initial(1), {}))
    jax.tree.map(np.testing.assert_array_equal, start, before)


def test_every_misfit_is_listed(tmp_path):
    flat = flatten_dict(initial(1), sep="/")
    del flat["params/neck/scale"], flat["batch_stats/backbone/layer1_0/bn1/mean"]
    flat["params/backbone/layer9_0/conv1/kernel"] = np.zeros((1, 1, 2, 2), np.float32)
    flat["params/backbone/layer1_0/conv1/kernel"] = np.zeros((3, 3, 4, 5), np.float32)
    path = weights.save(tmp_path / "odd.safetensors", unflatten_dict(flat, sep="/"), {})
    with pytest.raises(ValueError, match="does not fit this encoder") as caught:
        weights.load_into(initial(2), path)
    unknown, missing, shape = re.search(
        r"Not in the encoder: (.*)\. Not in the file: (.*)\. Other shape: (.*)\.$", str(caught.value)
    ).groups()
    assert str(path) in str(caught.value)
    assert unknown == "['params/backbone/layer9_0/conv1/kernel']"
    assert missing == "['batch_stats/backbone/layer1_0/bn1/mean', 'params/neck/scale']"
    assert "layer1_0/conv1/kernel (3, 3, 4, 5) instead of (3, 3, 4, 8)" in shape
    assert shape.count("instead of") == 1


@pytest.mark.parametrize(
    ("name", "leaf"),
    [
        ("params/neck/scale", None),
        ("params/other/kernel", np.ones(2, np.float32)),
        ("params/neck/scale", np.ones(2, np.float32)),
    ],
    ids=["missing", "unknown", "other shape"],
)
def test_one_misfit_is_enough(tmp_path, name, leaf):
    flat = {**flatten_dict(initial(1), sep="/"), name: leaf}
    flat = {name: leaf for name, leaf in flat.items() if leaf is not None}
    path = weights.save(tmp_path / "odd.safetensors", unflatten_dict(flat, sep="/"), {})
    with pytest.raises(ValueError, match=name):
        weights.load_into(initial(2), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at .*nothing.safetensors: set init.weights"):
        weights.load_into({}, tmp_path / "nothing.safetensors")


def test_a_relative_file_is_found_beside_the_package_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = "hitpro_jax/models/weights/resnet_small.safetensors"
    assert weights.find(named).samefile(SHIPPED)
    (tmp_path / named).parent.mkdir(parents=True)
    (tmp_path / named).touch()
    assert weights.find(named).resolve() == tmp_path / named  # the working directory comes first


def test_the_parts_that_start_as_they_were_are_reported(tmp_path):
    lines = []
    weights.load_into(initial(2), weights.save(tmp_path / "w.safetensors", initial(1), {}), lines.append)
    assert lines == [f"weights: {tmp_path / 'w.safetensors'}; not in it, so as initialised: aggregator"]


def test_the_shipped_weights():
    assert SHIPPED.is_file(), "make them: python -m experiments.pretrain_small"
    assert SHIPPED.stat().st_size <= 2_000_000
    with safe_open(SHIPPED, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["command"].startswith("python -m experiments.pretrain_small")
    assert metadata["seed"].isdigit()
    assert re.fullmatch("[0-9a-f]{40}", metadata["commit"])
    start = encoders.init_variables(encoders.make_encoder(EncoderOptions("resnet_small", "attention")), (64, 32), 0)
    loaded = weights.load_into(start, SHIPPED)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded))
    assert min(leaf.min() for name, leaf in flatten_dict(loaded, sep="/").items() if name.endswith("var")) > 0
    kernel = ("backbone", "layer4_0", "conv1", "kernel")
    trained, random = (flatten_dict(tree["params"])[kernel] for tree in (loaded, start))
    assert np.abs(trained - random).max() > 0.01
