"""The paper model of a refresh: what it says of scaling, its table, and its memory against the compiled program."""

import csv
import json
import os
import subprocess
import sys

import pytest

from experiments import scale

FAST = scale.KNOWN["an accelerator (data sheets, not measured)"]
SHAPE = scale.Shape()


def test_exact_mining_is_quadratic_and_divides_over_devices():
    shape, rates = SHAPE, FAST._replace(link=float("inf"))
    one = scale.exact_seconds(1e6, 1, rates, shape)
    assert scale.exact_seconds(2e6, 1, rates, shape) == pytest.approx(4 * one)
    assert scale.exact_seconds(1e6, 64, rates, shape) == pytest.approx(one / 64)
    assert one == pytest.approx(1e12 * (1 + 1 / 24) * 2 * 2048 / rates.flops + 3e12 / rates.picks)


def test_lists_pay_from_some_size_on():
    assert scale.ivf_seconds(1e3, 1, FAST, SHAPE) > scale.exact_seconds(1e3, 1, FAST, SHAPE)
    ratios = [scale.exact_seconds(n, 1, FAST, SHAPE) / scale.ivf_seconds(n, 1, FAST, SHAPE) for n in scale.SIZES]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 100


def test_crossing_is_where_the_two_change_places():
    n = scale.crossing(scale.exact_seconds, scale.embedding_seconds, FAST, SHAPE, 1)
    for factor, longer in ((0.85, False), (1.01, True)):
        mine, embed = (f(factor * n, 1, FAST, SHAPE) for f in (scale.exact_seconds, scale.embedding_seconds))
        assert (mine > embed) is longer
    assert scale.crossing(lambda *_: 0.0, lambda *_: 1.0, FAST, SHAPE, 1) == float("inf")


def test_the_table_is_written(tmp_path):
    rates = ["--flops=1e12", "--picks=1e10", "--link=1e9", "--clips=100"]
    scale.main([*rates, "--title=mine", f"--out={tmp_path}"])
    table = (tmp_path / "scale.md").read_text()
    assert "## mine" in table
    assert "1e+08 | 1024" in table
    assert "stops paying" in table
    with open(tmp_path / "scale.csv") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(scale.SIZES) * len(scale.DEVICES)
    assert tuple(found[0]) == ("device", *scale.COLUMNS)
    assert float(found[0]["embed_s"]) == pytest.approx(1e4 * 4 / 100)


def test_half_of_the_rates_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        scale.main(["--flops=1e12", f"--out={tmp_path}"])
    assert "give all four, or none" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_the_committed_table_is_of_this_model():
    text = (scale.Path(scale.__file__).parent / "results" / "scale.md").read_text()
    assert text == scale.markdown(scale.KNOWN, SHAPE)


COMPILED = """
import json, sys
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.hitpro import HiTPro
from hitpro_jax.options import AlignmentOptions, Options
from hitpro_jax.sharding import make_mesh, row_sharding
from hitpro_jax.types import TrackletInfo

N, D, S = 200_000, 256, 4
found = {}
for search, devices in (("exact", 1), ("exact", 2), ("exact", 8), ("ivf", 8)):
    mesh, options = make_mesh(jax.devices()[:devices]), Options(alignment=AlignmentOptions(search=search))
    method = HiTPro.create(options, Setting(num_views=24, mesh=mesh if devices > 1 else None, identities=None))
    rows = row_sharding(mesh)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), method.shardings())
    shaped = jax.ShapeDtypeStruct
    memory = jax.eval_shape(lambda: method.init(N, D))
    info = TrackletInfo(*[shaped((N,), jnp.int32)] * 3, shaped((N,), bool))
    program = jax.jit(method.refresh, in_shardings=(shardings, rows, rows, rows, None), out_shardings=shardings)
    arguments = memory, shaped((N, S, D), jnp.float32), shaped((N, S), bool), info, shaped((), jnp.float32)
    account = program.lower(*arguments).compile().memory_analysis()
    found[f"{search} {devices}"] = (account.temp_size_in_bytes + account.argument_size_in_bytes
                                    + account.output_size_in_bytes)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_compiled_memory_of_a_device_shrinks_with_devices_as_the_model_predicts():
    """N = 200,000: O(N D / P + N K / P + block N / P), nothing that stays whole and nothing of N x N."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": os.getcwd()}
    run = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = {tuple(name.split()): size for name, size in json.loads(run.stdout).items()}
    shape = SHAPE._replace(width=256)
    assert max(found.values()) < 0.03 * 200_000**2 * 4
    for (search, devices), size in found.items():
        model = scale.memory_bytes(200_000, int(devices), shape, search)
        assert 0.4 * model < size < model, (search, devices, size, model)
    assert found["exact", "2"] < 0.75 * found["exact", "1"]
    assert found["exact", "8"] < 0.35 * found["exact", "2"]
