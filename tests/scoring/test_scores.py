"""Retrieval scores: public scorers' goldens, a naive scorer, ties, edges, memory and every bad input."""

import pathlib
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitpro_jax.evaluate import score
from hitpro_jax.kernels import retrieval
from hitpro_jax.scoring import ranks, scores
from tests.reference.scoring import naive_scores

GOLDENS = sorted((pathlib.Path(__file__).parents[1] / "goldens").glob("eval__*.npz"))
KEYS = ("q_feat", "g_feat", "q_pid", "g_pid", "q_cam", "g_cam")


def _golden(path):
    """The golden, the arguments of `score` and its camera rule."""
    with np.load(path) as file:
        golden = dict(file)
    q_feat, g_feat, q_pid, g_pid, q_cam, g_cam = (golden[key] for key in KEYS)
    if "HITSZ-VCM-reverse" in path.name:
        q_feat, g_feat, q_pid, g_pid, q_cam, g_cam = g_feat, q_feat, g_pid, q_pid, g_cam, q_cam
    return golden, (q_feat, g_feat, q_pid, g_pid, q_cam, g_cam), "eval__BUPTCampus" not in path.name


def _draw(seed, queries=30, gallery=70, features=16, people=8, cameras=4):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(queries, features)).astype(np.float32),
        rng.normal(size=(gallery, features)).astype(np.float32),
        rng.integers(0, people, queries),
        rng.integers(0, people, gallery),
        rng.integers(0, cameras, queries),
        rng.integers(0, cameras, gallery),
    )


def _assert_same(result, expected, atol=1e-6):
    for key in ("cmc", "valid", "ap", "first_hit"):
        np.testing.assert_allclose(result[key], expected[key], atol=atol, err_msg=key)
    for key in ("mAP", "mINP"):
        np.testing.assert_allclose(result[key] / 100, expected[key], atol=atol, err_msg=key)


def test_all_goldens_are_there():
    assert len(GOLDENS) == 16


# The public sorts are not stable: ties are compared through the ranking that each of them used.
CASES = [(path, "order") for path in GOLDENS]
CASES += [(path, "features") for path in GOLDENS if "ties" not in path.name]


@pytest.mark.parametrize(("path", "through"), CASES, ids=lambda case: getattr(case, "stem", case))
def test_goldens_of_public_scorers(path, through):
    golden, arguments, camera_rule = _golden(path)
    ranking = golden["order"] if through == "order" else None
    if "all_queries_invalid" in path.name:
        with pytest.raises(ValueError, match="No query of 10 has a match"):
            score(*arguments, camera_rule=camera_rule, ranking=ranking)
        return
    result = score(*arguments, camera_rule=camera_rule, ranking=ranking)
    if "cmc" in golden:
        held = golden["cmc"][[min(k, len(golden["cmc"]) - 1) for k in range(20)]]
        np.testing.assert_allclose(result["cmc"], held, atol=1e-6)
        np.testing.assert_allclose(result["mAP"], 100 * golden["mAP"], atol=1e-4)
        for k in (1, 5, 10, 20):
            np.testing.assert_allclose(result[f"rank{k}"], 100 * held[k - 1], atol=1e-4)
    if "mINP" in golden:
        np.testing.assert_allclose(result["mINP"], 100 * golden["mINP"], atol=1e-4)
    for key in ("valid", "ap", "first_hit"):
        if key in golden:
            np.testing.assert_allclose(result[key], golden[key], atol=1e-6, err_msg=key)


@pytest.mark.parametrize("camera_rule", [True, False, "same_camera"])
@pytest.mark.parametrize("path", [p for p in GOLDENS if "invalid" not in p.name], ids=lambda path: path.stem)
def test_goldens_by_the_naive_scorer(path, camera_rule):
    """Ties too: here both sides break them by the lower gallery index."""
    _, arguments, _ = _golden(path)
    _assert_same(score(*arguments, camera_rule=camera_rule), naive_scores(*arguments, camera_rule=camera_rule))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), people=st.integers(1, 20), cameras=st.integers(1, 4), rule=st.booleans())
def test_random_sets_by_the_naive_scorer(seed, people, cameras, rule):
    arguments = _draw(seed, people=people, cameras=cameras)
    expected = naive_scores(*arguments, camera_rule=rule)
    if expected is None:
        with pytest.raises(ValueError, match="No query"):
            score(*arguments, camera_rule=rule)
        return
    result = score(*arguments, camera_rule=rule)
    _assert_same(result, expected)
    assert (np.diff(result["cmc"]) >= 0).all()
    assert result["cmc"][-1] <= 1
    assert 0 < result["mINP"] <= result["mAP"] <= 100


