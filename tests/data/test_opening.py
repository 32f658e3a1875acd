"""Opening: what is reported of a data set at start-up, what is refused, and the reader of its frames."""

import dataclasses

import numpy as np
import pytest

from hitpro_jax.data import opening, packed, records
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset, FrameError, Record
from hitpro_jax.data.sets.folder import FolderOptions
from hitpro_jax.data.sets.hitsz_vcm import HitszVcmOptions
from hitpro_jax.options import DataOptions
from hitpro_jax.types import RGB
from tests.data.trees import write

SIZE = (64, 32)


def opened(data, own=None, frames=6):
    """What is opened, and the lines that were logged."""
    lines = []
    return opening.open_data(data, own, eval_frames=frames, log=lines.append), lines


@pytest.fixture
def world_data(world):
    """Options of the tiny world as HITSZ-VCM, whose layout it has: nothing is drawn."""
    return DataOptions(name="hitsz_vcm", root=world, image_size=SIZE, check_counts=False)


def test_a_report_and_the_protocol_in_force(world_data):
    found, lines = opened(world_data, frames=2)
    assert lines[0] == f"HITSZ-VCM in {world_data.root}"
    assert [line.split()[0] for line in lines[1:4]] == ["train", "query", "gallery"]
    assert lines[-1].startswith("note: protocol hitsz_vcm has 6 frames of 288x144, this run scores 2 frames of 64x32")
    assert found.protocol.setting == "2 frames of 64x32, camera rule"
    assert found.protocol.name == "hitsz_vcm"


def test_load_and_check_are_open_data(world_data):
    found, lines = opened(world_data)
    logged = []
    dataset, protocol = opening.load(world_data)
    assert opening.check(dataset, protocol, world_data, eval_frames=6, log=logged.append) == found
    assert logged == lines


def test_what_changes_the_rows_of_hitsz_vcm_stands_in_the_setting(world_data):
    data = dataclasses.replace(world_data, min_frames=10)
    found, _ = opened(data, HitszVcmOptions(repair=True))
    assert found.protocol.rows_changed == "least 10 frames, rows repaired"
    assert found.protocol.setting.endswith("camera rule, NOT the published rows: least 10 frames, rows repaired")


def test_missing_frames_of_query_and_gallery_stand_in_the_setting(world_data, tmp_path):
    dataset, protocol = opening.load(world_data)
    (tmp_path / "copy").mkdir()
    for split in ("train", "query", "gallery"):
        for record in getattr(dataset, split):
            write(tmp_path / "copy", dict.fromkeys(record.frames, "image"))
    dataset = dataclasses.replace(dataset, root=str(tmp_path / "copy"))
    for record in (dataset.train[0], dataset.query[0], dataset.gallery[0]):
        (tmp_path / "copy" / record.frames[0]).unlink()
    with pytest.raises(FrameError, match="3 listed frames are missing"):
        opening.check(dataset, protocol, world_data, eval_frames=6, log=print)
    data = dataclasses.replace(world_data, allow_missing=True)
    found = opening.check(dataset, protocol, data, eval_frames=6, log=print)
    assert found.protocol.rows_changed == "2 frames missing"
    assert len(found.dataset.query[0].frames) == len(dataset.query[0].frames) - 1


def test_a_data_set_and_a_root_must_be_named():
    with pytest.raises(ValueError, match="unknown data.name 'market'"):
        opening.load(DataOptions(name="market"))
    with pytest.raises(ValueError, match="data.root is not set: give the folder of HITSZ-VCM, --config.data.root="):
        opening.load(DataOptions(name="hitsz_vcm"))
    with pytest.raises(ValueError, match="data.root is not set: give the folder of your own tracklets"):
        opening.load(DataOptions(name="folder"))
    with pytest.raises(ValueError, match="unknown data.protocol 'full' of mars; choose one of mars"):
        opening.load(DataOptions(name="mars", root="nowhere", protocol="full"))


