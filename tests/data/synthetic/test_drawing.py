"""Drawing: materials of two kinds of light, patterns, and a body that covers what is behind it."""

import numpy as np
import pytest

from hitpro_jax.data.synthetic import drawing


def test_infrared_is_no_function_of_visible_luminance():
    rng = np.random.default_rng(0)
    materials = [drawing.draw_material(rng) for _ in range(3000)]
    light = np.array([m.rgb.mean() for m in materials])
    infrared = np.array([m.ir[0] for m in materials])
    assert all(m.ir.shape == (1,) and m.rgb.shape == (3,) for m in materials)
    assert 0.0 <= np.corrcoef(light, infrared)[0, 1] <= 0.5
    deciles = np.digitize(light, np.quantile(light, np.linspace(0, 1, 11)[1:-1]))
    assert min(infrared[deciles == d].std() for d in range(10)) > 0.15  # equal in visible light, apart in infrared


def test_cloth_patterns_show_in_both_modalities_with_a_sign_of_their_own():
    rng = np.random.default_rng(1)
    cloths = [drawing.draw_cloth(rng, drawing.PATTERNS, (0.1, 0.2)) for _ in range(300)]
    visible = np.array([c.figure.rgb.mean() - c.ground.rgb.mean() for c in cloths])
    infrared = np.array([float(c.figure.ir[0] - c.ground.ir[0]) for c in cloths])
    assert np.abs(infrared).min() > 0.2
    assert 0.3 < ((visible > 0) == (infrared > 0)).mean() < 0.8  # colour contrast does not tell infrared contrast


@pytest.mark.parametrize("pattern", drawing.PATTERNS)
def test_patterns_are_shares(pattern):
    v, u = np.mgrid[0:1:40j, -0.2:0.2:20j]
    share = drawing._pattern(pattern, u, v, 0.1)
    assert share.shape == u.shape
    assert share.min() >= 0
    assert share.max() <= 1
    assert (share.max() > share.min()) == (pattern != "plain")


def test_unknown_pattern():
    with pytest.raises(ValueError, match="unknown pattern 'stars'"):
        drawing._pattern("stars", np.zeros(1), np.zeros(1), 0.1)


def pose(frames: int, yaw: float) -> drawing.Pose:
    """Standing in the middle of a picture of 32 x 16 pixels, 28 pixels tall."""
    middle = np.full(frames, 8.0)
    return drawing.Pose(middle, np.full(frames, 2.0), np.full(frames, 28.0), np.linspace(0, 3, frames), yaw, 1.0)


@pytest.mark.parametrize(("infrared", "channels"), [(False, 3), (True, 1)])
@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi])
def test_a_body_is_painted_within_its_outline(infrared, channels, yaw):
    person = drawing.draw_person(np.random.default_rng(3))
    canvas = drawing.Canvas(np.full((2, 32, 16, channels), -1.0, np.float32), pose(2, yaw), infrared)
    drawing.draw_body(canvas, person, pose(2, yaw))
    painted = (canvas.pixels > -0.5).all(-1)
    assert painted[:, 8:16, 7:9].all()  # the trunk
    assert not painted[:, :, [0, 15]].any()
    assert not painted[:, :1].any()  # above the crown


def test_a_person_is_a_function_of_the_generator():
    one, same, other = (drawing.draw_person(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.shoulders, one.hair, one.bag) == (same.shoulders, same.hair, same.bag)
    assert one.shoulders != other.shoulders
    np.testing.assert_array_equal(one.top_cloth.figure.ir, same.top_cloth.figure.ir)


def test_distances_are_negative_inside_and_positive_outside():
    canvas = drawing.Canvas(np.zeros((1, 32, 16, 3), np.float32), pose(1, 0.0), False)
    for distance in (
        canvas.capsule((0.0, 0.3), (0.0, 0.6), 0.1),
        canvas.ellipse(0.0, 0.5, 0.2, 0.2),
        canvas.box(0.0, 0.5, 0.2, 0.2),
        canvas.trunk(0.3, 0.7, 0.2, 0.2, 0.0),
    ):
        assert distance[0, 15, 8] < 0  # half way down the body
        assert distance[0, 0, 0] > 0


def test_what_is_outside_the_picture_paints_nothing():
    canvas = drawing.Canvas(np.zeros((1, 32, 16, 3), np.float32), pose(1, 0.0), False)
    canvas.paint(canvas.box(5.0, 0.5, 0.1, 0.1), drawing.draw_material(np.random.default_rng(0)))
    assert not canvas.pixels.any()
