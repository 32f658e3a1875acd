"""`--mode=pack`: the cache that `data.packed` names is made, and checked when it is there."""

import cv2
import numpy as np
import pytest

from hitpro_jax.commands import pack
from tests.data.trees import write
from tests.runs import opened
from tests.settings import changed


@pytest.fixture
def packing(tmp_path):
    """A function that runs the command on two tracklets of three frames, and gives its log."""
    rows = "".join(f"{name},rgb,1\n" for name in "ab")
    root = write(tmp_path / "data", {"tracklets.csv": f"tracklet,modality,camera\n{rows}"})
    for name in "ab":
        (tmp_path / "data" / name).mkdir()
        for frame in range(3):
            cv2.imwrite(f"{root}/{name}/{frame}.png", np.full((16, 8, 3), 40 * frame, np.uint8))

    def run(packed: str) -> str:
        fields = {"data.root": root, "data.min_frames": 1, "data.jobs": 1, "data.packed": packed}
        with opened(changed("own_folder", **fields), tmp_path / "run") as made:
            pack.main(made)
            if packed:
                assert made.reader("a/2.png").mean() == 80  # now from the cache
                assert made.reader.packed is not None
        return (tmp_path / "run" / "log.txt").read_text()

    return run


def test_without_a_folder_for_the_cache_it_is_refused(packing):
    with pytest.raises(ValueError, match="data.packed is not set: name the folder of the cache, --config.data.packed="):
        packing("")


def test_a_cache_is_made_once_and_then_checked(packing, tmp_path):
    cache = str(tmp_path / "cache")
    assert "is whole" not in packing(cache)
    assert f"packed cache {cache} is whole: 6 frames" in packing(cache)
