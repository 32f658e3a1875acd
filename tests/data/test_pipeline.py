"""Batches: right pixels in the right rows, whatever the start, the workers, the processes and the cache."""

import dataclasses
import multiprocessing
import time

import cv2
import numpy as np
import pytest

from hitpro_jax.data import pipeline, sampling, transforms
from hitpro_jax.data.pipeline import ClipReading
from hitpro_jax.data.records import FrameError, Tracklet
from hitpro_jax.options import AugmentOptions
from hitpro_jax.types import IR, RGB, Clips

SIZE = (16, 8)
STILL = AugmentOptions(flip=0, pad=0, erase=0, colour=0)


@pytest.fixture
def network(tmp_path):
    """Seven tracklets, PNG frames of the one value 20 * tracklet + frame; 1 to 13 frames, odd sizes."""
    tracklets = []
    for number, (modality, length) in enumerate([(IR, 5), (RGB, 13), (RGB, 1), (IR, 12), (RGB, 6), (IR, 1), (RGB, 4)]):
        frames = []
        for frame in range(length):
            image = np.full((11 + number, 7 + frame, 3), value(number, frame), np.uint8)
            frames.append(f"{number}_{frame}.png")
            cv2.imwrite(str(tmp_path / frames[-1]), image)
        tracklets.append(Tracklet(tuple(frames), modality, camid=number % 2))
    return str(tmp_path), tracklets


@pytest.fixture
def textured(tmp_path):
    """Four tracklets of noise: every pixel that moves shows."""
    rng, tracklets = np.random.default_rng(0), []
    for number in range(4):
        frames = tuple(f"{number}/{frame}.png" for frame in range(9))
        (tmp_path / str(number)).mkdir()
        for name in frames:
            cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (20, 10, 3), np.uint8))
        tracklets.append(Tracklet(frames, number % 2, camid=0))
    plan = np.array([[0, 1, 2, 3], [2, 1, 0, 3], [0, 3, 0, 3], [2, 3, 2, 1], [0, 1, 0, 1]], np.int32)
    return str(tmp_path), tracklets, plan


def value(number, frame):
    return 20 * number + frame


READING = [field.name for field in dataclasses.fields(ClipReading)]


def training(textured, **changes):
    root, tracklets, plan = textured
    reading = {name: changes.pop(name) for name in READING if name in changes}
    given = {"clip_length": 4, "seed": 1, "epoch": 2} | changes
    reader = given.pop("reader", None) or pipeline.FrameReader(root, SIZE)
    reading = ClipReading(**{"num_threads": 2} | reading)
    return list(pipeline.train_batches(reader, tracklets, plan, **given, reading=reading))


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected):
        assert type(batch) is type(other) is Clips
        for field, values, expected_values in zip(Clips._fields, batch, other, strict=True):
            np.testing.assert_array_equal(values, expected_values, err_msg=field)
            assert values.dtype == expected_values.dtype, field


# --------------------------------------------------------------------------------------------------- reading


def test_a_frame_is_rgb_and_scaled(tmp_path):
    image = np.zeros((32, 16, 3), np.uint8)
    image[:, :, 2], image[:16, :, 0] = 200, 90  # OpenCV writes BGR: red everywhere, blue in the upper half
    cv2.imwrite(str(tmp_path / "a.png"), image)
    frame = pipeline.FrameReader(str(tmp_path), SIZE)("a.png")
    assert frame.shape == (16, 8, 3)
    assert frame.dtype == np.uint8
    assert (frame[..., 0] == 200).all()
    assert (frame[..., 1] == 0).all()
    assert (frame[:8, :, 2] == 90).all()
    assert (frame[8:, :, 2] == 0).all()