@pytest.mark.parametrize(("rule", "name"), [(True, "same_person"), (False, "none"), ("place", "same_camera")])
def test_rules_have_names(rule, name):
    given, named = (score(*_draw(12), camera_rule=each) for each in (rule, name))
    assert given.keys() == named.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(value, named[key])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="unknown camera_rule 'persons': choose one of same_person, same_camera, none"):
        score(*_draw(12), camera_rule="persons")


def test_a_case_by_hand():
    gallery = [[1, 0], [0.9, 0.1], [0.5, 0.5], [0, 1]]
    result = score([[1, 0]], gallery, [7], [7, 8, 7, 7], [1], [1, 1, 2, 2])
    # The first row is the query's own camera; left are 8, 7, 7: hits at ranks 2 and 3.
    assert result["ap"][0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result["first_hit"].tolist() == [2]
    assert result["cmc"].tolist() == [0] + [1] * 19
    assert result["mINP"] == pytest.approx(100 * 2 / 3)
    assert (result["rank1"], result["rank5"]) == (0, 100)
    free = score([[1, 0]], gallery, [7], [7, 8, 7, 7], [1], [1, 1, 2, 2], camera_rule=False)
    assert free["first_hit"].tolist() == [1]
    assert free["mINP"] == pytest.approx(75)


@pytest.mark.parametrize("features", [3, 100, 768])
@pytest.mark.parametrize("gallery", [129, 300])
def test_equal_gallery_rows_rank_by_index(features, gallery):
    row = np.random.default_rng(0).normal(size=features)
    queries = np.random.default_rng(1).normal(size=(9, features))
    pids = np.zeros(gallery, int)
    pids[-1] = 1
    result = score(queries, np.tile(row, (gallery, 1)), [1] * 9, pids, [0] * 9, np.ones(gallery, int))
    np.testing.assert_allclose(result["ap"], 1 / gallery)
    result = score(queries, np.tile(row, (gallery, 1)), [1] * 9, pids[::-1], [0] * 9, np.ones(gallery, int))
    assert (result["first_hit"] == 1).all()


def test_padding_never_outranks_a_match_of_negative_similarity():
    result = score([[1.0, 0.0]], [[-1.0, 0.1], [-1.0, 0.0]], [1], [0, 1], [0], [1, 1])
    assert result["first_hit"].tolist() == [2]
    assert result["ap"][0] == pytest.approx(0.5)


def test_queries_score_alone_as_together():
    """More queries than a block, in another order, and one by one: the same ranks."""
    q_feat, g_feat, q_pid, g_pid, q_cam, g_cam = _draw(5, queries=retrieval.BLOCK + 44, gallery=150, people=30)
    whole = score(q_feat, g_feat, q_pid, g_pid, q_cam, g_cam)
    order = np.random.default_rng(0).permutation(len(q_pid))
    mixed = score(q_feat[order], g_feat, q_pid[order], g_pid, q_cam[order], g_cam)
    np.testing.assert_array_equal(mixed["ap"], whole["ap"][order])
    assert mixed["mAP"] == pytest.approx(whole["mAP"], abs=1e-12)
    for q in np.flatnonzero(whole["valid"])[:5]:
        one = score(q_feat[q : q + 1], g_feat, q_pid[q : q + 1], g_pid, q_cam[q : q + 1], g_cam)
        assert one["ap"][0] == whole["ap"][q]


def test_small_tables_of_matches_change_nothing(monkeypatch):
    arguments = _draw(6, queries=2 * retrieval.BLOCK + 9, gallery=90, people=3)
    whole = score(*arguments)
    shapes, rank_gallery = [], retrieval.rank_gallery

    def spy(query, gallery, *rest, **options):
        shapes.append((query.shape, gallery.shape))
        return rank_gallery(query, gallery, *rest, **options)

    monkeypatch.setattr(ranks, "_TABLE_ENTRIES", 1)
    monkeypatch.setattr(scores, "_TABLE_ENTRIES", 1)
    monkeypatch.setattr(retrieval, "rank_gallery", spy)
    np.testing.assert_array_equal(score(*arguments)["ap"], whole["ap"])
    assert shapes == [((retrieval.BLOCK, 16), (128, 16))] * 3  # whole blocks, whole tiles


def test_score_compiles_once_for_one_size(monkeypatch):
    traces, inner = [], retrieval._rank_block
    monkeypatch.setattr(retrieval, "_rank_block", lambda *args: traces.append(1) or inner(*args))
    q_feat, g_feat, *labels = _draw(11, features=23)
    score(q_feat, g_feat, *labels)
    count = len(traces)
    score(q_feat[::-1], -g_feat, *labels)
    assert len(traces) == count == 1


def test_features_are_normalised_whatever_their_scale_and_type():
    q_feat, g_feat, *labels = _draw(8)
    result = score(q_feat, g_feat, *labels)
    scale = 10.0 ** np.random.default_rng(0).integers(-30, 30, (len(g_feat), 1))
    _assert_same(score(q_feat * 4, g_feat * scale, *labels), naive_scores(q_feat, g_feat, *labels))
    np.testing.assert_array_equal(score(jnp.asarray(q_feat), g_feat.tolist(), *labels)["ap"], result["ap"])


def test_bfloat16_features_score_as_their_float32_values():
    q_feat, g_feat, *labels = _draw(8)
    q_feat, g_feat = jnp.asarray(q_feat, jnp.bfloat16), jnp.asarray(g_feat, jnp.bfloat16)
    wide = score(np.asarray(q_feat, np.float32), np.asarray(g_feat, np.float32), *labels)
    np.testing.assert_array_equal(score(q_feat, g_feat, *labels)["ap"], wide["ap"])


def test_a_zero_row_ties_with_everything_and_breaks_nothing():
    result = score(np.zeros((1, 4)), np.eye(4), [1], [0, 0, 1, 0], [0], [1, 1, 1, 1])
    assert result["first_hit"].tolist() == [3]


def test_a_ranking_replaces_the_sort():
    arguments = _draw(9)
    ranking = np.stack([np.random.default_rng(q).permutation(70) for q in range(30)])
    _assert_same(score(*arguments, ranking=ranking), naive_scores(*arguments, ranking=ranking))


def test_a_first_match_beyond_the_cmc():
    pids = np.zeros(30, int)
    pids[25] = 1
    result = score([[1, 0]], np.tile([1, 0], (30, 1)), [1], pids, [0], np.ones(30, int))
    assert result["first_hit"].tolist() == [99999]
    assert result["rank20"] == 0
    assert result["ap"][0] == pytest.approx(1 / 26)


def _spoiled(**changes):
    arguments = dict(zip(KEYS, _draw(10), strict=True))
    return [changes.get(key, arguments[key]) for key in KEYS]


def _with(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q_feat": np.zeros(30)}, "query_features must be a table"),
        ({"g_feat": np.zeros((0, 16))}, "gallery_features must be a table .* shape \\(0, 16\\)"),
        ({"q_feat": np.zeros((0, 16))}, "query_features must be a table"),
        ({"g_feat": np.zeros((70, 15))}, "query_features are 16 wide but gallery_features 15"),
        (
            {"q_feat": _with(np.ones((30, 16)), (4, 2), np.nan)},
            "query_features holds NaN .* 1 rows, first in row 4",
        ),
        (
            {"g_feat": _with(np.ones((70, 16)), (9, 2), np.inf)},
            "gallery_features holds NaN or infinity.*row 9",
        ),
        ({"q_pid": np.zeros(29, int)}, "query_pids must be 30 integers"),
        ({"g_pid": np.zeros((70, 1), int)}, "gallery_pids must be 70 integers"),
        ({"q_cam": np.zeros(30)}, "query_camids must be 30 integers, .* not float64"),
        ({"g_cam": np.array(["LS3"] * 70)}, "gallery_camids must be 70 integers"),
        ({"q_pid": np.full(30, 99)}, "No query of 30 has a match left in the gallery of 70 rows"),
        ({"q_cam": np.ones(30, int), "g_cam": np.ones(70, int)}, "No query of 30 has a match"),
    ],
)
def test_bad_input_is_one_clear_sentence(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        score(*_spoiled(**changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        (np.zeros((30, 69), int), "ranking must be integers of shape \\(30, 70\\)"),
        (np.zeros((30, 70)), "not float64"),
        (_with(np.tile(np.arange(70), (30, 1)), (3, 5), 4), "Row 3 of ranking must hold each gallery index"),
        (_with(np.tile(np.arange(70), (30, 1)), (2, 0), 70), "Row 2 of ranking"),
    ],
)
def test_a_bad_ranking_is_refused(ranking, message):
    with pytest.raises(ValueError, match=message):
        score(*_draw(10), ranking=ranking)


def test_average_precision_is_summed_in_float64():
    """Of a query with a thousand matches, to the last digits: float32 has seven."""
    rng, size = np.random.default_rng(0), 3000
    ranking = rng.permutation(size)[None]
    pids = (rng.random(size) < 0.3).astype(int)
    nothing = np.ones((1, 2)), np.ones((size, 2)), np.ones(1, int), pids, np.zeros(1, int), np.ones(size, int)
    result = score(*nothing, camera_rule=False, ranking=ranking)
    found = np.flatnonzero(pids[ranking[0]]) + 1
    exact = sum(Fraction(nth, int(rank)) for nth, rank in enumerate(found, 1)) / len(found)
    assert result["ap"].dtype == np.float64
    assert result["ap"][0] == pytest.approx(float(exact), rel=1e-13)
    assert result["mAP"] == pytest.approx(100 * float(exact), rel=1e-13)
    assert result["mINP"] == pytest.approx(100 * len(found) / int(found[-1]), rel=1e-13)
