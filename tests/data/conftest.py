"""The made-up twins of the public data sets, unpacked once a session."""

import pathlib
import tarfile

import pytest

TESTS = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def twins(tmp_path_factory):
    """Folder with HITSZ-VCM/ and BUPTCampus/: shared, so a test that changes one copies it first."""
    folder = tmp_path_factory.mktemp("twins")
    with tarfile.open(TESTS / "twins" / "twins.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def goldens():
    return TESTS / "goldens"
