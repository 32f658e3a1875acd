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


def of_ten_trials():
    """Four people, of whom each trial tests two and numbers its labels anew."""
    files = {
        f"{kind}/{pid}/{n}.bmp": "image" for kind in ("Visible", "Thermal") for pid in (3, 4, 11, 12) for n in range(2)
    }
    for trial in range(1, 11):
        tested = (3, 11) if trial % 2 else (4, 12)
        for kind in ("Visible", "Thermal"):
            for half, people in (("test", tested), ("train", sorted({3, 4, 11, 12} - set(tested)))):
                rows = [f"{kind}/{pid}/{n}.bmp {label}\n" for label, pid in enumerate(people) for n in range(2)]
                files[f"idx/{half}_{kind.lower()}_{trial}.txt"] = "".join(rows)
    return files


def test_trial_0_has_the_test_images_of_all_trials_once_by_the_numbers_of_their_folders(tmp_path):
    dataset, protocol = opened("regdb", write(tmp_path, of_ten_trials()), RegDBOptions(trial=0))
    assert numbers(dataset)["query"] == {"tracklets": 8, "rgb": 0, "ir": 8, "frames": 8}
    assert [record.pid for record in dataset.gallery] == [3, 3, 4, 4, 11, 11, 12, 12]
    assert protocol.name == "regdb trials 1 to 10"
    assert list(protocol.trials) == list(range(1, 11))
    for trial, directions in protocol.trials.items():
        assert list(directions) == ["i2v", "v2i"]
        for sides in directions.values():
            for side in sides:
                people = {getattr(dataset, side.split)[row].pid for row in protocol.rows(dataset, side)}
                assert people == ({3, 11} if trial % 2 else {4, 12})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test_visible_2", "Visible/4/0.bmp 0\nVisible/12/0.bmp 0\n", "test_visible_2.txt: labels and folders are not"),
        ("test_thermal_4", "Thermal/4/0.bmp 0\nThermal/4/1.bmp 1\n", "test_thermal_4.txt: labels and folders are not"),
        (
            "test_visible_1",
            "Visible/x/0.bmp 0\n",
            "lies in no folder with a person's number: choose one",
        ),
    ],
)
def test_trial_0_refuses_labels_that_do_not_go_with_folders(tmp_path, name, text, message):
    root = write(tmp_path, of_ten_trials() | {f"idx/{name}.txt": text})
    with pytest.raises(ValueError, match=message):
        regdb.load(root, trial=0)
