"""Imports flow one way, each room imports only what its job needs, and what is imported is declared."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "hitpro_jax"

# From the bottom up; a room imports rooms below it, and itself. What is not listed stands just under main.
LAYERS = [
    {"types"},
    {"data", "kernels", "models"},
    {"sharding", "distributed", "checkpoint", "optim", "writers"},
    {"embedding", "scoring", "methods"},
    {"steps"},
    {"diagnostics", "evaluate"},
    {"train"},
    {"main"},
]
# What a room may import from outside; rooms that are not listed import what they like, but no Flax (below).
OUTSIDE = {
    "data": {"numpy", "grain", "cv2", "tqdm", "absl", "array_record", "simplejpeg"},
    "kernels": {"jax", "chex"},
    "configs": {"ml_collections"},
}
DISTRIBUTIONS = {
    "absl": "absl-py",
    "cv2": "opencv-python-headless",
    "orbax": "orbax-checkpoint",
    "sklearn": "scikit-learn",
    "open_clip": "open_clip_torch",
}


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of every import in a file; `from a import b` gives a.b, as b may be a module."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively: write {PACKAGE}. in full"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def room_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return parts[1] if parts[0] == PACKAGE else parts[0]


def layer(room: str) -> int:
    return next((i for i, rooms in enumerate(LAYERS) if room in rooms), len(LAYERS) - 2)


def fault(room: str, name: str) -> str | None:
    """What is wrong with importing `name` in `room`, if anything."""
    top, *rest = name.split(".")
    if top == PACKAGE:
        other = rest[0]
        apart = room != other and {room, other} <= LAYERS[1]
        return "runs upward or sideways" if room == "configs" or layer(other) > layer(room) or apart else None
    if top == "flax" and room != "models" and not (room == "types" and rest[:1] == ["struct"]):
        return "takes Flax out of models/"
    known = top in sys.stdlib_module_names or top == room
    return f"is not for {room}" if not known and room in OUTSIDE and top not in OUTSIDE[room] else None


def faults(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{line} imports {name}: {problem}"
        for folder in (PACKAGE, "configs")
        for path in sorted((root / folder).rglob("*.py"))
        for line, name in imports(path)
        if (problem := fault(room_of(path, root), name))
    ]


def test_torch_is_imported_where_it_is_needed_alone():
    """It is no dependency: nothing may need it before a .pth file is read."""
    places = [path for path in (ROOT / PACKAGE).rglob("*.py") if "torch" in {name for _, name in imports(path)}]
    assert places == [ROOT / PACKAGE / "models" / "convert.py"]
    assert not [line for line in places[0].read_text().splitlines() if line.startswith(("import torch", "from torch"))]


def test_every_import_is_allowed():
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("types.py", "from hitpro_jax.kernels import losses"),
        ("kernels/losses.py", "from hitpro_jax import models"),
        ("data/pipeline.py", "import hitpro_jax.kernels.search.exact as mining"),
        ("checkpoint.py", "def late():\n    from hitpro_jax.train import run"),
        ("methods/hitpro.py", "from hitpro_jax import main"),
        ("data/records.py", "import jax"),
        ("kernels/losses.py", "import flax"),
        ("kernels/losses.py", "from ml_collections import ConfigDict"),
        ("steps.py", "from flax import linen as nn"),
        ("types.py", "import flax.linen"),
        ("../configs/vcm.py", "from hitpro_jax.data import records"),
        ("../configs/vcm.py", "import numpy"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, path, line):
    file = tmp_path / PACKAGE / path
    (tmp_path / PACKAGE).mkdir()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    assert len(faults(tmp_path.resolve())) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("types.py", "from flax import struct"),
        ("kernels/losses.py", "import jax.numpy as jnp\nfrom hitpro_jax.kernels import segments"),
        ("models/vit.py", "import flax.linen as nn\nfrom hitpro_jax.types import Clips"),
        ("search.py", "from hitpro_jax import evaluate, steps"),
        ("../configs/vcm.py", "from configs import base\nfrom ml_collections import ConfigDict"),
    ],
)
def test_an_allowed_import_passes(tmp_path, path, line):
    test_file = tmp_path / PACKAGE / path
    (tmp_path / PACKAGE).mkdir()
    test_file.parent.mkdir(parents=True, exist_ok=True)
    test_file.write_text(line)
    assert faults(tmp_path.resolve()) == []


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bare(requirement: str) -> str:
    return re.match(r"[\w-]+", requirement)[0]


def test_requirements_txt_is_the_project_with_cuda12():
    """pip reads two lists, so they are held together here."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    (extra,) = project()["optional-dependencies"]["cuda12"]
    assert listed == [r.replace("jax>", f"{extra}>") if bare(r) == "jax" else r for r in project()["dependencies"]]


def test_outside_imports_are_the_declared_dependencies():
    names = (
        {
            name.split(".")[0]
            for folder in (PACKAGE, "configs")
            for path in (ROOT / folder).rglob("*.py")
            for _, name in imports(path)
        }
        - set(sys.stdlib_module_names)
        - {PACKAGE, "configs"}
    )
    extras = project()["optional-dependencies"]
    declared = project()["dependencies"] + extras["convert"]
    assert {DISTRIBUTIONS.get(name, name) for name in names} == {bare(r) for r in declared}


def test_the_extra_parity_is_what_its_goldens_are_made_with():
    outside = {name.split(".")[0] for _, name in imports(ROOT / "tests" / "goldens" / "make_model_goldens.py")}
    needed = {DISTRIBUTIONS.get(name, name) for name in outside - set(sys.stdlib_module_names) - {"tests", "numpy"}}
    extras = project()["optional-dependencies"]
    assert needed == {bare(requirement) for requirement in extras["parity"]}
    assert extras["convert"] == extras["parity"][:1]  # .pth files are read with the torch that is tested
