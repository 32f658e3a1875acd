"""The packed cache: the same pixels, made anew when anything changed, never read half."""

import dataclasses
import json
import os
import pickle
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from hitpro_jax.data import packed, pipeline
from hitpro_jax.data.records import Dataset, FrameError, Record
from hitpro_jax.types import IR, RGB

SIZE = (16, 8)


@pytest.fixture
def dataset(tmp_path):
    """Three tracklets of JPEG noise, one a split, of 3 to 5 frames."""
    rng, splits = np.random.default_rng(0), []
    for number, (name, modality) in enumerate((("train", RGB), ("query", IR), ("gallery", RGB))):
        frames = tuple(f"{name}/{i}.jpg" for i in range(3 + number))
        (tmp_path / "data" / name).mkdir(parents=True)
        for frame in frames:
            cv2.imwrite(str(tmp_path / "data" / frame), rng.integers(0, 256, (20, 11, 3), np.uint8))
        splits.append((Record(frames, modality, 1, 5),))
    return Dataset("made-up", str(tmp_path / "data"), *splits, counts={})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "SHARD", 5)  # 12 frames in 3 shards
    return str(tmp_path / "disk" / "cache")


def make(folder, dataset, **options):
    logged = []
    frames = packed.make(folder, dataset, SIZE, **{"jobs": 1, "log": logged.append} | options)
    return frames, logged


def every_frame(dataset):
    return [frame for split in (dataset.train, dataset.query, dataset.gallery) for r in split for frame in r.frames]


def contents(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in Path(folder).iterdir()}


def assert_same_frames(dataset, frames):
    reader, plain = (pipeline.FrameReader(dataset.root, SIZE, packed=p) for p in (frames, None))
    for path in every_frame(dataset):
        np.testing.assert_array_equal(reader(path), plain(path))


def test_packed_pixels_are_those_of_the_files(dataset, folder):
    frames, logged = make(folder, dataset)
    assert logged == [
        f"there is no packed cache {folder}: packing 12 frames",
        f"packed cache {folder}: 12 frames, 0 that do not decode",
    ]
    assert_same_frames(dataset, frames)
    assert sorted(os.listdir(folder)) == [
        "00000.array_record",
        "00001.array_record",
        "00002.array_record",
        "frames.json",
        "manifest.json",
    ]
    assert os.listdir(os.path.dirname(folder)) == ["cache"]
    assert_same_frames(dataset, pickle.loads(pickle.dumps(packed.open_frames(folder, dataset, SIZE, 0))))


def test_training_batches_are_the_same_with_and_without(dataset, folder):
    """Also when the files are gone, read by threads and by a worker process."""
    tracklets, plan = (*dataset.train, *dataset.query), np.array([[0, 1], [0, 1], [0, 1]], np.int32)

    def batches(**options):
        reading = pipeline.ClipReading(**options)
        return list(pipeline.train_batches(reader, tracklets, plan, clip_length=4, seed=1, epoch=0, reading=reading))

    reader = pipeline.FrameReader(dataset.root, SIZE)
    expected = batches()
    reader = pipeline.FrameReader(dataset.root, SIZE, packed=make(folder, dataset)[0])
    for path in every_frame(dataset):
        os.remove(os.path.join(dataset.root, path))
    for options in ({"num_threads": 4}, {"num_workers": 1}):
        for batch, other in zip(batches(**options), expected, strict=True):
            for values, expected_values in zip(batch, other, strict=True):
                np.testing.assert_array_equal(values, expected_values)


def test_processes_write_the_same_cache(dataset, folder, tmp_path):
    make(folder, dataset)
    make(str(tmp_path / "other"), dataset, jobs=2)
    first, second = (contents(path) for path in (folder, tmp_path / "other"))
    assert {name: data for name, (_, data) in first.items()} == {name: data for name, (_, data) in second.items()}


def test_jpeg_is_smaller_and_close(dataset, folder):
    frames, _ = make(folder, dataset, quality=95)
    plain = pipeline.FrameReader(dataset.root, SIZE)
    difference = [np.abs(frames.read(path).astype(int) - plain(path)).mean() for path in every_frame(dataset)]
    assert 0 < max(difference) < 40  # noise is the hardest case: chroma at half resolution
    with pytest.raises(ValueError, match="quality must be 0 .exact. or 1 to 100, but is 101"):
        make(folder, dataset, quality=101)


