"""Ranked retrieval against sorted lists: rules, ties, rows that leave, short galleries, and no labels at all."""

import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitpro_jax.kernels import retrieval
from hitpro_jax.scoring import ranks, scores
from hitpro_jax.scoring.ranks import retrieve
from tests.reference.scoring import naive_rankings

RULES = ["none", "same_person", "same_camera"]


def draw(seed, queries=30, gallery=70, features=16, people=8, cameras=4, levels=None):
    """Queries and gallery; with `levels`, of whole numbers so that many similarities are equal."""
    rng = np.random.default_rng(seed)

    def table(rows):
        if levels:
            return rng.integers(-levels, levels + 1, (rows, features)).astype(np.float32)
        return rng.normal(size=(rows, features)).astype(np.float32)

    return (
        table(queries),
        table(gallery),
        rng.integers(0, people, queries),
        rng.integers(0, people, gallery),
        rng.integers(0, cameras, queries),
        rng.integers(0, cameras, gallery),
    )


def assert_equals_naive(found, expected, top):
    assert found.index.shape == found.similarity.shape == (len(expected), top)
    assert (found.index.dtype, found.similarity.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(found.num_matches, [len(matches) for *_, matches in expected])
    np.testing.assert_array_equal(found.ranks, np.concatenate([matches for *_, matches in expected]))
    for query, (order, cosines, matches) in enumerate(expected):
        missing = max(0, top - len(order))
        assert found.index[query].tolist() == order[:top] + [-1] * missing, query
        np.testing.assert_allclose(found.similarity[query], cosines[:top] + [-np.inf] * missing, atol=1e-6)
        assert found.ranks_of(query).tolist() == matches


@pytest.mark.parametrize("top", [0, 1, 10, 70, 100])
@pytest.mark.parametrize("rule", RULES)
def test_rankings_equal_naive(rule, top):
    arguments = draw(1)
    found = retrieve(*arguments, camera_rule=rule, top=top)
    assert found.num_gallery == 70
    assert_equals_naive(found, naive_rankings(*arguments, camera_rule=rule), top)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), people=st.integers(1, 20), cameras=st.integers(1, 4), rule=st.sampled_from(RULES))
def test_rankings_of_random_sets_equal_naive(seed, people, cameras, rule):
    arguments = draw(seed, people=people, cameras=cameras)
    assert_equals_naive(
        retrieve(*arguments, camera_rule=rule, top=20), naive_rankings(*arguments, camera_rule=rule), 20
    )


@pytest.mark.parametrize("rule", RULES)
def test_ties_go_to_the_lower_gallery_row(rule):
    """Gallery rows that are copies of few have equal similarities exactly, on both sides."""
    q_feat, g_feat, *ids = draw(2, gallery=200)
    g_feat = g_feat[np.random.default_rng(0).integers(0, 12, 200)]
    expected = naive_rankings(q_feat, g_feat, *ids, camera_rule=rule)
    assert_equals_naive(retrieve(q_feat, g_feat, *ids, camera_rule=rule, top=50), expected, 50)


def test_rows_of_zeros_tie_in_order():
    found = retrieve(np.zeros((1, 4)), -np.eye(4), [1], [0, 0, 1, 0], [0], [1] * 4, camera_rule="same_person", top=6)
    assert found.index.tolist() == [[0, 1, 2, 3, -1, -1]]
    assert found.ranks.tolist() == [3]


def test_ranks_and_rows_agree_where_similarities_nearly_tie():
    """Of one product: a match of rank r stands at r in the index, whatever rounding does."""
    arguments = draw(3, queries=40, gallery=300, features=4, levels=2)
    found = retrieve(*arguments, camera_rule="same_person", top=300)
    for query in range(40):
        kept = found.index[query][found.index[query] >= 0]
        hits = 1 + np.flatnonzero(arguments[3][kept] == arguments[2][query])
        assert found.ranks_of(query).tolist() == hits.tolist()


def test_more_queries_than_a_block_and_small_tables_change_nothing(monkeypatch):
    arguments = draw(4, queries=2 * retrieval.BLOCK + 9, gallery=90, people=3)
    whole = retrieve(*arguments, camera_rule="same_person", top=5)
    monkeypatch.setattr(ranks, "_TABLE_ENTRIES", 1)
    parts = retrieve(*arguments, camera_rule="same_person", top=5)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
    last = retrieve(*(column[-9:] if i % 2 == 0 else column for i, column in enumerate(arguments)), camera_rule=True)
    np.testing.assert_array_equal(last.index[:, :5], whole.index[-9:])


@pytest.mark.parametrize("top", [0, 5, 120])
@pytest.mark.parametrize("rule", RULES)
def test_sorting_and_counting_give_the_same_bits(rule, top, monkeypatch):
    """With many ties, zeros of both signs, and more queries than a block; some queries have few matches, some many."""
    q_feat, g_feat, *ids = draw(10, queries=retrieval.BLOCK + 40, gallery=100, features=3, people=4, levels=1)
    g_feat[::7] = 0.0
    found = []
    for counted in (0, 26, 100):
        monkeypatch.setattr(retrieval, "COUNTED", counted)
        found.append(retrieve(q_feat, g_feat, *ids, camera_rule=rule, top=top))
    assert found[0].num_matches.max() > 26 > found[0].num_matches[found[0].num_matches > 0].min()
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("rule", RULES)
def test_sorted_rankings_equal_naive(rule, monkeypatch):
    monkeypatch.setattr(retrieval, "COUNTED", 0)
    q_feat, g_feat, *ids = draw(11, gallery=150)
    g_feat = g_feat[np.random.default_rng(0).integers(0, 40, 150)]
    expected = naive_rankings(q_feat, g_feat, *ids, camera_rule=rule)
    assert_equals_naive(retrieve(q_feat, g_feat, *ids, camera_rule=rule, top=12), expected, 12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=60))