def test_grey_and_right_sized_files_are_read_too(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    frame = pipeline.FrameReader(str(tmp_path), SIZE)("grey.png")
    np.testing.assert_array_equal(frame, np.repeat(grey[..., None], 3, axis=-1))


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_frame_that_does_not_decode_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(FrameError, match=r"bad\.jpg does not decode as an image: restore it") as error:
        pipeline.FrameReader(str(tmp_path), SIZE)("bad.jpg")
    assert error.value.paths == ("bad.jpg",)


def test_a_missing_frame_is_named(tmp_path):
    with pytest.raises(FrameError, match=r"gone\.jpg does not exist: restore it"):
        pipeline.FrameReader(str(tmp_path), SIZE)("gone.jpg")


def test_a_bad_frame_stops_the_batches_with_its_name(network, tmp_path):
    root, tracklets = network
    (tmp_path / "4_3.png").write_bytes(b"torn")
    with pytest.raises(FrameError, match=r"4_3\.png does not decode"):
        list(pipeline.test_clips(pipeline.FrameReader(root, SIZE), tracklets, clip_length=6, batch_size=4))


def test_allowed_bad_frames_are_masked_replaced_and_counted(network, tmp_path):
    root, tracklets = network
    (tmp_path / "4_3.png").write_bytes(b"torn")
    (tmp_path / "4_0.png").unlink()
    reader = pipeline.FrameReader(root, SIZE, allow_missing=True)
    (batch,) = pipeline.test_clips(reader, [tracklets[4]], clip_length=6, batch_size=1)
    assert batch.mask.tolist() == [[False, True, True, False, True, True]]
    assert batch.frames[0, :, 0, 0, 0].tolist() == [81, 81, 82, 82, 84, 85]  # the nearest, the earlier of two
    assert reader.unreadable == {"4_0.png", "4_3.png"}
    assert batch.unreadable.tolist() == [2]
    plan = np.zeros((3, 2), np.int32)
    for batch in pipeline.train_batches(reader, [tracklets[4]], plan, clip_length=6, seed=0, epoch=0):
        np.testing.assert_array_equal(batch.frames[:, [0, 3]], batch.frames[:, [1, 2]])  # augmented alike
        assert not batch.mask[:, [0, 3]].any()
        assert batch.mask[:, [1, 2, 4, 5]].all()
        assert batch.tracklet.tolist() == [0, 0]
        assert batch.unreadable.tolist() == [2, 2]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_clip_without_a_readable_frame_belongs_to_no_tracklet(network, tmp_path, num_workers):
    """Tracklet 5 has one frame, which is torn; 4 keeps all of its own. Filling rows count nothing."""
    root, tracklets = network
    (tmp_path / "5_0.png").write_bytes(b"torn")
    reader = pipeline.FrameReader(root, SIZE, allow_missing=True)
    reading = ClipReading(num_workers=num_workers)
    plan = np.array([[4, 5]], np.int32)
    (batch,) = pipeline.train_batches(
        reader, tracklets, plan, clip_length=3, seed=0, epoch=0, augmentation=STILL, reading=reading
    )
    assert batch.tracklet.tolist() == [4, -1]
    assert batch.modality.tolist() == [RGB, IR]
    assert batch.part.tolist() == [0, 0]
    assert batch.unreadable.tolist() == [0, 1]  # three times the same frame
    assert batch.mask.tolist() == [[True] * 3, [False] * 3]
    assert (batch.frames[1] == transforms.MEAN_COLOUR).all()  # there is no other infrared tracklet in this step
    (batch,) = pipeline.test_clips(reader, tracklets[3:6:2], clip_length=3, batch_size=4, reading=reading)
    assert batch.tracklet.tolist() == [0, -1, -1, -1]
    assert batch.part.tolist() == [0, 0, -1, -1]
    assert batch.unreadable.tolist() == [0, 1, 0, 0]
    assert batch.modality.tolist() == [IR] * 4


def test_a_tracklet_without_a_readable_frame_shows_the_next_one_of_its_modality(network, tmp_path):
    root, tracklets = network
    (tmp_path / "5_0.png").write_bytes(b"torn")
    reader = pipeline.FrameReader(root, SIZE, allow_missing=True)
    plan = np.array([[4, 5, 6, 5, 1, 0, 2, 3]], np.int32)
    given = {"clip_length": 3, "seed": 0, "epoch": 0, "augmentation": STILL}
    (batch,) = pipeline.train_batches(reader, tracklets, plan, **given)
    assert batch.tracklet.tolist() == [4, -1, 6, -1, 1, 0, 2, 3]
    for row in (1, 3):
        assert not batch.mask[row].any()
        assert set(batch.frames[row].ravel()) <= {value(0, frame) for frame in range(5)}
    halves = [
        next(pipeline.train_batches(reader, tracklets, plan, **given, reading=ClipReading(i, 2))) for i in range(2)
    ]
    assert_same([Clips(*map(np.concatenate, zip(*halves, strict=True)))], [batch])


def test_other_frames_of_the_tracklet_stand_in_for_a_clip_without_any(network, tmp_path):
    """Tracklet 3 has twelve frames, seven of them torn."""
    root, tracklets = network
    for frame in (0, 1, 2, 4, 6, 8, 10):
        (tmp_path / f"3_{frame}.png").write_bytes(b"torn")
    reader = pipeline.FrameReader(root, SIZE, allow_missing=True)
    # an ordered pass shows the frames of its rule or none: sub-tracklets do not borrow from each other
    (parts,) = pipeline.part_clips(reader, tracklets[3:4], parts=4, clip_length=3, batch_size=4)
    assert parts.tracklet.tolist() == [-1, 0, 0, 0]

    plan = np.zeros((400, 2), np.int32)
    drawn = list(pipeline.train_batches(reader, tracklets[3:4], plan, clip_length=2, seed=0, epoch=0))
    assert all((batch.tracklet == 0).all() and batch.mask.any(1).all() for batch in drawn)
    replaced = [batch.mask.all() and batch.unreadable.max() == 2 for batch in drawn]
    assert sum(replaced) > 20
    again = pipeline.train_batches(
        reader, tracklets[3:4], plan, clip_length=2, seed=0, epoch=0, reading=ClipReading(num_threads=0)
    )
    assert_same(list(again), drawn)


def test_a_torn_frame_gives_the_pixels_of_a_copy_of_its_neighbour(textured, tmp_path):
    """So that BatchNorm sees no more than the repeated frame; and all other clips keep every pixel."""
    root, _, _ = textured
    for number in range(4):
        (tmp_path / str(number) / "3.png").write_bytes((tmp_path / str(number) / "2.png").read_bytes())
    copied = training(textured, clip_length=9)
    for number in range(4):
        (tmp_path / str(number) / "3.png").write_bytes(b"torn")
    torn = training(textured, clip_length=9, reader=pipeline.FrameReader(root, SIZE, allow_missing=True))
    for batch, expected in zip(torn, copied, strict=True):
        np.testing.assert_array_equal(batch.frames, expected.frames)
        assert batch.mask.tolist() == [[True] * 3 + [False] + [True] * 5] * 4
        np.testing.assert_array_equal(batch.tracklet, expected.tracklet)


def test_readable_frames_are_read_and_augmented_by_the_drawn_numbers(textured):
    root, tracklets, plan = textured
    reader = pipeline.FrameReader(root, SIZE)
    for step, batch in enumerate(training(textured)):
        for row, number in enumerate(plan[step]):
            rng = np.random.default_rng([1, 2, 2, step, row])
            chosen = sampling.clip_frames(9, 4, rng)
            clip = np.stack([reader(tracklets[number].frames[i]) for i in chosen])
            expected = transforms.augment(clip, tracklets[number].modality, rng)
            np.testing.assert_array_equal(batch.frames[row], expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_can_be_left_before_their_end(textured, num_workers):
    root, tracklets, plan = textured
    before = {process.pid for process in multiprocessing.active_children()}
    batches = pipeline.train_batches(
        pipeline.FrameReader(root, SIZE),
        tracklets,
        np.tile(plan, (20, 1)),
        clip_length=4,
        seed=0,
        epoch=0,
        reading=ClipReading(num_workers=num_workers),
    )
    assert type(next(batches)) is Clips
    batches.close()
    deadline = time.monotonic() + 60
    while {process.pid for process in multiprocessing.active_children()} - before:
        assert time.monotonic() < deadline, "a worker is still running"
        time.sleep(0.05)


def test_the_cache_reads_each_file_once(network, tmp_path):
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE, cache=True)
    first = list(pipeline.test_clips(reader, tracklets, clip_length=13, batch_size=2))
    for file in tmp_path.glob("*.png"):
        file.unlink()
    assert_same(list(pipeline.test_clips(reader, tracklets, clip_length=13, batch_size=2)), first)


# -------------------------------------------------------------------------------------------------- training


def test_training_rows_hold_frames_of_the_planned_tracklet(network):
    root, tracklets = network
    plan = np.array([[1, 0, 2, 3], [4, 5, 6, 0]], np.int32)
    reader = pipeline.FrameReader(root, SIZE)
    batches = list(pipeline.train_batches(reader, tracklets, plan, clip_length=5, seed=0, epoch=0, augmentation=STILL))
    for batch, row in zip(batches, plan, strict=True):
        assert batch.frames.shape == (4, 5, *SIZE, 3)
        assert batch.frames.dtype == np.uint8
        assert batch.mask.all()
        assert batch.mask.dtype == bool
        assert batch.mask.shape == (4, 5)
        assert batch.tracklet.tolist() == row.tolist()
        assert batch.tracklet.dtype == np.int32
        assert batch.modality.tolist() == [RGB, IR, RGB, IR]
        assert batch.modality.dtype == np.int32
        assert batch.part.tolist() == batch.unreadable.tolist() == [0] * 4
        assert batch.part.dtype == batch.unreadable.dtype == np.int32
        for clip, number in zip(batch.frames, row):
            assert (clip == clip[:, :1, :1, :1]).all()
            length = len(tracklets[number].frames)
            shown = (clip[:, 0, 0, 0] - value(number, 0)).tolist()
            if length >= 5:
                assert all(k * length // 5 <= frame < (k + 1) * length // 5 for k, frame in enumerate(shown))
            else:
                assert shown == [min(k, length - 1) for k in range(5)]


@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_a_resumed_epoch_gives_the_same_rest(textured, start):
    assert_same(training(textured, start_step=start), training(textured)[start:])


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_threads_change_nothing(textured, threads):
    assert_same(training(textured, num_threads=threads), training(textured))


def test_worker_processes_change_nothing(textured):
    assert_same(training(textured, num_workers=1, start_step=1), training(textured)[1:])


def test_processes_read_their_own_rows_of_the_same_batches(textured):
    parts = [training(textured, process_index=i, process_count=2, start_step=2) for i in range(2)]
    joined = [Clips(*map(np.concatenate, zip(a, b, strict=True))) for a, b in zip(*parts, strict=True)]
    assert_same(joined, training(textured)[2:])


def test_the_cache_changes_nothing(textured):
    reader = pipeline.FrameReader(textured[0], SIZE, cache=True)
    for epoch in (2, 3, 2):
        assert_same(training(textured, reader=reader, epoch=epoch), training(textured, epoch=epoch))


def test_every_clip_of_every_epoch_is_drawn_anew(textured):
    clips = {}
    for seed, epoch in [(1, 2), (1, 3), (2, 2)]:
        for step, batch in enumerate(training(textured, seed=seed, epoch=epoch)):
            for row, clip in enumerate(batch.frames):
                clips[clip.tobytes()] = (seed, epoch, step, row)
    assert len(clips) == 3 * 5 * 4


def test_batches_that_do_not_split_are_refused(textured):
    with pytest.raises(ValueError, match="a batch of 4 clips does not split .* over 3 processes"):
        training(textured, process_count=3)
    with pytest.raises(ValueError, match="parts of even size over 4 processes"):
        training(textured, process_count=4)


# ------------------------------------------------------------------------------------------- ordered passes


def rows(batches, *fields):
    """The rows of real clips over all batches, as tuples of the fields."""
    return [
        row
        for batch in batches
        for row in zip(*(getattr(batch, field).tolist() for field in fields))
        if row[fields.index("tracklet")] >= 0
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
def test_test_clips_show_every_tracklet_once(network, batch_size):
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE)
    batches = list(pipeline.test_clips(reader, tracklets, clip_length=6, batch_size=batch_size))
    assert [row[0] for row in rows(batches, "tracklet")] == [1, 2, 4, 6, 0, 3, 5]  # RGB, then IR
    for batch in batches:
        assert batch.frames.shape == (batch_size, 6, *SIZE, 3)
        assert len(set(batch.modality.tolist())) == 1
        for clip, mask, number, modality in zip(batch.frames, batch.mask, batch.tracklet, batch.modality):
            if number < 0:
                assert not mask.any()
                assert not clip.any()
                continue
            assert mask.all()
            assert modality == tracklets[number].modality
            length = len(tracklets[number].frames)
            stride = 1 if length < 6 else -(-length // 6)
            expected = [value(number, min(s * stride, length - 1)) for s in range(6)]
            assert clip[:, 3, 3, 1].tolist() == expected
    real = sum((batch.tracklet >= 0).sum() for batch in batches)
    assert real == 7
    assert len(batches) == -(-4 // batch_size) + -(-3 // batch_size)


def test_test_clips_follow_another_protocol(network):
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE)
    (batch,) = pipeline.test_clips(reader, tracklets[3:4], clip_length=5, batch_size=1, frames=sampling.uniform_frames)
    assert batch.frames[0, :, 0, 0, 0].tolist() == [value(0, 0) + 60 + f for f in (0, 2, 4, 7, 9)]


def test_part_clips_show_every_part_that_has_a_frame(network):
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE)
    batches = list(pipeline.part_clips(reader, tracklets, parts=4, clip_length=3, batch_size=5))
    seen = rows(batches, "tracklet", "part")
    expected = [
        (number, part)
        for number in (1, 2, 4, 6, 0, 3, 5)
        for part in range(4)
        if part * len(tracklets[number].frames) // 4 < (part + 1) * len(tracklets[number].frames) // 4
    ]
    assert seen == expected
    assert (2, 3) in seen
    assert (2, 0) not in seen
    for batch in batches:
        assert batch.part.dtype == np.int32
        assert len(set(batch.modality.tolist())) == 1
        assert ((batch.part < 0) == (batch.tracklet < 0)).all()
        for clip, number, part in zip(batch.frames, batch.tracklet, batch.part):
            if number == 3:  # 12 frames: part s holds 3 s, 3 s + 1, 3 s + 2
                assert clip[:, 0, 0, 0].tolist() == [value(3, 3 * part + k) for k in range(3)]


@pytest.mark.parametrize("rows", [None, 12])
def test_ordered_passes_split_over_processes(network, rows):
    """Each process reads the tracklets of its own rows of the bank, all in equally many batches of one modality."""
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE)
    given = {"parts": 2, "clip_length": 2}
    parts = [
        list(pipeline.part_clips(reader, tracklets, **given, batch_size=6, rows=rows, reading=ClipReading(i, 2)))
        for i in range(2)
    ]
    share = pipeline.share_of(rows or len(tracklets), 2)
    for first, batches in zip((0, share), parts, strict=True):
        for batch, other in zip(batches, parts[0], strict=True):
            assert len(batch.tracklet) == 3
            assert set(batch.modality) == set(other.modality)
            real = batch.tracklet[batch.tracklet >= 0]
            assert ((first <= real) & (real < first + share)).all()

    def clips(batches):
        return {
            (int(b.tracklet[i]), int(b.part[i])): b.frames[i].tobytes()
            for b in batches
            for i in range(len(b.part))
            if b.part[i] >= 0
        }

    whole = clips(pipeline.part_clips(reader, tracklets, **given, batch_size=5))
    assert clips(parts[0]) | clips(parts[1]) == whole
    assert not clips(parts[0]).keys() & clips(parts[1]).keys()


def test_one_modality_and_no_tracklet_at_all(network):
    root, tracklets = network
    reader = pipeline.FrameReader(root, SIZE)
    infrared = [t for t in tracklets if t.modality == IR]
    batches = list(pipeline.test_clips(reader, infrared, clip_length=2, batch_size=2))
    assert [batch.tracklet.tolist() for batch in batches] == [[0, 1], [2, -1]]
    assert all((batch.modality == IR).all() for batch in batches)
    assert list(pipeline.test_clips(reader, [], clip_length=2, batch_size=2)) == []
