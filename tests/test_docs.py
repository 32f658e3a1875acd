"""Links of the documents lead somewhere, the README is short, and the examples of docs/extend fit and run."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GUIDES = sorted((ROOT / "docs" / "extend").glob("*.md"))
BLOCK = re.compile(r"^```(\w+) (file=(\S+)|run)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_front_door_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


def test_every_page_is_in_the_index():
    links = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page != "index.md" and f"({page})" not in links] == []


def patched(text: str, change: str) -> str:
    """A file after the hunks of a printed diff, which have no line numbers and are separated by `...`."""
    for hunk in change.split("...\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert f"\n{text}".count(f"\n{before}") == 1, f"not once in the file:\n{before}"
        text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
    return text


def test_hunks_are_replaced_where_they_stand():
    assert patched("a\nb\nc\n", " a\n+x\n...\n-c\n+d\n") == "a\nx\nb\nd\n"


def names_of(module: Path) -> set[str]:
    """Names that a module's file defines or imports; of a package its modules too."""
    names = {path.stem for path in module.parent.iterdir()} if module.name == "__init__.py" else set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {each.asname or each.name for each in node.names}
    return names


def imports_that_lead_nowhere(code: str, root: Path) -> list[str]:
    """Names that code imports from hitpro_jax or configs, and that the files below `root` do not have."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        modules = []
        if isinstance(node, ast.ImportFrom):
            modules = [(node.module, each.name) for each in node.names]
        elif isinstance(node, ast.Import):
            modules = [(each.name, None) for each in node.names]
        for module, name in modules:
            if module.split(".")[0] not in ("hitpro_jax", "configs"):
                continue
            path = root / module.replace(".", "/")
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if not file.is_file() or (name and name not in names_of(file)):
                missing.append(f"{module}.{name}" if name else module)
    return missing


def write(root: Path, language: str, file: str, code: str) -> None:
    """Writes a file that a guide prints, or changes one."""
    (root / file).write_text(patched((root / file).read_text(), code) if language == "diff" else code)


@pytest.fixture
def copy(tmp_path) -> Path:
    """The package and its configs in a folder of their own."""
    for name in ("hitpro_jax", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_example_of_a_guide_fits_the_package(guide, copy):
    """Its changes apply, its code compiles, and what it imports is there. Nothing runs: the slow test does that."""
    for language, kind, file, code in BLOCK.findall(guide.read_text()):
        assert language in ("python", "diff", "sh")
        if kind != "run":
            write(copy, language, file, code)
            code = (copy / file).read_text()
        if language != "sh":
            compile(code, file or guide.name, "exec")
            assert imports_that_lead_nowhere(code, copy) == []


def test_an_import_that_leads_nowhere_is_found():
    good = "import hitpro_jax.types\nfrom hitpro_jax import open_run, run\nfrom configs import base"
    assert imports_that_lead_nowhere(good, ROOT) == []
    wrong = "import hitpro_jax.typos\nfrom hitpro_jax.types import Clip, Clips\nfrom hitpro_jax.kernels import loss"
    expected = ["hitpro_jax.typos", "hitpro_jax.types.Clip", "hitpro_jax.kernels.loss"]
    assert imports_that_lead_nowhere(wrong, ROOT) == expected


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_example_of_a_guide_runs(guide, copy):
    blocks = BLOCK.findall(guide.read_text())
    assert blocks[-1][1] == "run"
    for language, kind, file, code in blocks:
        if kind == "run":
            command = [sys.executable, "-c", code]
            if language == "sh":
                command = shlex.split(code.replace("\\\n", " "))
                assert command[0] == "python"
                command[0] = sys.executable
            subprocess.run(command, check=True, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)})
        else:
            write(copy, language, file, code)
