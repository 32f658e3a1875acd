"""The inverted-file search against the naive one, against the exact search, and over several devices."""

import os
import subprocess
import sys
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels.banks import ONE_DEVICE
from hitpro_jax.kernels.mining import stages
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search import exact, ivf
from hitpro_jax.kernels.search.bias import view_bias
from hitpro_jax.kernels.search.candidates import Neighbours
from hitpro_jax.kernels.search.ivf import IvfIndex
from hitpro_jax.options import AcrossOptions, WithinOptions
from tests.reference import mining as naive
from tests.reference.worlds import world

RELATIONS = ["same_view", "other_camera", "other_modality"]
STATIC = ("relation", "count", "ban_same_camera")
VIEWS = 6
search = jax.jit(ivf.nearest, static_argnames=(*STATIC, "index"))
exact_search = jax.jit(exact.nearest, static_argnames=STATIC)


def sets(table):
    return [{j for j in row if j >= 0} for row in np.asarray(table.index).tolist()]


def drawn(seed=0, size=400):
    return world(seed, size=size, width=8, padding=9)


@pytest.mark.parametrize(
    ("relation", "ban", "cells", "probes"),
    [
        ("same_view", False, 5, 5),
        ("other_camera", False, 9, 40),
        ("other_modality", True, 1, 1),
        ("other_modality", False, 0, 400),
    ],
)
def test_all_cells_read_is_the_exact_search(relation, ban, cells, probes):
    w = drawn(1, size=61)
    options = {"relation": relation, "count": 7, "ban_same_camera": ban}
    found = search(w.prototypes, w.info, index=IvfIndex(VIEWS, cells, probes), **options)
    expected = exact_search(w.prototypes, w.info, **options)
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
    assert np.any(found.index >= 0)


