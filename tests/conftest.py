"""Set before JAX is imported: CPU only, one device, compiled programs kept between runs; and what tests share."""

import os
import sys
import tarfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(TESTS / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from absl import flags
from absl.testing import flagsaver

from hitpro_jax import command_line as cli
from hitpro_jax import main
from hitpro_jax.data.synthetic import world as synthetic

collect_ignore = ["goldens/make_model_goldens.py", "end_to_end/soak.py"]  # scripts, not tests

flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags, which only app.run parses


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    """Folder with HITSZ-VCM/ and BUPTCampus/, made up: shared, so a test that changes one copies it first."""
    folder = tmp_path_factory.mktemp("twins")
    with tarfile.open(TESTS / "twins" / "twins.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> str:
    """Folder of the tiny synthetic world: shared too."""
    return str(synthetic.ensure(tmp_path_factory.mktemp("world") / "tiny", synthetic.PRESETS["tiny"]))


@pytest.fixture(scope="session")
def goldens():
    return TESTS / "goldens"


@pytest.fixture(scope="session")
def finished(world, tmp_path_factory) -> tuple[Path, dict]:
    """One uninterrupted training on the tiny world: its workdir and its result."""
    from tests import runs

    workdir = tmp_path_factory.mktemp("finished")
    return workdir, runs.run(runs.tiny_config(world), workdir)


@pytest.fixture
def stems_alone(monkeypatch):
    """Runs have an encoder of stems alone, which compiles in seconds."""
    from hitpro_jax import run
    from tests.runs import tiny_encoder

    monkeypatch.setattr(run, "make_encoder", tiny_encoder)


@pytest.fixture
def command_line(monkeypatch):
    """Parses a command line as `main` does, gives the config, and forgets it."""

    def parse(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["main", *arguments])  # where ml_collections looks for fields
        cli.parse(sys.argv)
        return main.CONFIG.value

    with flagsaver.flagsaver():
        yield parse


@pytest.fixture(scope="module")
def tiny_backbone():
    """A backbone `tiny` and a small bank: a run compiles in seconds."""
    from hitpro_jax import run
    from hitpro_jax.models.backbones import BACKBONES
    from tests.wiring import tiny

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "BANK_MULTIPLE", 32)
        patch.setitem(BACKBONES, "tiny", tiny.backbone())
        yield