def test_jpeg_keeps_red_red_and_blue_blue(dataset, folder):
    picture = np.zeros((20, 11, 3), np.uint8)
    picture[..., 2], picture[..., 1] = 220, 90  # OpenCV writes BGR
    for path in every_frame(dataset):
        cv2.imwrite(os.path.join(dataset.root, path), picture)
    frames, _ = make(folder, dataset, quality=95)
    for path in every_frame(dataset):
        assert np.abs(frames.read(path).astype(int) - (220, 90, 0)).max() < 8


def test_a_whole_cache_is_checked_and_left_as_it_is(dataset, folder):
    make(folder, dataset)
    before = contents(folder)
    _, logged = make(folder, dataset)
    assert logged == [f"packed cache {folder} is whole: 12 frames"]
    assert contents(folder) == before


def changed_file(dataset, folder):
    cv2.imwrite(os.path.join(dataset.root, "query/2.jpg"), np.zeros((9, 9, 3), np.uint8))


def touched_file(dataset, folder):
    os.utime(os.path.join(dataset.root, "query/2.jpg"), ns=(1, 1))


def flipped_byte(dataset, folder):
    path = Path(folder, "00001.array_record")
    data = bytearray(path.read_bytes())
    data[data.rindex(packed.images.read(os.path.join(dataset.root, "query/2.jpg"), SIZE).tobytes()) + 77] ^= 1
    path.write_bytes(data)


def cut_shard(dataset, folder):
    path = Path(folder, "00001.array_record")
    path.write_bytes(path.read_bytes()[:-1])


def lost_shard(dataset, folder):
    Path(folder, "00002.array_record").unlink()


def changed_index(dataset, folder):
    path = Path(folder, "frames.json")
    path.write_text(path.read_text().replace("query/2.jpg", "query/9.jpg"))


def torn_manifest(dataset, folder):
    path = Path(folder, "manifest.json")
    path.write_bytes(path.read_bytes()[:40])


