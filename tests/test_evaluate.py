"""Evaluation from frames to the result, with an encoder of one number a frame."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from hitpro_jax import evaluate
from hitpro_jax.data import sampling
from hitpro_jax.data.protocols import Protocol, Selection
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.features import Embedded, Embedder, embed_split
from hitpro_jax.options import EvalOptions
from hitpro_jax.sharding import make_mesh
from hitpro_jax.types import IR, RGB
from hitpro_jax.workdir import Wait, Workdir
from tests.one_pixel import Numbers, embed, embedder, records
from tests.reference.scoring import naive_scores

QUERY, GALLERY = Selection("query"), Selection("gallery")
BOTH = Protocol("both", "same_person", {"i2v": (QUERY, GALLERY), "v2i": (GALLERY, QUERY)}, 2, (1, 1))


@pytest.fixture
def dataset():
    return Dataset("made", "nowhere", (), records(IR, 13, 0), records(RGB, 22, 1), {})


def test_every_direction_equals_naive(dataset):
    result = evaluate.evaluate(embedder(), {}, dataset, BOTH, step=7, titles={"i2v": "there"})
    sides = {name: embed_split(embedder(), {}, getattr(dataset, name)) for name in ("query", "gallery")}
    assert list(result.scores) == ["i2v", "v2i"]
    for key, (q, g) in {"i2v": ("query", "gallery"), "v2i": ("gallery", "query")}.items():
        ids = sides[q].pids, sides[g].pids, sides[q].camids, sides[g].camids
        expected = naive_scores(sides[q].features, sides[g].features, *ids)
        np.testing.assert_allclose(result.scores[key]["ap"], expected["ap"], atol=1e-6)
        assert result.headline[key]["mAP"] == pytest.approx(100 * expected["mAP"], abs=1e-4)
    assert (result.protocol, result.setting, result.rows_changed, result.step) == ("both", BOTH.setting, "", 7)
    assert [title for title, _ in result.rows()] == ["there", "v2i"]
    again = evaluate.score_splits(sides, dataset, BOTH, step=7)
    assert again.to_json() == result.to_json()


def test_each_split_is_embedded_once(dataset):
    clips = []
    evaluate.evaluate(embedder(function=lambda *args: clips.append(args[1]) or embed(*args)), {}, dataset, BOTH, step=0)
    assert len(clips) == -(-13 // 4) + -(-22 // 4)


def of_trials(dataset, sizes):
    """The protocol of trials of which number n searches the last sizes[n] gallery rows."""
    searched = {
        n: GALLERY._replace(first_frames=frozenset(r.frames[0] for r in dataset.gallery[-size:]))
        for n, size in sizes.items()
    }
    trials = {n: {"i2v": (QUERY, side), "v2i": (side, QUERY)} for n, side in searched.items()}
    return replace(BOTH, directions=next(iter(trials.values())), trials=trials)


def test_every_trial_equals_naive_on_its_own_rows_and_each_split_is_embedded_once(dataset):
    clips, sizes = [], {3: 12, 4: 15, 8: 22}
    spy = embedder(function=lambda *args: clips.append(args[1]) or embed(*args))
    result = evaluate.evaluate(spy, {}, dataset, of_trials(dataset, sizes), step=0)
    assert len(clips) == -(-13 // 4) + -(-22 // 4)
    query, gallery = (embed_split(embedder(), {}, getattr(dataset, name)) for name in ("query", "gallery"))
    assert list(result.trials) == [3, 4, 8]
    for number, size in sizes.items():
        last = gallery.take(np.arange(22 - size, 22))
        for key, (q, g) in {"i2v": (query, last), "v2i": (last, query)}.items():
            expected = naive_scores(q.features, g.features, q.pids, g.pids, q.camids, g.camids)
            assert result.trials[number][key]["mAP"] == pytest.approx(100 * expected["mAP"], abs=1e-4)
    assert result.headline["i2v"]["mAP"] == pytest.approx(np.mean([t["i2v"]["mAP"] for t in result.trials.values()]))
    assert result.setting.endswith("camera rule, mean and std over 3 trials")


def test_how_many_queries_are_scored_is_counted_over_directions_and_trials(dataset):
    splits = {name: embed_split(embedder(), {}, getattr(dataset, name)) for name in ("query", "gallery")}
    wait = Wait()
    result = evaluate.score_splits(splits, dataset, of_trials(dataset, {0: 20, 1: 20}), step=0, wait=wait)
    done = sum(scores["valid"].sum() for trial in result.trials.values() for scores in trial.values())
    assert wait.count == f", scored {done} of {2 * (13 + 20)} queries"


def test_without_directions_nothing_is_embedded(dataset):
    result = evaluate.evaluate(embedder(function=None), {}, dataset, Protocol("none", "none", {}), step=3)
    assert result.to_json() == {"protocol": "none", "step": 3}


def test_unreadable_frames_are_counted_as_changed_rows(dataset):
    record = dataset.query[0]
    mixed = Record(("250", record.frames[0]), record.modality, record.camid, record.pid)
    changed = Dataset("made", "nowhere", (), (mixed, *dataset.query[1:]), dataset.gallery, {})
    result = evaluate.evaluate(embedder(Numbers({"250"})), {}, changed, BOTH, step=0)
    assert result.rows_changed == "1 frames unreadable"
    assert result.setting.endswith(", NOT the published rows: 1 frames unreadable")


def test_rows_that_a_direction_retrieves_count_in_its_gallery():
    gallery = records(RGB, 5, 2) + records(IR, 6, 3)
    dataset = Dataset("made", "nowhere", (), records(RGB, 4, 4), gallery, {})
    infrared = Protocol("one", "none", {"x": (QUERY, Selection("gallery", IR))}, 2, (1, 1))
    features = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    ids = (np.array([getattr(r, name) for r in gallery]) for name in ("pid", "camid"))
    splits = {"gallery": Embedded(features, *ids), "query": Embedded(features[7:], np.zeros(4, int), np.zeros(4, int))}
    found = evaluate.retrieve_direction(splits, dataset, infrared, "x", top=1)
    assert found.index.tolist() == [[2], [3], [4], [5]]  # rows 7 to 10 of the split
    assert found.num_gallery == 6


PAIRINGS = {"ir2rgb": (IR, RGB), "rgb2ir": (RGB, IR), "rgb2rgb": (RGB, RGB), "ir2ir": (IR, IR), "all": (None, None)}


@pytest.mark.parametrize(("rule", "multiple"), [("same_person", 1), ("none", 1), ("none", 4)])
def test_every_pairing_of_modalities_equals_naive(rule, multiple):
    """Of lists of both modalities, whose last RGB rows are left out down to a multiple."""
    rng = np.random.default_rng(5)
    lists = {
        name: tuple(
            Record(("1",), int(m), int(rng.integers(0, 3)), int(rng.integers(0, 9)))
            for m in rng.permutation(np.repeat([RGB, IR], sizes))
        )
        for name, sizes in (("query", (11, 9)), ("gallery", (31, 29)))
    }
    dataset = Dataset("made", "nowhere", (), lists["query"], lists["gallery"], {})
    directions = {key: (Selection("query", q), Selection("gallery", g)) for key, (q, g) in PAIRINGS.items()}
    protocol = Protocol("pairings", rule, directions, 2, (1, 1), rgb_multiple=multiple)
    splits, kept = {}, {}
    for name, tracklets in lists.items():
        ids = (np.array([getattr(r, field) for r in tracklets]) for field in ("pid", "camid"))
        splits[name] = Embedded(rng.normal(size=(len(tracklets), 8)).astype(np.float32), *ids)
        rgb = [i for i, r in enumerate(tracklets) if r.modality == RGB]
        dropped = rgb[-3:] if multiple == 4 else []  # of 11 and of 31
        kept[name] = [i for i in range(len(tracklets)) if i not in dropped]
    result = evaluate.score_splits(splits, dataset, protocol, step=0)
    assert list(result.scores) == list(PAIRINGS)
    for key, (q, g) in PAIRINGS.items():
        rows = {
            name: [i for i in kept[name] if modality in (None, lists[name][i].modality)]
            for name, modality in (("query", q), ("gallery", g))
        }
        columns = [splits[name][column][rows[name]] for column in range(3) for name in ("query", "gallery")]
        expected = naive_scores(*columns, camera_rule=rule)
        np.testing.assert_array_equal(result.scores[key]["valid"], expected["valid"])
        for figure in ("mAP", "mINP"):
            assert result.scores[key][figure] / 100 == pytest.approx(expected[figure], abs=1e-6), key


@pytest.mark.parametrize(("choose", "frames"), [(sampling.test_frames, 6), (sampling.uniform_frames, 10)])
def test_tracklets_are_embedded_by_the_frames_of_the_protocol(choose, frames):
    lengths = (1, 9, 37, 100)
    tracklets = tuple(Record(tuple(map(str, range(n))), modality, 1, 0) for n in lengths for modality in (IR, RGB))
    dataset, seen = Dataset("made", "nowhere", (), tracklets, tracklets, {}), []

    def spy(variables, given, mask, layout):
        seen.append(np.asarray(given)[:, :, 0, 0, 0].tolist())
        return np.ones((len(given), 2), np.float32)

    protocol = Protocol("one", "none", {"all": (QUERY, GALLERY)}, frames, (1, 1), choose)
    given = Embedder(spy, make_mesh(), Numbers(), EvalOptions(frames=frames, batch_size=4))
    evaluate.evaluate(given, {}, dataset, protocol, step=0)
    expected = [choose(n, frames).tolist() for n in lengths]
    assert seen == [expected] * 4  # RGB and infrared, of query and of gallery


def test_a_workdir_gets_the_figures_and_a_line(dataset, tmp_path):
    screen = Console(file=io.StringIO(), width=200)
    with Workdir(tmp_path, screen) as workdir:
        result = evaluate.evaluate(embedder(), {}, dataset, BOTH, step=5, workdir=workdir)
        evaluate.log(result, workdir)
        evaluate.log(evaluate.evaluate(embedder(), {}, dataset, Protocol("none", "none", {}), step=6), workdir)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 5, **result.metrics()}
    assert screen.file.getvalue().startswith(f"step 5, both ({BOTH.setting}): i2v rank-1 ")


def test_a_long_scoring_says_how_far_it_is_from_ten_seconds_on(dataset, tmp_path, monkeypatch):
    waits = {}

    @contextlib.contextmanager
    def waiting(workdir, what, after=3.0):
        waits[what] = wait, _ = Wait(), after
        yield wait

    monkeypatch.setattr(Workdir, "waiting", waiting)
    with Workdir(tmp_path) as workdir:
        result = evaluate.evaluate(embedder(), {}, dataset, BOTH, step=0, workdir=workdir)
    wait, after = waits["scoring"]
    done = sum(scores["valid"].sum() for scores in result.scores.values())
    assert (wait.count, after) == (f", scored {done} of 35 queries", 10.0)


def test_score_is_importable_from_here():
    assert evaluate.score([[1.0, 0.0]], [[1.0, 0.0]], [1], [1], [0], [1])["rank1"] == 100
