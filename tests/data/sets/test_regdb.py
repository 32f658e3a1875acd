"""RegDB on a made-up tree: who lands in which split, and a trial that is not there."""

import pytest

from hitpro_jax.data.sets import regdb
from hitpro_jax.data.sets.regdb import RegDBOptions
from tests.data.trees import numbers, opened, write

REGDB = {
    f"{kind}/{pid}/{half}{n}.bmp": "image"
    for kind in ("Visible", "Thermal")
    for pid in range(2)
    for n in range(3)
    for half in ("train", "test")
}
REGDB |= {
    f"idx/{half}_{kind.lower()}_{trial}.txt": "".join(
        f"{kind}/{pid}/{half}{n}.bmp {pid}\n" for pid in range(2) for n in range(3)
    )
    for half in ("train", "test")
    for kind in ("Visible", "Thermal")
    for trial in (1, 2)
}


def test_regdb(tmp_path):
    dataset, protocol = opened("regdb", write(tmp_path, REGDB), RegDBOptions(trial=2))
    assert numbers(dataset) == {
        "train": {"tracklets": 12, "rgb": 6, "ir": 6, "frames": 12},
        "query": {"tracklets": 6, "rgb": 0, "ir": 6, "frames": 6},
        "gallery": {"tracklets": 6, "rgb": 6, "ir": 0, "frames": 6},
    }
    assert dataset.query[4].frames == ("Thermal/1/test1.bmp",)
    assert dataset.query[4].pid == 1
    assert set(protocol.directions) == {"i2v", "v2i"}
    assert protocol.name == "regdb trial 2"


def test_a_trial_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="train_visible_11.txt does not exist"):
        regdb.load(write(tmp_path, REGDB), trial=11)