HEAD = "tracklet,modality,camera,pid,split\n"


def folder_of(tmp_path, rows):
    names = [row.split(",")[0] for row in rows]
    files = {f"{name}/{i}.jpg": "image" for name in names for i in range(3)}
    root = write(tmp_path, {"tracklets.csv": HEAD + "\n".join(rows) + "\n", **files})
    return DataOptions(name="folder", root=root, min_frames=1, image_size=SIZE)


def test_own_lists_lose_the_directions_in_which_nothing_can_be_found(tmp_path):
    rows = ["a,rgb,1,,train", "b,ir,1,5,query", "d,rgb,1,6,query", "c,rgb,2,5,gallery", "e,ir,1,5,gallery"]
    found, lines = opened(folder_of(tmp_path, rows), FolderOptions())
    assert list(found.protocol.directions) == ["ir2rgb", "all"]
    notes = [line for line in lines if line.startswith("note: ")]
    assert notes == [
        f"note: {key} is not scored: no query has its person in the gallery, in another camera"
        for key in ("rgb2ir", "rgb2rgb", "ir2ir")
    ]


def test_without_labels_nothing_is_scored_and_that_is_reported(tmp_path):
    found, lines = opened(folder_of(tmp_path, ["a,rgb,1,,train", "b,ir,1,,train"]))
    assert found.protocol.name == "none"
    assert not found.protocol.directions
    assert lines[-1] == "note: the data set has no labelled query and gallery, so nothing is scored; going on without"


def test_a_split_without_a_tracklet_is_refused(tmp_path):
    data = folder_of(tmp_path, ["a,rgb,1,,train"])
    (tmp_path / "a" / "1.jpg").unlink()
    dataset, protocol = opening.load(data)
    dataset = dataclasses.replace(dataset, train=())
    with pytest.raises(
        ValueError, match="no tracklet is left in the train set of .*: check its files, data.min_frames"
    ):
        opening.check(dataset, protocol, data, eval_frames=6, log=print)


def test_a_direction_without_rows_is_refused(twins):
    data = DataOptions(
        name="buptcampus", root=str(twins / "BUPTCampus"), protocol="full", min_frames=1, check_counts=False
    )
    dataset, protocol = opening.load(data)
    visible = tuple(record for record in dataset.query if record.modality == 0)
    dataset = dataclasses.replace(dataset, query=visible)
    message = "protocol full finds no query or no gallery row for ir2rgb in .*: complete its lists, or choose another"
    with pytest.raises(ValueError, match=message):
        opening.check(dataset, protocol, data, eval_frames=6, log=print)


def test_the_reader_reads_files_or_the_packed_cache(world_data, tmp_path):
    found, _ = opened(world_data)
    frame = found.dataset.train[0].frames[0]
    plain = found.reader()
    assert plain.image_size == SIZE
    assert plain.packed is None
    cache = str(tmp_path / "cache")
    packed.make(cache, found.dataset, SIZE, jobs=1, log=lambda line: None)
    by_cache = found._replace(data=dataclasses.replace(world_data, packed=cache)).reader()
    assert by_cache.packed is not None
    np.testing.assert_array_equal(plain(frame), by_cache(frame))
    with pytest.raises(ValueError, match="data.packed_quality is set but data.packed is not"):
        found._replace(data=dataclasses.replace(world_data, packed_quality=90)).reader()


def test_a_tracklet_without_a_frame_is_refused(tmp_path, monkeypatch):
    empty = Record((), RGB, 3, 7)
    dataset = Dataset("made", str(tmp_path), (empty,), (), (), {})
    monkeypatch.setattr(records, "verify_files", lambda dataset, **_: dataset)
    protocol = Protocol("none", "none", {})
    with pytest.raises(ValueError, match="a train tracklet of person 7 in camera 3 of .* has no frame: restore"):
        opening.check(dataset, protocol, DataOptions(name="mot"), eval_frames=2, log=print)
