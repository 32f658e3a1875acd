"""Records: what training may see, views, counts, and the scan for missing frames."""

import dataclasses
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitpro_jax.data import records
from hitpro_jax.data.records import Dataset, FrameError, Record, Tracklet
from hitpro_jax.types import IR, RGB


def _records(number):
    return tuple(Record((f"{i}/0.jpg", f"{i}/1.jpg"), i % 2, i % 3, 100 + i // 4) for i in range(number))


def _dataset(root, train, query=(), gallery=(), counts=None):
    return Dataset("made-up", str(root), tuple(train), tuple(query), tuple(gallery), counts or {})


@pytest.fixture
def on_disk(tmp_path):
    """Three tracklets of four frames, one a split, all frames there."""
    made = [
        Record(tuple(f"{split}/{i}.jpg" for i in range(4)), RGB, 1, pid) for pid, split in enumerate(records.SPLITS)
    ]
    for record in made:
        for frame in record.frames:
            path = tmp_path / frame
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"image")
    return _dataset(tmp_path, *[[record] for record in made], counts={"train": {"ids": 1}, "notes": ("a note",)})


def test_a_tracklet_of_training_has_no_person_id():
    tracklets, _ = records.anonymise(_records(9), seed=0)
    assert {type(tracklet) for tracklet in tracklets} == {Tracklet}
    assert not any(hasattr(tracklet, "pid") for tracklet in tracklets)
    assert [field.name for field in dataclasses.fields(Tracklet)] == ["frames", "modality", "camid"]


def test_anonymise_keeps_each_tracklet_with_its_person():
    made = _records(20)
    tracklets, pids = records.anonymise(made, seed=3)
    person = {record.frames: record.pid for record in made}
    assert sorted(t.frames for t in tracklets) == sorted(r.frames for r in made)
    assert [person[t.frames] for t in tracklets] == pids.tolist()
    assert pids.dtype == np.int64


def test_anonymise_shuffles_by_the_seed_alone():
    made = _records(50)
    first, again, other = (records.anonymise(made, seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert [t.frames for t in first] != [r.frames for r in made]
    relabelled = [dataclasses.replace(record, pid=0) for record in made]
    assert records.anonymise(relabelled, seed=1)[0] == first


def test_anonymise_of_nothing():
    tracklets, pids = records.anonymise((), seed=0)
    assert tracklets == ()
    assert pids.shape == (0,)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), max_size=20))
def test_views_are_dense_sorted_and_faithful(pairs):
    view, table = records.views([Tracklet((), modality, camid) for modality, camid in pairs])
    assert table == sorted(set(pairs))
    assert [table[v] for v in view] == pairs
    assert view.dtype == np.int32
    assert view.shape == (len(pairs),)


def test_count_by_modality():
    made = [Record(("a",) * 3, IR, 1, 1), Record(("b",), RGB, 1, 1), Record(("c", "d"), RGB, 2, 1)]
    assert records.count(made) == {"tracklets": 3, "rgb": 2, "ir": 1, "frames": 6}


def test_report_names_the_counts(on_disk):
    lines = records.report(on_disk)
    assert len(lines) == 5
    assert lines[0] == f"made-up in {on_disk.root}"
    assert " ".join(lines[1].split()) == "train 1 ids 1 tracklets (1 RGB + 0 IR) 4 frames"
    assert lines[2].split()[:3] == ["query", "?", "ids"]
    assert lines[-1] == "a note"


def test_a_complete_dataset_is_returned_as_it_is(on_disk):
    assert records.verify_files(on_disk, min_frames=1) is on_disk


def test_a_missing_and_an_empty_frame_are_refused_by_split(on_disk, tmp_path):
    (tmp_path / "train/1.jpg").unlink()
    (tmp_path / "gallery/2.jpg").write_bytes(b"")
    with pytest.raises(FrameError, match=r"2 listed frames .*train 1 of 4, query 0 of 4, gallery 1 of 4") as raised:
        records.verify_files(on_disk, min_frames=1)
    assert raised.value.paths == ("train/1.jpg", "gallery/2.jpg")
    assert "allow_missing" in str(raised.value)


def test_a_whole_folder_missing_and_a_file_in_its_place(on_disk, tmp_path):
    for frame in on_disk.query[0].frames + on_disk.train[0].frames:
        (tmp_path / frame).unlink()
    (tmp_path / "query").rmdir()
    (tmp_path / "train").rmdir()
    (tmp_path / "train").write_bytes(b"not a folder")
    with pytest.raises(FrameError, match="8 listed frames") as raised:
        records.verify_files(on_disk, min_frames=1)
    assert raised.value.paths == on_disk.train[0].frames + on_disk.query[0].frames


def test_a_folder_and_a_dead_link_are_no_frames(on_disk, tmp_path):
    (tmp_path / "train/0.jpg").unlink()
    (tmp_path / "train/0.jpg").mkdir()
    (tmp_path / "train/3.jpg").unlink()
    (tmp_path / "train/3.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FrameError) as raised:
        records.verify_files(on_disk, min_frames=1)
    assert raised.value.paths == ("train/0.jpg", "train/3.jpg")


def test_allow_missing_shrinks_and_drops_under_the_minimum(on_disk, tmp_path):
    for frame in ("train/1.jpg", "query/0.jpg", "query/3.jpg"):
        (tmp_path / frame).unlink()
    left = records.verify_files(on_disk, min_frames=3, allow_missing=True)
    assert left.train[0].frames == ("train/0.jpg", "train/2.jpg", "train/3.jpg")
    assert left.query == ()
    assert left.gallery == on_disk.gallery
    assert left.counts["missing"] == {"train": 1, "query": 2, "gallery": 0}
    assert left.counts["train"] == {"ids": 1, "tracklets": 1, "rgb": 1, "ir": 0, "frames": 3}
    assert left.counts["query"]["tracklets"] == 0
    assert "train: 1 missing frames left out" in records.report(left)


def test_a_tracklet_without_any_frame_left_is_dropped_at_any_minimum(on_disk, tmp_path):
    for frame in on_disk.train[0].frames:
        (tmp_path / frame).unlink()
    assert records.verify_files(on_disk, min_frames=0, allow_missing=True).train == ()


def test_a_short_tracklet_that_lost_nothing_stays(on_disk, tmp_path):
    (tmp_path / "train/1.jpg").unlink()
    left = records.verify_files(on_disk, min_frames=10, allow_missing=True)
    assert left.train == ()
    assert left.query == on_disk.query


def test_frames_straight_in_the_root(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    dataset = _dataset(tmp_path, [Record(("a.jpg",), RGB, 1, 1)])
    assert records.verify_files(dataset, min_frames=1) is dataset


def test_progress_sees_every_folder(on_disk):
    seen = []

    def progress(folders, total):
        for files in folders:
            seen.append((total, threading.current_thread() is threading.main_thread()))
            yield files

    records.verify_files(on_disk, min_frames=1, progress=progress)
    assert seen == [(3, True)] * 3


def test_frame_error_survives_a_worker_process():
    error = pickle.loads(pickle.dumps(FrameError("bad", ["a.jpg"])))
    assert str(error) == "bad"
    assert error.paths == ("a.jpg",)
