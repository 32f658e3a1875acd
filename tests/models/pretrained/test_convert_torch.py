"""Reading .pth files; only where torch is installed, which CI and users need not have.

pip install -e .[test,parity]
python -m pytest tests/models/pretrained/test_convert_torch.py
"""

import argparse

import numpy as np
import pytest

from hitpro_jax.models.pretrained import convert

torch = pytest.importorskip("torch", reason="reading .pth files needs torch: pip install -e .[test,parity]")
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"student": {}, "teacher": STATE, "args": argparse.Namespace(lr=0.1)},
        {"model": {"state_dict": STATE}},
        {"a.weight": STATE["a.weight"].bfloat16(), "b": STATE["b"]},
        {"a.weight": torch.nn.Parameter(STATE["a.weight"]), "b": STATE["b"]},
    ],
    ids=["bare", "state_dict", "model", "teacher and options", "nested", "bfloat16", "parameter"],
)
def test_tensors_are_found(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    found = convert.read(tmp_path / "w.pth")
    assert found.keys() == STATE.keys()
    assert found["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(found["a.weight"], np.arange(6.0).reshape(2, 3))


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("content", [{"a": Evil()}, torch.nn.Linear(2, 2)], ids=["code", "whole module"])
def test_what_is_not_tensors_is_never_unpickled(content, tmp_path, capsys):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="w.pth does not hold tensors alone.*torch.save its state_dict"):
        convert.read(tmp_path / "w.pth")
    assert "this must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [([1, 2], "holds a list instead"), ({"a": 3}, r"other things.*\['a'\]")]
)
def test_other_contents_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=message):
        convert.read(tmp_path / "w.pth")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_download_that_broke_off_gets_the_remedy(old, part, tmp_path):
    torch.save({"a.weight": torch.ones(100, 100)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match=r"w\.pth is cut short or no torch file: fetch it again"):
        convert.read(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore")  # torch's own: quantised tensors are on their way out
@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta"])
def test_a_tensor_that_is_not_plain_is_named(kind, tmp_path):
    plain = torch.eye(3)
    value = {
        "sparse": plain.to_sparse,
        "quantised": lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8),
        "meta": lambda: plain.to("meta"),
    }[kind]()
    torch.save({"a.weight": STATE["a.weight"], "b.weight": value}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"b\.weight in .*w\.pth is no plain tensor \(.*torch.save a state_dict"):
        convert.read(tmp_path / "w.pth")


def test_a_scripted_model_gets_the_remedy(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "clip.pt")
    with pytest.raises(ValueError, match="torch.save its state_dict"):
        convert.read(tmp_path / "clip.pt")