def test_positions_by_falling_value_are_those_of_a_stable_sort(values):
    values = np.array(values, np.float32) + 0.0  # no -0.0
    values[values == 0] = 0.0
    expected = sorted(range(len(values)), key=lambda i: -values[i])
    assert ranks._by_falling(values).tolist() == expected


def test_the_tables_of_many_matches_are_of_one_block_at_a_time():
    """70,000 matches a query: all ranks of these 600 queries would be 168 MB, and of 200,000 queries 56 GB."""
    queries, gallery = 2 * retrieval.BLOCK + 88, 70_016
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(rows, 2)).astype(np.float32) for rows in (queries, gallery))
    pids = np.zeros(queries, int), (np.arange(gallery) >= 70_000).astype(int)
    labels = ranks.make_labels(*pids, None, None, queries, gallery, camera_rule="none")
    done, counts = [], []
    for found in ranks.ranked(*ranks.unit_features(*features), labels, progress=counts.append):
        assert found.ranks.shape[1] == 70_000
        assert found.ranks.size <= retrieval.BLOCK * 70_000
        assert (np.diff(found.ranks, axis=1) > 0).all()
        done += found.queries.tolist()
    assert sorted(done) == list(range(queries))
    assert counts == [retrieval.BLOCK, retrieval.BLOCK, 88]


def test_scores_are_summed_while_ranks_are_found(monkeypatch):
    """Of a query's many ranks only those of this chunk and the one before are kept."""
    monkeypatch.setattr(retrieval, "BLOCK", 16)
    arguments = draw(12, queries=64, gallery=200, people=2)
    expected = scores.scores_of(retrieve(*arguments, camera_rule="none"))
    tables, made = [], ranks._sorted_chunks

    def watched(*given):
        for found in made(*given):
            assert sum(table() is not None for table in tables) <= 1
            tables.append(weakref.ref(found.ranks))
            yield found
            del found

    monkeypatch.setattr(ranks, "_sorted_chunks", watched)
    found = scores.score(*arguments, camera_rule="none")
    assert len(tables) == 4
    assert found["mAP"] == expected["mAP"]
    np.testing.assert_array_equal(found["ap"], expected["ap"])


def test_queries_without_a_match_are_retrieved_too():
    q_feat, g_feat, q_pid, *ids = draw(5)
    found = retrieve(q_feat, g_feat, np.where(np.arange(30) % 2, q_pid, 99), *ids, camera_rule="none", top=3)
    assert (found.num_matches[::2] == 0).all()
    assert (found.index >= 0).all()
    np.testing.assert_array_equal(found.index, retrieve(q_feat, g_feat, camera_rule="none", top=3).index)


def test_without_labels_there_are_rows_and_no_ranks():
    q_feat, g_feat, _, _, q_cam, g_cam = draw(6)
    for rule, cameras in (("none", (None, None)), ("same_camera", (q_cam, g_cam))):
        found = retrieve(q_feat, g_feat, None, None, *cameras, camera_rule=rule, top=7)
        expected = naive_rankings(q_feat, g_feat, None, None, *cameras, camera_rule=rule)
        assert found.ranks.size == 0
        assert_equals_naive(found, expected, 7)
        with pytest.raises(ValueError, match="No query of 30 has a match"):
            scores.scores_of(found)


def test_scores_of_retrieved_rows_are_those_of_score():
    arguments = draw(7, people=12)
    found = scores.scores_of(retrieve(*arguments, camera_rule="same_person", top=15))
    expected = scores.score(*arguments)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(
    ("ids", "rule", "message"),
    [
        ((None, None, None, None), "same_camera", "camera_rule 'same_camera' needs camera ids"),
        ((None, None, None, None), "same_person", "camera_rule 'same_person' needs camera ids"),
        ((None, None, np.zeros(30, int), np.zeros(70, int)), True, "camera_rule 'same_person' needs person ids"),
        ((np.zeros(30, int), None, None, None), "none", "gallery_pids must be 70 integers"),
        ((None, None, np.zeros(30, int), None), "same_camera", "gallery_camids must be 70 integers"),
        ((None, None, None, None), "place of people", "unknown camera_rule"),
    ],
)
def test_ids_that_a_rule_needs_are_asked_for(ids, rule, message):
    q_feat, g_feat, *_ = draw(8)
    with pytest.raises(ValueError, match=message) as raised:
        retrieve(q_feat, g_feat, *ids, camera_rule=rule)
    assert "\n" not in str(raised.value)


def test_camera_ids_may_be_any_integers():
    q_feat, g_feat, q_pid, g_pid, q_cam, g_cam = draw(9)
    plain = retrieve(q_feat, g_feat, q_pid, g_pid, q_cam, g_cam, camera_rule="same_camera")
    wide = retrieve(q_feat, g_feat, q_pid, g_pid, q_cam * 2**40 - 1, g_cam * 2**40 - 1, camera_rule="same_camera")
    np.testing.assert_array_equal(plain.index, wide.index)
    np.testing.assert_array_equal(plain.ranks, wide.ranks)
