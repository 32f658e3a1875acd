"""The tree itself: imports flow one way and are declared, functions stay small, public names are documented."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hitpro_jax

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "hitpro_jax"

# From the bottom up; a room imports rooms below it, and itself. The rooms of one line do not import each other where
# they are data, kernels and models. What is not listed stands just under the commands.
LAYERS = [
    {"types", "options", "legacy"},
    {"data", "kernels", "models"},
    {"sharding", "distributed", "checkpoint", "optim", "workdir"},
    {"encode", "features", "scoring", "methods"},
    {"steps"},
    {"diagnostics", "evaluate"},
    {"run"},
    {"train"},
    {"commands"},
    {"command_line"},
    {"main"},
]
# What a room may import from outside; rooms that are not listed import what they like, except Flax (below).
OUTSIDE = {
    "types": set(),
    "options": set(),
    "legacy": set(),
    "data": {"numpy", "grain", "cv2", "tqdm", "absl", "array_record", "simplejpeg"},
    "kernels": {"jax", "chex"},
    "configs": {"ml_collections"},
}
# The rooms that configs read their fields and defaults from.
FOR_CONFIGS = ("hitpro_jax.options", "hitpro_jax.data.sets", "hitpro_jax.methods.baselines.options")
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
    below_commands = LAYERS.index({"commands"}) - 1
    return next((i for i, rooms in enumerate(LAYERS) if room in rooms), below_commands)


def fault(room: str, name: str) -> str | None:
    """What is wrong with importing `name` in `room`, if anything."""
    top, *rest = name.split(".")
    if top == PACKAGE:
        other = rest[0]
        sideways = room != other and {room, other} <= LAYERS[1]
        if room == "configs":
            return (
                None if f"{name}.".startswith(tuple(f"{allowed}." for allowed in FOR_CONFIGS)) else "is not for configs"
            )
        return "runs upward or sideways" if layer(other) > layer(room) or sideways else None
    if top == "flax" and room != "models":
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
    assert places == [ROOT / PACKAGE / "models" / "pretrained" / "convert.py"]
    assert not [line for line in places[0].read_text().splitlines() if line.startswith(("import torch", "from torch"))]


def test_contributing_names_the_layers():
    rule = (ROOT / "CONTRIBUTING.md").read_text().split("1. Imports run one way")[1].split("\n2. ")[0]
    layers = rule.split("it: ")[1].split(". ")[0].split("<-")
    assert [set(re.findall(r"\w+", rooms)) for rooms in layers] == LAYERS


def test_every_import_is_allowed():
    assert faults(ROOT) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("types.py", "from hitpro_jax.kernels import losses"),
        ("kernels/losses.py", "from hitpro_jax import models"),
        ("data/pipeline.py", "import hitpro_jax.kernels.search.exact as exact"),
        ("checkpoint.py", "def late():\n    from hitpro_jax.train import run"),
        ("methods/hitpro.py", "from hitpro_jax import main"),
        ("data/records.py", "import jax"),
        ("kernels/losses.py", "import flax"),
        ("kernels/losses.py", "from ml_collections import ConfigDict"),
        ("steps.py", "from flax import linen as nn"),
        ("types.py", "from flax import struct"),
        ("types.py", "from hitpro_jax.options import Options as O; from hitpro_jax.data import records"),
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
        ("kernels/losses.py", "from hitpro_jax.options import WithinOptions"),
        ("kernels/losses.py", "import jax.numpy as jnp\nfrom hitpro_jax.kernels import segments"),
        ("models/vit.py", "import flax.linen as nn\nfrom hitpro_jax.types import Clips"),
        ("explain.py", "from hitpro_jax import evaluate, run, steps"),
        ("commands/search.py", "from hitpro_jax.run import Run"),
        (
            "../configs/vcm.py",
            "from configs import base\nfrom hitpro_jax.data import sets\nfrom ml_collections import ConfigDict",
        ),
    ],
)
def test_an_allowed_import_passes(tmp_path, path, line):
    test_file = tmp_path / PACKAGE / path
    (tmp_path / PACKAGE).mkdir()
    test_file.parent.mkdir(parents=True, exist_ok=True)
    test_file.write_text(line)
    assert faults(tmp_path.resolve()) == []


def functions(folder: str = PACKAGE) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a folder, by default of the package, with its file and name."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    given = function.args
    return [
        each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs) if each.arg not in ("self", "cls")
    ]


@pytest.mark.parametrize("folder", [PACKAGE, "experiments"])
def test_no_function_has_more_than_ten_parameters(folder):
    assert [name for name, function in functions(folder) if len(parameters(function)) > 10] == []


def test_block_and_mesh_travel_as_a_tiling():
    assert [name for name, function in functions() if {"block", "mesh"} <= set(parameters(function))] == []


# Files that need no tests of their own: the lists of a package, and what a package does when it is run.
WITHOUT_TESTS = {"__init__.py", "__main__.py"}


def test_every_module_has_its_tests_at_the_mirrored_place():
    """hitpro_jax/<path>/<name>.py has at least one test in tests/<path>/test_<name>.py."""
    missing = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        mirrored = ROOT / "tests" / path.relative_to(ROOT / PACKAGE).with_name(f"test_{path.name}")
        tested = mirrored.is_file() and re.search(r"^def test_", mirrored.read_text(), re.MULTILINE)
        if path.name not in WITHOUT_TESTS and not tested:
            missing.append(str(mirrored.relative_to(ROOT)))
    assert missing == []


def test_methods_are_asked_by_their_contract_alone():
    """Outside methods/ nothing asks which method it has: no hasattr, no comparison with a method's name."""
    probes = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        room = room_of(path, ROOT)
        if room == "methods":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(r"hasattr\((memory|method|steps|state|self\.method)\b", line) or re.search(
                r"""(method\.name|name) [!=]= ["'](hitpro|frozen|supervised|adca|pgm|cap|sdcl|cluster_contrast)["']""",
                line,
            ):
                probes.append(f"{path.relative_to(ROOT)}:{number}")
    assert probes == []


def test_there_is_no_import_circle():
    """Modules can be sorted so that each imports only earlier ones; imports inside functions count too."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / PACKAGE).rglob("*.py")
    }
    edges = {
        name: {
            target
            for _, imported in imports(path)
            for target in (imported, imported.rpartition(".")[0])
            if target in modules and target != name and not name.startswith(f"{target}.")
        }
        for name, path in modules.items()
    }
    while free := [name for name, needs in edges.items() if not needs & edges.keys()]:
        for name in free:
            del edges[name]
    assert sorted(edges) == []


def test_the_bottom_and_configs_start_no_jax():
    """Sweeps, reports and the parsing of a command line do without JAX and Orbax."""
    names = ["types", "options", "legacy", "data.sets", "command_line", "commands", "workdir", "scoring.result"]
    modules = ", ".join(f"hitpro_jax.{name}" for name in names)
    script = f"import sys, configs.base, {modules}; print(sorted({{'jax', 'orbax', 'flax'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_in_the_docs():
    docs = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    for name in hitpro_jax.__all__:
        assert getattr(hitpro_jax, name).__doc__
        assert re.search(rf"`(hitpro_jax\.)?{name}\b", docs), f"{name} is in no page of docs/"


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
