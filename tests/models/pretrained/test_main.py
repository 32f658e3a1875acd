"""The command `python -m hitpro_jax.models.pretrained`: what it writes, prints and refuses."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hitpro_jax.models.encoder import Encoder, init_variables
from hitpro_jax.models.pretrained import __main__ as command
from hitpro_jax.models.pretrained import weights
from hitpro_jax.models.temporal import AttentionPool
from tests.models.pretrained.narrow import NARROW, SIZE, tensors


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A file in timm's names of a model that stands in for ViT-B/16, and the lines of a command on it."""
    monkeypatch.setattr(command, "make_encoder", lambda options: NARROW)
    save_file(tensors(), tmp_path / "vit.safetensors")

    def run(*options):
        lines = []
        command.main(
            [str(tmp_path / "vit.safetensors"), str(tmp_path / "out.safetensors"), "--image_size=32,16", *options],
            lines.append,
        )
        return lines

    return tmp_path, run


def test_the_command_writes_one_safe_file_and_prints_all(whole):
    path, run = whole
    lines = run()
    text = "\n".join(lines)
    digest = {name: hashlib.sha256((path / f"{name}.safetensors").read_bytes()).hexdigest() for name in ("vit", "out")}
    assert f"sha256 {digest['vit']}; names of timm" in lines[0]
    assert f"sha256 {digest['out']}" in text
    assert "left out by name: head.bias, head.weight" in lines
    assert "stem_ir starts as a copy of stem_rgb" in text
    assert lines[-1] == (
        f"use: --config.encoder.backbone=vit_b16 --config.init.weights={path / 'out.safetensors'} "
        "--config.data.image_size=32,16"
    )
    found = load_file(path / "out.safetensors")
    assert {leaf.dtype for leaf in found.values()} == {np.dtype("float32")}
    assert f"{sum(leaf.size for leaf in found.values()):,} parameters in float32" in text
    with safe_open(path / "out.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["source_sha256"] == digest["vit"]
    assert metadata["image_size"] == "32,16"
    assert sorted(p.name for p in path.iterdir()) == ["out.safetensors", "vit.safetensors"]
    assert "float16" in run("--half")[-2]
    assert {leaf.dtype for leaf in load_file(path / "out.safetensors").values()} == {np.dtype("float16")}


def test_two_conversions_are_the_same_bytes(whole):
    """Six entries of metadata, whose order safetensors draws anew: five equal draws by chance are one in 10^14."""
    path, run = whole
    written = set()
    for _ in range(6):
        run()
        written.add((path / "out.safetensors").read_bytes())
    assert len(written) == 1
    size = int.from_bytes(next(iter(written))[:8], "little")
    assert size % 8 == 0  # tensors are aligned
    assert weights.read(path / "out.safetensors")[1].keys() == {
        "source",
        "source_sha256",
        "family",
        "backbone",
        "image_size",
        "lacks",
    }
    weights.load_into(init_variables(NARROW, SIZE, 0), path / "out.safetensors")


@pytest.mark.filterwarnings("error")
def test_what_half_precision_cannot_hold_is_refused_by_name(whole):
    path, run = whole
    found = tensors()
    found["norm.weight"][0] = 70_000.0  # over the largest float16
    save_file(found, path / "vit.safetensors")
    run()
    (path / "out.safetensors").unlink()
    with pytest.raises(
        SystemExit,
        match=r"vit\.safetensors gives in float16 NaN or infinity in "
        r"params/backbone/norm/scale: leave --half out",
    ):
        run("--half")
    assert not (path / "out.safetensors").exists()


def test_a_run_at_another_size_gets_the_remedy(whole):
    path, run = whole
    run()
    with pytest.raises(ValueError, match=r"positions \(3, 8\) instead of \(5, 8\).*convert the source again with"):
        weights.load_into(init_variables(NARROW, (32, 32), 0), path / "out.safetensors")


def test_the_neck_and_the_aggregator_start_as_they_are(whole):
    path, run = whole
    run()
    start = init_variables(Encoder(NARROW.backbone, AttentionPool(2)), SIZE, 0)
    lines = []
    loaded = weights.load_into(start, path / "out.safetensors", lines.append)
    assert lines == [f"weights: {path / 'out.safetensors'}; not in it, so as initialised: aggregator, neck"]
    np.testing.assert_array_equal(
        loaded["params"]["aggregator"]["qkv"]["kernel"], start["params"]["aggregator"]["qkv"]["kernel"]
    )
    stems = loaded["params"]["backbone"]
    np.testing.assert_array_equal(stems["stem_ir"]["kernel"], stems["stem_rgb"]["kernel"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.pth", "out"], "error: no file nothing.pth"),
        (["same.safetensors", "same.safetensors"], "SOURCE and OUT are both"),
    ],
)
def test_the_command_ends_with_one_sentence(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        command.main(arguments)


@pytest.mark.parametrize(
    "option", ["--image_size=288", "--image_size=0,16", "--mean=1,2", "--mean=0,0,nan", "--std=1,1,0", "--family=vgg"]
)
def test_bad_options_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        command.main(["a", "b", option])
    assert option.split("=")[0] in capsys.readouterr().err


def test_pixels_from_0_to_1_have_a_mean_of_zero(whole):
    _, run = whole
    assert any("mean 0.0,0.0,0.0, deviation 1.0,1.0,1.0" in line for line in run("--mean=0,0,0", "--std=1,1,1"))


def test_the_command_starts_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hitpro_jax.models.pretrained", str(tmp_path / "nothing.pth"), "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no file {tmp_path / 'nothing.pth'}")  # and no warning before it
