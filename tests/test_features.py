"""Features of a split: a row a tracklet, by the frames that are chosen, without what could not be read."""

import numpy as np
import pytest

from hitpro_jax.features import Embedded, embed_split
from hitpro_jax.types import RGB
from hitpro_jax.workdir import Wait
from tests.one_pixel import Numbers, embedder, records, unit


def test_a_split_has_a_row_a_tracklet():
    tracklets = records(RGB, 13, 0)
    split = embed_split(embedder(), {}, tracklets)
    np.testing.assert_allclose(split.features, unit([int(r.frames[0]) for r in tracklets]), atol=1e-6)
    assert split.pids.tolist() == [record.pid for record in tracklets]
    assert split.camids.tolist() == [record.camid for record in tracklets]
    assert split.unreadable == 0


def test_a_tracklet_without_a_frame_is_refused():
    tracklets = records(RGB, 22, 1)
    first = tracklets[3].frames[0]
    with pytest.raises(ValueError, match=f"1 of 22 query or gallery tracklets .* begins with nowhere/{first}: restore"):
        embed_split(embedder(Numbers({first})), {}, tracklets)


def test_frames_that_cannot_be_read_are_counted():
    """The other tracklets have their features as before."""
    tracklets = records(RGB, 6, 2)
    other = tracklets[1].frames[0]
    mixed = type(tracklets[0])((tracklets[0].frames[0], "250"), RGB, camid=0, pid=0)
    split = embed_split(embedder(Numbers({"250"})), {}, (mixed, *tracklets[1:]))
    assert split.unreadable == 1
    np.testing.assert_allclose(split.features[1], unit([int(other)])[0], atol=1e-6)


def test_frames_are_chosen_by_the_function_that_is_given():
    tracklets = tuple(type(r)(("3", "4", "5"), RGB, camid=0, pid=0) for r in records(RGB, 4, 3))
    split = embed_split(embedder(), {}, tracklets, lambda number, frames: np.array([number - 1] * frames))
    np.testing.assert_allclose(split.features, unit([5] * 4), atol=1e-6)


def test_taken_rows_keep_their_ids():
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    taken = Embedded(features, np.array([7, 8, 9]), np.array([1, 2, 3]), unreadable=4).take(np.array([2, 0]))
    assert taken.features.tolist() == [[4, 5], [0, 1]]
    assert (taken.pids.tolist(), taken.camids.tolist(), taken.unreadable) == ([9, 7], [3, 1], 0)


def test_clips_are_counted_for_the_reminder():
    wait, tracklets = Wait(), records(RGB, 6, 4)
    embed_split(embedder().counted(wait, total=6), {}, tracklets)
    assert wait.count == ", 6 of 6 clips"  # two batches of four: those that fill up do not count
