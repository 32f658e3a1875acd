"""Schedules and ramps at their ends and in between."""

import numpy as np
import pytest

from hitpro_jax.kernels.schedules import ramp, schedule


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.95, 0.925, 0.9, 0.85, 0.85]),
        ("cosine", [0.95, 0.95 - 0.1 * (1 - np.cos(np.pi / 4)) / 2, 0.9, 0.85, 0.85]),
        ("constant", [0.9] * 5),
        ("reverse", [0.85, 0.875, 0.9, 0.95, 0.95]),
    ],
)
def test_schedule(kind, expected):
    values = [float(schedule(x, 0.95, 0.85, kind=kind)) for x in (0.0, 0.25, 0.5, 1.0, 1.5)]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_ramp():
    np.testing.assert_allclose(
        [float(ramp(x, begin=0.2, length=0.4)) for x in (0.0, 0.2, 0.3, 0.6, 1.0)],
        [0, 0, 0.25, 1, 1],
        atol=1e-6,
    )
    assert [float(ramp(x, begin=0.2, length=0.0)) for x in (0.1, 0.2)] == [0.0, 1.0]


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unknown schedule 'step'"):
        schedule(0.5, 0.0, 1.0, kind="step")