def older_version(dataset, folder):
    path = Path(folder, "manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))


FAULTS = {
    changed_file: "was made before 1 frames were added or changed, first query/2.jpg",
    touched_file: "first query/2.jpg",
    cut_shard: "is damaged",
    lost_shard: "lacks 00002.array_record",
    changed_index: "is damaged",
    torn_manifest: "has a damaged manifest",
    older_version: "was made for version, size and quality .0, ",
}


@pytest.mark.parametrize("harm", [*FAULTS, flipped_byte], ids=lambda harm: harm.__name__)
def test_a_stale_or_damaged_cache_is_refused_and_made_anew(dataset, folder, harm):
    make(folder, dataset)
    harm(dataset, folder)
    if harm is flipped_byte:  # seen when the record is read
        reader = pipeline.FrameReader(dataset.root, SIZE, packed=packed.open_frames(folder, dataset, SIZE, 0))
        with pytest.raises(FrameError, match=r"packed cache .* is damaged at frame query/2.jpg: run the same"):
            [reader(path) for path in every_frame(dataset)]
    else:
        with pytest.raises(ValueError, match=f"packed cache .*{FAULTS[harm]}.*: run the same command with --mode=pack"):
            packed.open_frames(folder, dataset, SIZE, 0)
    _, logged = make(folder, dataset)
    assert logged[0].endswith(": packing 12 frames")
    assert_same_frames(dataset, packed.open_frames(folder, dataset, SIZE, 0))


@pytest.mark.parametrize(("size", "quality"), [((8, 16), 0), (SIZE, 90)])
def test_another_size_or_quality_is_refused(dataset, folder, size, quality):
    make(folder, dataset)
    with pytest.raises(ValueError, match="was made for version, size and quality"):
        packed.open_frames(folder, dataset, size, quality)


def test_a_cache_may_hold_more_frames_than_are_read_but_not_fewer(dataset, folder):
    part = dataclasses.replace(dataset, gallery=())
    make(folder, dataset)
    assert packed.open_frames(folder, part, SIZE, 0).positions
    make(folder, part, quality=90)
    with pytest.raises(ValueError, match="before 5 frames were added or changed, first gallery/0.jpg"):
        packed.open_frames(folder, dataset, SIZE, 90)


def test_frames_that_do_not_decode(dataset, folder):
    Path(dataset.root, "train/1.jpg").write_bytes(b"torn")
    with pytest.raises(FrameError, match=r"frame .*train/1.jpg does not decode as an image: restore it"):
        make(folder, dataset)
    assert os.listdir(os.path.dirname(folder)) == []
    frames, logged = make(folder, dataset, allow_missing=True)
    assert logged[-1].endswith("11 frames, 1 that do not decode")
    reader = pipeline.FrameReader(dataset.root, SIZE, allow_missing=True, packed=frames)
    clip, mask = reader.clip(dataset.train[0].frames)
    assert mask.tolist() == [True, False, True]
    np.testing.assert_array_equal(clip[1], clip[0])
    assert reader.unreadable == {"train/1.jpg"}
    np.testing.assert_array_equal(clip[2], packed.images.read(os.path.join(dataset.root, "train/2.jpg"), SIZE))


def test_a_killed_run_leaves_the_old_cache_and_its_draft_is_cleared(dataset, folder, monkeypatch):
    make(folder, dataset)
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_write_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(folder, dataset, quality=90)
    assert contents(folder) == before
    Path(f"{folder}.partial").mkdir()
    Path(f"{folder}.partial", "00009.array_record").write_bytes(b"of a killed run")
    make(folder, dataset, quality=90)
    assert "00009.array_record" not in os.listdir(folder)
    assert not os.path.exists(f"{folder}.partial")


@pytest.mark.parametrize("ending", ["", ".partial"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("thesis.tex", "years"),
        ("manifest.json", '{"version": 1, "shards": 5}'),
        ("manifest.json", '[{"name": "app"}]'),
        ("manifest.json", "not JSON"),
        ("00000.array_record/thesis.tex", "years"),
    ],
)
def test_a_folder_of_other_files_is_not_touched(dataset, folder, ending, name, content):
    make(folder, dataset)
    other = Path(folder + ending, name)
    if not ending and "/" in name:
        other.parent.unlink()
    other.parent.mkdir(exist_ok=True, parents=True)
    other.write_text(content)
    before = sorted(os.listdir(folder))
    with pytest.raises(
        ValueError,
        match=f"data.packed: .*cache{ending} holds other files than a packed cache, first "
        rf".*/{name.partition('/')[0]}: name another folder",
    ):
        make(folder, dataset, quality=90)
    assert other.read_text() == content
    assert sorted(os.listdir(folder)) == before


def test_a_disk_that_is_too_small_is_reported_before_anything_is_written(dataset, folder, monkeypatch):
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"data.packed: .* needs 0.0 GB and the disk has 0.0 GB free"):
        make(folder, dataset)
    assert not os.path.exists(folder)


@pytest.mark.parametrize("there", [True, False])
def test_a_linked_folder_is_packed_at_its_target(dataset, folder, tmp_path, monkeypatch, there):
    """Also one whose target is not there yet; the space that counts is the target's."""
    link, asked = tmp_path / "link", []
    os.makedirs(folder if there else os.path.dirname(folder))
    link.symlink_to(folder)
    usage = packed.shutil.disk_usage
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda path: asked.append(path) or usage(path))
    make(str(link), dataset)
    make(str(link), dataset, quality=90)
    assert link.is_symlink()
    assert asked == [os.path.dirname(folder)] * 2
    assert os.listdir(os.path.dirname(folder)) == ["cache"]
    assert (
        packed.open_frames(str(link), dataset, SIZE, 90).positions
        == packed.open_frames(folder, dataset, SIZE, 90).positions
    )


def test_a_mount_point_is_refused_before_packing(dataset, folder, monkeypatch):
    os.makedirs(folder)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == folder)
    monkeypatch.setattr(packed, "_write_shards", None)  # not reached
    with pytest.raises(ValueError, match="data.packed: .*cache is a mount point, which .*: name a folder below it"):
        make(folder, dataset)
    assert os.listdir(os.path.dirname(folder)) == ["cache"]


def test_a_file_where_the_cache_should_be_is_named(dataset, folder):
    file = Path(os.path.dirname(folder))
    file.write_text("mine")  # where the folder's parent should be
    for where in (str(file), folder):
        message = f"data.packed: {where} is a file or lies in one: name the folder"
        with pytest.raises(ValueError, match=message):
            make(where, dataset)
        with pytest.raises(ValueError, match=message):
            packed.open_frames(where, dataset, SIZE, 0)
    file.rename(f"{file}.partial")
    with pytest.raises(ValueError, match=f"data.packed: {file}.partial is a file or lies in one"):
        make(str(file), dataset)
