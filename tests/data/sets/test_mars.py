"""MARS on a made-up tree: who lands in which split, and bad index files."""

from functools import partial

import numpy as np
import pytest
from scipy import io  # comes with JAX; writes MATLAB files as others do

from hitpro_jax.data.sets import mars
from hitpro_jax.data.sets.mars import MarsOptions
from hitpro_jax.types import RGB
from tests.data.trees import opened, write

TRAIN = [f"0001C{c}T0001F{f:03}.jpg" for c in (1, 2) for f in range(1, 5)]
TEST = [f"{p}C{c}T0001F{f:03}.jpg" for p, c in (("0002", 1), ("0002", 3), ("0000", 2), ("00-1", 4)) for f in (1, 2, 3)]


def write_mars(
    root,
    train=((1, 4, 1, 1), (5, 8, 1, 2)),
    test=((1, 3, 2, 1), (4, 6, 2, 3), (7, 9, 0, 2), (10, 12, -1, 4)),
    query=((1,),),
    **names,
):
    """Index files in MARS's layout, and images of their names; returns the root."""
    files = {
        f"bbox_{half}/{name[:4]}/{name}": "image"
        for half, half_names in (("train", TRAIN), ("test", TEST))
        for name in half_names
    }
    files |= {
        f"info/{half}_name.txt": "\r\n".join(names.get(half + "_name", given)) + "\r\n"
        for half, given in (("train", TRAIN), ("test", TEST))
    }
    write(root, files)
    io.savemat(f"{root}/info/tracks_train_info.mat", {"track_train_info": np.array(train)})
    io.savemat(f"{root}/info/tracks_test_info.mat", {"track_test_info": np.array(test)}, do_compression=True)
    io.savemat(f"{root}/info/query_IDX.mat", {"query_IDX": np.array(query, np.uint16)})
    return str(root)


@pytest.fixture
def mars_root(tmp_path):
    return partial(write_mars, tmp_path)


def test_mars_keeps_queries_and_distractors_in_the_gallery_and_leaves_junk_out(mars_root):
    dataset, protocol = opened("mars", mars_root())
    assert [(r.frames[0], len(r.frames), r.modality, r.camid, r.pid) for r in dataset.train] == [
        ("bbox_train/0001/0001C1T0001F001.jpg", 4, RGB, 1, 1),
        ("bbox_train/0001/0001C2T0001F001.jpg", 4, RGB, 2, 1),
    ]
    assert [(r.pid, r.camid) for r in dataset.query] == [(2, 1)]
    assert [(r.pid, r.camid) for r in dataset.gallery] == [(2, 1), (2, 3), (0, 2)]
    assert protocol.remarks == (
        "gallery with queries",
        "junk left out: 1 gallery rows, 0 queries, 0 training rows",
        "1 distractors in the gallery",
        "0 of 1 queries not counted: no true match in another camera",
    )
    assert protocol.remarks == dataset.counts["notes"]
    assert dataset.counts["gallery"] == {"rows": 4, "ids": 2, "tracklets": 3, "rgb": 3, "ir": 0, "frames": 9}
    assert protocol.camera_rule == "same_person"
    assert set(protocol.directions) == {"all"}


def test_the_gallery_without_the_queries_may_leave_some_without_a_match(mars_root):
    """Both tracklets of person 2 are queries: without them nobody has a match."""
    root = mars_root(query=((1, 2),))
    _, whole = opened("mars", root)
    assert whole.remarks[-1] == "0 of 2 queries not counted: no true match in another camera"
    dataset, protocol = opened("mars", root, MarsOptions("without_queries"))
    assert [(r.pid, r.camid) for r in dataset.query] == [(2, 1), (2, 3)]
    assert [(r.pid, r.camid) for r in dataset.gallery] == [(0, 2)]
    assert protocol.remarks[0] == "gallery without queries"
    assert protocol.remarks[-1] == "2 of 2 queries not counted: no true match in another camera"
    assert protocol.setting.endswith(", ".join(protocol.remarks))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ((1, 9, 1, 1),)}, r"tracks_train_info.mat row 1: 1 to 9 is not a range within the 8 names"),
        ({"train": ((1, 4, 1, 1), (0, 4, 1, 1))}, r"tracks_train_info.mat row 2: 0 to 4"),
        ({"train": ((1, 4, 1, 7),)}, r"row 1: person 1 or camera 7"),
        ({"train": ((1, 4, 1, 1), (1, 4, 1, 1))}, r"row 2: the frames of row 1 once more"),
        ({"train": ((1, 4, 1),)}, r"tracks_train_info.mat: 3 columns"),
        ({"train": ((1, 4, 1, 1.5),)}, r"tracks_train_info.mat holds no table of whole numbers"),
        ({"query": ((1, 5),)}, r"query_IDX.mat: row 5 is beyond the 4"),
        ({"query": ((1, 1),)}, r"query_IDX.mat: row 1 is .*given twice"),
        ({"test_name": ["../x.jpg", *TEST[1:]]}, r"test_name.txt:1: '../x.jpg' is not a frame name"),
        ({"test_name": [TEST[0], "", *TEST[2:]]}, r"test_name.txt:2: ''"),
    ],
)
def test_bad_mars_files_are_named(mars_root, changes, message):
    with pytest.raises(ValueError, match=message):
        mars.load(mars_root(**changes))
