"""Mesh, padding and the way from host batches to global arrays, on one device and on four."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hitpro_jax import sharding
from hitpro_jax.options import BatchOptions


def test_one_device_holds_the_batch_unchanged():
    mesh = sharding.make_mesh()
    batch = {"frames": np.arange(24, dtype=np.uint8).reshape(3, 2, 4), "camid": np.array([1, 2, 3], np.int32)}
    moved = sharding.to_global(batch, mesh)
    assert mesh.axis_names == ("data",)
    for name, array in batch.items():
        assert moved[name].dtype == array.dtype
        assert moved[name].sharding == sharding.row_sharding(mesh)
        np.testing.assert_array_equal(moved[name], array)


def test_pad_rows_on_one_device_adds_nothing():
    assert [sharding.pad_rows(n, sharding.make_mesh()) for n in (0, 1, 7)] == [0, 1, 7]


FOUR_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from hitpro_jax import sharding

mesh = sharding.make_mesh()
assert mesh.size == 4
assert [sharding.pad_rows(n, mesh) for n in (0, 1, 4, 5)] == [0, 4, 4, 8]

batch = np.arange(16, dtype=np.float32).reshape(8, 2)
moved = sharding.to_global({"x": batch}, mesh)["x"]
assert [np.asarray(s.data).tolist() for s in moved.addressable_shards] == batch.reshape(4, 2, 2).tolist()

copied = jax.device_put(batch, sharding.replicated(mesh))
assert all(s.data.shape == (8, 2) for s in copied.addressable_shards)

# What Explicit axes refuse: sharded rows summed by segment, and gathered.
segments = jnp.array([0, 0, 1, 1, 0, 0, 1, 1])
sums = jax.jit(lambda x: jax.ops.segment_sum(x, segments, num_segments=2)[jnp.array([1, 0, 1, 1])])(moved)
np.testing.assert_allclose(sums[:2], [[36, 40], [20, 24]])

try:
    sharding.to_global(batch[:6], mesh)
except ValueError as error:
    assert "a multiple of 4" in str(error), error
else:
    raise AssertionError("six rows on four devices were let through")
print("done")
"""


def test_four_devices():
    run = subprocess.run(
        [sys.executable, "-c", FOUR_DEVICES],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr


def test_mesh_over_chosen_devices():
    assert sharding.make_mesh(jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    ("tracklets", "clips", "devices", "processes"), [(4, 2, 8, 1), (15, 4, 5, 1), (30, 2, 6, 2), (3, 1, 3, 3)]
)
def test_a_batch_that_fits_passes(tracklets, clips, devices, processes):
    sharding.require_cut(BatchOptions(tracklets, clips), devices, processes)


@pytest.mark.parametrize(
    ("tracklets", "clips", "devices", "processes", "remedy"),
    [
        (
            4,
            2,
            5,
            1,
            "over 5 devices: make batch.tracklets_per_modality a multiple of 5, or take 1, 2, 4, 8, 16 devices",
        ),
        (
            4,
            2,
            6,
            1,
            "over 6 devices: make batch.tracklets_per_modality a multiple of 3, or take 1, 2, 4, 8, 16 devices",
        ),
        (
            *(4, 2, 6, 2),
            "over 6 devices of 2 processes, an even number for each: make batch.tracklets_per_modality a multiple of "
            "3, or take 2, 4, 8, 16 devices",
        ),
        # two processes would read one clip each of every modality's pair
        (1, 1, 2, 2, "an even number for each: make batch.tracklets_per_modality a multiple of 2"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_with_what_does(tracklets, clips, devices, processes, remedy):
    with pytest.raises(ValueError, match=f"^a batch of {2 * tracklets * clips} clips cannot be cut ") as error:
        sharding.require_cut(BatchOptions(tracklets, clips), devices, processes)
    assert remedy in str(error.value)
    step = int(str(error.value).split("multiple of ")[1].split(",")[0].split()[0])
    sharding.require_cut(BatchOptions(step, clips), devices, processes)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("tracklets", [1, 3, 6])
def test_the_named_numbers_of_devices_are_all_that_fit(tracklets, processes):
    """None is named where none fits, and never the one that was refused."""
    batch, fitting, named = BatchOptions(tracklets, 1), [], []
    for devices in range(processes, batch.clips + 2 * processes, processes):
        try:
            sharding.require_cut(batch, devices, processes)
            fitting.append(devices)
        except ValueError as error:
            take = re.search(r", or take ([\d, ]+) devices$", str(error))
            named.append([int(count) for count in take[1].split(", ")] if take else [])
    assert named
    assert all(each == fitting for each in named)