@pytest.mark.parametrize(
    ("relation", "probes", "cells"), [("same_view", 2, 9), ("other_camera", 1, 6), ("other_modality", 2, 6)]
)
def test_rows_find_what_the_naive_lists_hold(relation, probes, cells):
    """A row finds the best of what stands in its own nearest lists, and of those rows that found it."""
    w, count = drawn(2, size=150), 6
    means, _ = naive.segment_mean(w.prototypes, np.where(w.valid, w.view, -1), VIEWS)
    directions = unit(jnp.asarray(w.prototypes - means[w.view], jnp.float32))
    kinds = VIEWS if relation == "same_view" else 2
    placed = -(-cells * 2 // kinds)
    centres = np.asarray(ivf.cell_centres(directions, jnp.asarray(w.valid), cells=placed))
    read = naive.read_lists(w, centres, VIEWS, relation, probes / cells, ivf.tile_rows(150, placed * kinds))
    similarity = naive.cosines(w.prototypes)
    near = naive.ranked(w, similarity, relation, 150)
    kept = [[j for j in row if j in read[i]][:count] for i, row in enumerate(near)]
    expected = [row[:count] for row in naive.returned(similarity, kept, ivf.RETURNED)]
    found = search(w.prototypes, w.info, relation=relation, count=count, index=IvfIndex(VIEWS, cells, probes))
    for i, row in enumerate(expected):
        assert found.index[i].tolist() == row + [-1] * (count - len(row))
        np.testing.assert_allclose(found.similarity[i][: len(row)], similarity[i, row], atol=1e-6)
    differ = [sum(len(set(a[:count]) - set(b)) for a, b in zip(x, y)) for x, y in ((near, kept), (expected, kept))]
    assert differ[0] > 20
    assert differ[1] > 10


def test_rows_of_a_cell_read_lists_of_their_own():
    """0.88 here; when all rows of a cell read the lists nearest to its centre, 0.65 is found."""
    w = drawn(3, size=2000)
    wanted = sets(exact_search(w.prototypes, w.info, relation="other_camera", count=8))
    options = {"relation": "other_camera", "count": 8, "index": IvfIndex(VIEWS, 40, 4)}
    found = sets(search(w.prototypes, w.info, **options))
    assert sum(len(a & b) for a, b in zip(found, wanted)) / sum(map(len, wanted)) > 0.8


@pytest.mark.parametrize("count", [2, 20])
def test_returned_is_naive(count, monkeypatch):
    monkeypatch.setattr(ivf, "RETURNED", count)
    rng = np.random.default_rng(0)
    half = rng.permutation(40 * 40).reshape(40, 40) / 1600
    similarity = (half + half.T).astype(np.float32)
    table = [sorted(rng.choice(40, 3, replace=False).tolist(), key=lambda j: -similarity[i, j]) for i in range(40)]
    index = np.pad(np.array(table), ((0, 0), (0, 4)), constant_values=-1)
    given = Neighbours(
        *map(
            jnp.asarray,
            (index, np.where(index >= 0, np.take_along_axis(similarity, np.maximum(index, 0), axis=1), -np.inf)),
        )
    )
    expected = [row[:7] for row in naive.returned(similarity, table, count)]
    found = np.asarray(ivf._returned(given, ONE_DEVICE).index).tolist()
    assert found == [row + [-1] * (7 - len(row)) for row in expected]
    assert np.any(np.array(found) != index)


def test_cell_centres_are_naive_lloyd():
    rng = np.random.default_rng(0)
    rows = naive_rows = np.array([naive.unit(x) for x in rng.normal(size=(60, 5))])
    valid = rng.random(60) < 0.9
    centres = naive_rows[np.arange(4) * 60 // 4]
    for _ in range(ivf.ROUNDS):
        cell = np.where(valid, np.argmax(rows @ centres.T, axis=1), -1)
        centres = np.array(
            [naive.unit(rows[cell == c].mean(axis=0)) if np.any(cell == c) else centres[c] for c in range(4)]
        )
    found = ivf.cell_centres(jnp.asarray(rows, jnp.float32), jnp.asarray(valid), cells=4)
    np.testing.assert_allclose(found, centres, atol=1e-5)


def test_a_cell_without_rows_keeps_its_centre():
    rows = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert np.asarray(ivf.cell_centres(rows, jnp.ones(3, bool), cells=2)).tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_recall_grows_with_probes():
    w, shares = drawn(3, size=2000), []
    expected = sets(exact_search(w.prototypes, w.info, relation="other_modality", count=10))
    for probes in (1, 16, 40):
        found = sets(
            search(w.prototypes, w.info, relation="other_modality", count=10, index=IvfIndex(VIEWS, 40, probes))
        )
        shares.append(sum(len(a & b) for a, b in zip(found, expected)) / sum(map(len, expected)))
    assert shares == sorted(shares)
    assert shares[0] < 0.6
    assert shares[1] > 0.8
    assert shares[-1] > 0.999


@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_and_bias_are_kept(relation):
    """Whatever is found stands in the relation, with the very similarity that the exact search gives the pair."""
    w = drawn(4)
    info = w.info
    mode = "none" if relation == "other_modality" else "zscore"  # between modalities it would not be symmetric
    bias = view_bias(jnp.asarray(w.prototypes), info, num_views=VIEWS, mode=mode)
    options = {"relation": relation, "bias": bias, "ban_same_camera": True}
    found = search(w.prototypes, info, count=5, index=IvfIndex(VIEWS, 20, 3), **options)
    found, every = jax.device_get((found, exact_search(w.prototypes, info, count=400, **options)))
    for i in range(400):
        known = dict(zip(every.index[i].tolist(), every.similarity[i].tolist()))
        for j, s in zip(found.index[i].tolist(), found.similarity[i].tolist()):
            assert j == -1 or (naive.related(w, i, j, relation, True) and abs(known[j] - s) < 1e-5)
        values = found.similarity[i]
        assert np.all(values[:-1] >= values[1:])
        assert len(set(found.index[i]) - {-1}) == np.sum(values > -np.inf)
    assert np.sum(found.index >= 0) > 1000


def test_the_same_twice_and_whatever_stands_in_padding():
    w = drawn(5)
    other = w._replace(
        prototypes=np.where(w.valid[:, None], w.prototypes, 7.0).astype(np.float32),
        modality=np.where(w.valid, w.modality, 0),
        view=np.where(w.valid, w.view, 0),
    )
    options = {"relation": "other_camera", "count": 6, "index": IvfIndex(VIEWS, 16, 2)}
    first, again = (search(w.prototypes, w.info, **options) for _ in range(2))
    np.testing.assert_array_equal(first.index, again.index)
    np.testing.assert_array_equal(first.similarity, again.similarity)
    assert np.all(np.asarray(first.index)[~w.valid] == -1)
    # k-means may begin at a padding row, so cells need not be the same; with all of them read the tables are
    every = [search(x.prototypes, x.info, **(options | {"index": IvfIndex(VIEWS, 16, 16)})).index for x in (w, other)]
    np.testing.assert_array_equal(*every)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_few_rows(size):
    w = world(0, size=size, padding=0)
    found = search(w.prototypes, w.info, relation="same_view", count=3, index=IvfIndex(VIEWS))
    assert found.index.shape == (size, 3)


def test_an_unknown_relation_is_refused():
    w = world(0)
    with pytest.raises(ValueError, match="unknown relation 'near'"):
        ivf.nearest(w.prototypes, w.info, relation="near", count=1, index=IvfIndex(VIEWS))


@pytest.mark.slow
def test_positives_of_both_stages_with_every_cell_read_are_the_exact_ones():
    w = drawn(6, size=120)
    bars, rules = stages.Bars(0.7, -0.5), {"reciprocity": 6, "neighbours": 9}
    first, second = WithinOptions(balance=0, **rules), AcrossOptions(**rules)

    @partial(jax.jit, static_argnames="search")
    def align(prototypes, search):
        within = stages.within_modality(prototypes, w.info, bars, options=first, num_views=VIEWS, search=search)
        across = stages.across_modalities(prototypes, within, w.info, bars, options=second, search=search)
        same_view = stages.same_view_ambiguity(prototypes, w.info, within.threshold, rho=0.7, search=search)
        return within, across, same_view

    every, few = (align(w.prototypes, partial(ivf.nearest, index=IvfIndex(VIEWS, 8, p))) for p in (8, 1))
    expected = align(w.prototypes, exact.nearest)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), every, expected)
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(expected)))  # the switch counts


