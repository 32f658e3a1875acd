"""Augmentation: each operation against what it must do by hand, and alike in all frames of a clip."""

import cv2
import numpy as np
import pytest

from hitpro_jax.data import transforms
from hitpro_jax.options import AugmentOptions
from hitpro_jax.types import IR, RGB

SIZES = [(1, 1), (7, 5), (64, 32), (33, 17), (288, 144)]


def noise(frames, height, width, seed=0, grey=False):
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 1 if grey else 3), np.uint8)
    return np.repeat(pixels, 3, axis=-1) if grey else pixels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("modality", [RGB, IR])
def test_identical_frames_stay_identical_and_the_input_stays_as_it_is(size, modality):
    still = np.repeat(noise(1, *size, grey=modality == IR), 4, axis=0)
    before = still.copy()
    changed = 0
    for seed in range(40):
        out = transforms.augment(still, modality, np.random.default_rng(seed))
        assert out.shape == still.shape
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous
        assert (out == out[:1]).all()
        changed += (out != still).any()
    assert changed > 15
    np.testing.assert_array_equal(still, before)


def test_the_frames_of_a_clip_share_one_geometry():
    """Frame t holds the value t everywhere but for borders and erasure: those must lie in the same places."""
    clip = np.broadcast_to(np.arange(10, 15, dtype=np.uint8)[:, None, None, None], (5, 40, 20, 3))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        out = transforms.augment(clip, IR, rng, AugmentOptions(colour=0, erase=1))
        kept = out == clip
        assert (kept == kept[:1]).all()
        assert not kept.all()
        assert kept.any()


def test_augment_is_a_function_of_the_generator():
    clip = noise(3, 24, 12)
    first, again, other = (transforms.augment(clip, RGB, np.random.default_rng(s)) for s in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_nothing_to_do_returns_the_clip():
    clip = noise(2, 9, 6)
    out = transforms.augment(clip, RGB, np.random.default_rng(0), AugmentOptions(flip=0, pad=0, erase=0, colour=0))
    np.testing.assert_array_equal(out, clip)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="modality must be 0 .RGB. or 1 .IR., but is 2"):
        transforms.augment(noise(1, 4, 4), 2, np.random.default_rng(0))


def test_probabilities_are_kept():
    clip, rng = noise(1, 6, 4), np.random.default_rng(0)
    options = AugmentOptions(flip=0.25, pad=0, erase=0, colour=0)
    flipped = sum((transforms.augment(clip, RGB, rng, options) != clip).any() for _ in range(2000))
    assert 420 < flipped < 580


def test_mirror():
    clip = np.arange(2 * 1 * 3 * 3, dtype=np.uint8).reshape(2, 1, 3, 3)
    out = transforms.mirror(clip)
    assert out[1, 0, 0].tolist() == clip[1, 0, 2].tolist()
    assert out[1, 0, 1].tolist() == clip[1, 0, 1].tolist()


def test_pad_crop_shifts_by_every_offset_within_the_border():
    """A single bright pixel tells the shift; black fills the rest."""
    clip = np.zeros((2, 9, 7, 3), np.uint8)
    clip[:, 4, 3] = 200
    seen = set()
    for seed in range(300):
        out = transforms.pad_crop(clip, np.random.default_rng(seed), border=2)
        assert out.sum() == clip.sum()
        (_, row, column, _), *_ = np.argwhere(out)
        seen.add((int(row) - 4, int(column) - 3))
    assert seen == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_the_pad_grows_with_the_image():
    """10 pixels at a height of 288, 2 at 64: counted from the black rows that appear."""
    for height, expected in [(288, 10), (64, 2), (10, 0)]:
        white = np.full((1, height, height // 2, 3), 255, np.uint8)
        black = 0
        for seed in range(60):
            rng = np.random.default_rng(seed)
            out = transforms.augment(white, RGB, rng, AugmentOptions(flip=0, erase=0, colour=0))
            black = max(black, int((out[0, :, height // 4, 0] == 0).sum()))
        assert black == expected


def test_erase_fills_one_rectangle_of_the_asked_for_size():
    clip = np.zeros((2, 60, 30, 3), np.uint8)
    for seed in range(50):
        out = transforms.random_erase(clip, np.random.default_rng(seed), area=(0.1, 0.2), aspect=0.5)
        rows, columns = np.flatnonzero(out[0].any((1, 2))), np.flatnonzero(out[0].any((0, 2)))
        tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert (out[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == transforms.MEAN_COLOUR).all()
        assert (out != 0).sum() == 2 * tall * wide * 3
        assert 0.08 < tall * wide / 1800 < 0.22
        assert 0.4 < tall / wide < 2.4


def test_erase_gives_up_where_nothing_fits():
    clip = noise(1, 1, 1)
    np.testing.assert_array_equal(transforms.random_erase(clip, np.random.default_rng(0)), clip)


def test_random_channel_is_one_of_the_channels_or_the_luma():
    clip = noise(2, 5, 4)
    luma = clip @ np.array([0.299, 0.587, 0.114])
    seen = set()
    for seed in range(60):
        out = transforms.random_channel(clip, np.random.default_rng(seed)).astype(float)
        assert (out == out[..., :1]).all()
        close = [bool((out[..., 0] == clip[..., c]).all()) for c in range(3)]
        close.append(bool(np.abs(out[..., 0] - luma).max() <= 1))
        assert sum(close) == 1
        seen.add(close.index(True))
    assert seen == {0, 1, 2, 3}


def test_random_intensity_is_one_rising_curve_for_the_whole_clip():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 3, axis=-1)
    brighter = 0
    for seed in range(50):
        out = transforms.random_intensity(ramp, np.random.default_rng(seed))
        assert (out == out[..., :1]).all()
        curve = out[0, :, :, 0].ravel().astype(int)
        assert curve[0] == 0
        assert (np.diff(curve) >= 0).all()
        brighter += curve[128] > 128
    assert 10 < brighter < 40


def test_random_intensity_follows_its_formula():
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 256, 1, 1), 3, axis=-1)
    out = transforms.random_intensity(ramp, np.random.default_rng(0), gain=(0.8, 0.8), gamma=(2.0, 2.0))
    expected = [min(255, 255 * 0.8 * (i / 255) ** 2) for i in range(256)]
    np.testing.assert_allclose(out[0, :, 0, 0], expected, atol=0.5001)


def test_resize_is_bilinear_and_leaves_a_frame_of_the_right_size_alone():
    frame = noise(1, 8, 6)[0]
    assert transforms.resize(frame, 8, 6) is frame
    halved = transforms.resize(frame, 4, 3).astype(float)  # 2 x 2 blocks: bilinear means their average
    blocks = frame.reshape(4, 2, 3, 2, 3).mean((1, 3))
    np.testing.assert_allclose(halved, blocks, atol=0.51)
    assert transforms.resize(frame, 13, 5).shape == (13, 5, 3)


def test_opencv_runs_one_thread_beside_grain():
    import hitpro_jax.data.pipeline  # noqa: F401

    assert cv2.getNumThreads() == 1
