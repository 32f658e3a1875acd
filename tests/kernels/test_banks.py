"""Rows against rows: any block and any number of devices give the same."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling


def products(total, row, part, offset):
    position = offset + jnp.arange(part.shape[0])
    return total + jnp.sum(row * part * position)


@pytest.mark.parametrize("block", [1, 3, 5, 100])
@pytest.mark.parametrize("size", [0, 1, 5, 7])
def test_folding_does_not_depend_on_the_block(block, size):
    rows, bank = jnp.arange(size), jnp.arange(1, 5)
    found = Tiling(block).fold_rows(products, rows, jnp.zeros(size, int), bank)
    np.testing.assert_array_equal(found, np.arange(size) * (np.arange(1, 5) * np.arange(4)).sum())


def test_a_bank_without_rows_changes_nothing():
    assert ONE_DEVICE.fold_rows(products, jnp.arange(3), jnp.ones(3, int), jnp.zeros(0, int)).tolist() == [1, 1, 1]


def test_one_device_has_no_axis_and_is_a_static_argument():
    assert (ONE_DEVICE.axis, ONE_DEVICE.devices) == (None, 1)
    scaled = jax.jit(lambda x, tiling: tiling.each_part(lambda x: 2 * x, (x,)), static_argnames="tiling")
    assert scaled(jnp.ones(2), tiling=Tiling(7)).tolist() == [2.0, 2.0]


@pytest.mark.slow
def test_four_devices_equal_one():
    """Row counts that four does not divide, look-ups of none, and clips' rows and columns across the cut."""
    code = """
        import jax, jax.numpy as jnp, numpy as np
        from functools import partial
        from jax.sharding import PartitionSpec
        from hitpro_jax.kernels import collectives
        from hitpro_jax.kernels.banks import Tiling
        from tests.kernels.test_banks import products
        mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        one, four = Tiling(2), Tiling(2, mesh)
        assert (four.axis, four.devices) == ("data", 4)
        index = jnp.array([[0, 5, -1], [2, 6, 9]])
        for way in (
            lambda t: t.fold_rows(products, jnp.arange(7), jnp.zeros(7, int), jnp.arange(1, 6)),
            lambda t: t.each_row(lambda x: x * x, (jnp.arange(7),)),
            lambda t: t.lookup(jnp.arange(10, 17), index),
        ):
            np.testing.assert_array_equal(way(one), way(four))
        rng = np.random.default_rng(0)
        table, values = jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=(2, 8)))
        rows, columns, whole = PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()
        for function, x, cut in (
            (partial(collectives.take_rows, ids=jnp.array([5, -1, 0])), table, rows),
            (partial(collectives.take_columns, ids=index), values, columns),
            (collectives.sum_columns, values, columns),
            (collectives.log_sum_exp, values, columns),
            (partial(collectives.largest, count=3), values, columns),
        ):
            split = jax.shard_map(partial(function, axis="data"), mesh=mesh, in_specs=cut, out_specs=whole,
                                  check_vma=False)
            np.testing.assert_allclose(split(x), function(x, axis=None), rtol=1e-6)
        print("same")
    """
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, env=environment, capture_output=True, text=True
    )
    assert run.stdout == "same\n", run.stderr