@pytest.mark.slow
def test_rows_on_four_devices():
    """All cells read: the exact table, though every device has lists of its own rows. Few read: most of it."""
    code = """
        import jax, numpy as np
        from hitpro_jax.kernels.banks import Tiling
        from hitpro_jax.kernels.search import exact, ivf
        from tests.reference.worlds import world
        tiling = Tiling(mesh=jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)))
        w = world(1, size=401, width=8, padding=9)
        prototypes = jax.numpy.asarray(w.prototypes)
        for relation in ("same_view", "other_camera", "other_modality"):
            expected = exact.nearest(prototypes, w.info, relation=relation, count=5)
            def find(probes):
                index = ivf.IvfIndex(num_views=6, cells=12, probes=probes)
                return jax.jit(lambda: ivf.nearest(prototypes, w.info, relation=relation, count=5, index=index,
                                                   tiling=tiling))()
            found = find(12)
            np.testing.assert_array_equal(found.index, expected.index)
            np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
            few, all_of = np.asarray(find(3).index), np.asarray(expected.index)
            share = np.mean([len(set(a) & set(b) - {-1}) / 5 for a, b in zip(few, all_of)])
            assert 0.5 < share < 1.0, share
        print(jax.device_count())
    """
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, env=environment, capture_output=True, text=True
    )
    assert run.stdout == "4\n", run.stderr
