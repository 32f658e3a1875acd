"""Made-up data sets on the disk, and how tests open them."""

from pathlib import Path

from hitpro_jax.data import opening
from hitpro_jax.data.records import SPLITS, count, verify_files
from hitpro_jax.options import DataOptions


def write(root: Path, files: dict[str, str]) -> str:
    """Writes path -> content below the root."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return str(root)


def numbers(dataset):
    return {split: count(getattr(dataset, split)) for split in SPLITS}


def opened(name: str, root: str, own=None):
    """The data set and its protocol, as a config opens them; all its files must be there."""
    dataset, protocol = opening.load(DataOptions(name=name, root=root), own)
    assert verify_files(dataset, min_frames=12) is dataset
    return dataset, protocol
