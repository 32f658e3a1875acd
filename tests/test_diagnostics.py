"""The figures of a refresh against loops over pairs, with and without person ids."""

import tracemalloc

import numpy as np
import pytest

from hitpro_jax import diagnostics
from hitpro_jax.types import Mined, Positives, TrackletInfo
from tests.reference.worlds import world

SIZE, PADDING, PEOPLE = 20, 3, 5


def mined(
    seed: int, size: int = SIZE, padding: int = PADDING, width: int = 7, columns: int = 4, label: bool = False
) -> Mined:
    """What a refresh might find; its padding rows are loud, so that counting them gives other figures."""
    rng = np.random.default_rng(seed)
    total = size + padding
    bank = rng.normal(size=(total, width)).astype(np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)

    def table(columns):
        """Rows of distinct ids, some empty, -1 behind (and now and then between) them."""
        index = np.argsort(rng.random((total, 8 * columns)), axis=1)[:, :columns].astype(np.int32) % size
        index = np.where((rng.random(index.shape) < 0.8) & (index != np.arange(total)[:, None]), index, -1)
        for row in index:
            _, first = np.unique(row, return_index=True)
            row[np.setdiff1d(np.arange(columns), first)] = -1
        index[size:] = 0
        return index

    def stage():
        index = table(columns)
        return Positives(index, (index >= 0) * 0.25, table(2), rng.random(2).astype(np.float32))

    reliability = rng.random(total).astype(np.float32) + 9 * (np.arange(total) >= size)
    stages = stage(), stage()
    same_view = table(3)
    clusters = np.append(rng.integers(-1, 4, size), np.full(padding, 9)) if label else None
    return Mined(bank, reliability, *stages, same_view, clusters)


def tracklets(modality, camera, view, padding: int = PADDING) -> TrackletInfo:
    """As training has them; padding rows behind, which belong to no view."""
    columns = (np.pad(np.asarray(column), (0, padding), constant_values=7) for column in (modality, camera, view))
    return TrackletInfo(*columns, valid=np.arange(len(modality) + padding) < len(modality))


@pytest.fixture
def known():
    w = world(3, size=SIZE, padding=0)
    return w.modality, w.camera, w.view, np.random.default_rng(0).integers(0, PEOPLE, SIZE)


PREFIX = {"within": "align/within", "across": "align/cross"}


def listed(index):
    return [(i, int(j)) for i, row in enumerate(index[:SIZE]) for j in row if j >= 0]


def legal(stage, modality, camera, i, j, ban=False):
    if stage == "across":
        return modality[i] != modality[j] and not (ban and camera[i] == camera[j])
    return i != j and modality[i] == modality[j] and (camera[i] == camera[j]) == (stage == "same_view")


@pytest.mark.parametrize(("stage", "ban"), [("within", False), ("across", False), ("across", True)])
def test_figures_of_a_stage_equal_naive(known, stage, ban):
    modality, camera, view, pids = known
    now, before = mined(1), mined(2)
    figures = diagnostics.describe(now, before, tracklets(modality, camera, view), pids, ban_same_camera=ban)
    pairs, old = listed(getattr(now, stage).index), listed(getattr(before, stage).index)
    true = [(i, j) for i, j in pairs if pids[i] == pids[j] and legal(stage, modality, camera, i, j, ban)]
    possible = [
        (i, j)
        for i in range(SIZE)
        for j in range(SIZE)
        if pids[i] == pids[j] and legal(stage, modality, camera, i, j, ban)
    ]
    seekers = {i for i, _ in possible}
    expected = {
        "per_tracklet": len(pairs) / SIZE,
        "share_none": sum(i not in {a for a, _ in pairs} for i in range(SIZE)) / SIZE,
        "reciprocal": sum((j, i) in pairs for i, j in pairs) / len(pairs),
        "stability": len(set(pairs) & set(old)) / len(set(pairs) | set(old)),
        "precision": len(true) / len(pairs),
        "recall": len(true) / len(possible),
        "recall_any": len({i for i, _ in true} & seekers) / len(seekers),
        "false_any": len({i for i, _ in pairs} - seekers) / max(1, SIZE - len(seekers)),
    }
    assert 0 < expected["precision"] < 1
    assert 0 < expected["recall_any"] < 1
    assert expected["reciprocal"] > 0
    for name, value in expected.items():
        assert figures[f"{PREFIX[stage]}/{name}"] == pytest.approx(value), name
    directions = ("rgb", "ir") if stage == "within" else ("rgb_to_ir", "ir_to_rgb")
    for name, value in zip(directions, getattr(now, stage).threshold, strict=True):
        assert figures[f"{PREFIX[stage]}/threshold_{name}"] == pytest.approx(float(value))


def test_share_of_twins_equals_naive(known):
    modality, camera, view, pids = known
    now = mined(1)
    pairs = [(i, j) for i, j in listed(now.across.index) if modality[i] != modality[j]]
    only = np.full_like(now.across.index, -1)  # as mining gives it: no positive of the own modality
    for i, j in pairs:
        only[i, np.argmin(only[i])] = j
    now = now._replace(across=now.across._replace(index=only))
    twins = [(i, j) for i, j in pairs if pids[i] == pids[j] and camera[i] == camera[j]]
    figures = diagnostics.describe(now, None, tracklets(modality, camera, view), pids)
    assert 0 < len(twins) < sum(pids[i] == pids[j] for i, j in pairs)
    assert figures["align/cross/twin_share"] == pytest.approx(len(twins) / len(pairs))


def test_figures_of_the_bank_equal_naive(known):
    modality, camera, view, pids = known
    now, before = mined(1), mined(2)
    figures = diagnostics.describe(now, before, tracklets(modality, camera, view), pids)
    bank, old = now.prototypes[:SIZE], before.prototypes[:SIZE]
    assert figures["bank/reliability"] == pytest.approx(now.reliability[:SIZE].mean())
    assert figures["bank/drift"] == pytest.approx(np.mean([1 - a @ b for a, b in zip(bank, old)]), abs=1e-5)
    alike = listed(now.same_view)
    right = [pids[i] == pids[j] and legal("same_view", modality, camera, i, j) for i, j in alike]
    assert figures["align/same_view/precision"] == pytest.approx(np.mean(right))
    means = {}  # of each pair of views
    for a in set(view):
        for b in set(view):
            members = np.flatnonzero(view == a), np.flatnonzero(view == b)
            values = [bank[i] @ bank[j] for i in members[0] for j in members[1] if i != j]
            if a > b or not values:
                continue
            kinds, cameras = modality[[m[0] for m in members]], camera[[m[0] for m in members]]
            name = "-".join(f"{'ir' if kind else 'rgb'}{number}" for kind, number in zip(kinds, cameras))
            assert figures[f"bank/similarity/{name}"] == pytest.approx(np.mean(values), abs=1e-5)
            relation = "same_view" if a == b else "other_camera" if kinds[0] == kinds[1] else "other_modality"
            means.setdefault(relation, []).append(np.mean(values))
    assert len(means) == 3
    for relation, values in means.items():
        assert figures[f"bank/similarity/{relation}"] == pytest.approx(np.mean(values), abs=1e-5)


def test_without_ids_all_but_precision_and_recall_is_there(known):
    *columns, pids = known
    now, before = mined(1), mined(2)
    labelled = diagnostics.describe(now, before, tracklets(*columns), pids)
    plain = diagnostics.describe(now, before, tracklets(*columns), None)
    judged = ("precision", "recall", "false_any", "twin_share")
    assert plain == {k: v for k, v in labelled.items() if not any(word in k for word in judged)}
    assert len(plain) == len(labelled) - 13
    assert "precision" in diagnostics.summary(labelled)
    assert "precision" not in diagnostics.summary(plain)


def test_the_first_refresh_has_nothing_to_compare_with(known):
    later = diagnostics.describe(mined(1), mined(2), tracklets(*known[:3]), known[3])
    first = diagnostics.describe(mined(1), None, tracklets(*known[:3]), known[3])
    assert set(later) - set(first) == {"bank/drift", "align/within/stability", "align/cross/stability"}


def test_the_same_memory_twice_is_stable(known):
    figures = diagnostics.describe(mined(1), mined(1), tracklets(*known[:3]), known[3])
    assert figures["align/within/stability"] == 1
    assert figures["bank/drift"] == pytest.approx(0, abs=1e-6)


def test_nothing_mined_gives_zeros(known):
    now = mined(1)
    nothing = now.within._replace(index=np.full_like(now.within.index, -1))
    now = now._replace(within=nothing, across=nothing, same_view=np.full_like(now.same_view, -1))
    figures = diagnostics.describe(now, now, tracklets(*known[:3]), known[3])
    for stage in ("within", "across"):
        values = {
            name: figures[f"{PREFIX[stage]}/{name}"]
            for name in (
                "per_tracklet",
                "share_none",
                "reciprocal",
                "stability",
                "precision",
                "recall",
                "recall_any",
                "false_any",
            )
        }
        assert values == dict.fromkeys(values, 0.0) | {"share_none": 1.0}


def test_one_view_has_no_other_camera_and_no_other_modality():
    zeros = np.zeros(SIZE, np.int32)
    figures = diagnostics.describe(mined(1), None, tracklets(zeros, zeros, zeros), np.arange(SIZE))
    similarities = [name for name in figures if "similarity" in name]
    assert similarities == ["bank/similarity/rgb0-rgb0", "bank/similarity/same_view"]
    assert figures["align/within/recall"] == figures["align/within/precision"] == 0.0
    assert all(np.isfinite(value) for value in figures.values())


def test_nothing_of_the_size_of_all_pairs_is_held():
    size = 6000
    w, big = world(0, size=size, padding=0), mined(0, size=size, padding=0)
    pids = np.arange(size) // 4
    tracemalloc.start()
    diagnostics.describe(big, big, tracklets(w.modality, w.camera, w.view, 0), pids)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size * size / 4


def test_clusters_are_described_where_there_are_some(known):
    *columns, pids = known
    now = mined(1, label=True)
    info = tracklets(*columns)
    assert not any("clusters" in name for name in diagnostics.describe(mined(1), None, info, pids))
    figures = diagnostics.describe(now, None, info, pids)
    label = now.label[:SIZE]
    members = [pids[label == cluster] for cluster in range(4)]
    assert figures["clusters/number"] == len(set(label) - {-1})
    assert figures["clusters/outliers"] == pytest.approx(np.mean(label < 0))
    commonest = sum(np.bincount(people).max() for people in members if len(people))
    assert figures["clusters/purity"] == pytest.approx(commonest / (label >= 0).sum())
    assert "clusters/purity" not in diagnostics.describe(now, None, info, None)
    line = diagnostics.summary(figures)
    for one, name in enumerate(("rgb", "ir")):
        own = label[columns[0] == one]
        sizes = sorted(np.bincount(own[own >= 0])[np.unique(own[own >= 0])])
        wanted = [len(sizes), sizes[0], np.median(sizes), sizes[-1], (own < 0).sum()]
        words = ("number", "smallest", "median", "largest", "outliers")
        assert [figures[f"clusters/{name}/{word}"] for word in words] == wanted
        number, least, middle, most, outliers = (f"{value:g}" for value in wanted)
        text = (
            f"{name.upper()} clusters: {number}, smallest/median/largest {least}/{middle}/{most}, outliers {outliers}"
        )
        assert text in line


def test_a_modality_without_clusters_is_described(known):
    now = mined(1, label=True)
    figures = diagnostics.describe(now._replace(label=np.full_like(now.label, -1)), None, tracklets(*known[:3]), None)
    total = np.bincount(known[0])
    assert f"RGB clusters: 0, smallest/median/largest 0/0/0, outliers {total[0]}" in diagnostics.summary(figures)


@pytest.mark.parametrize("ban", [False, True])
def test_recall_of_tables_that_hold_everybody_is_one(known, ban):
    """Also of tables with entries that the stage does not look for: each is counted on both sides or on neither."""
    modality, camera, view, pids = known
    now = mined(1)
    everybody = np.tile(np.arange(len(now.prototypes), dtype=np.int32), (len(now.prototypes), 1))
    stage = now.within._replace(index=np.where(everybody < SIZE, everybody, -1))
    now = now._replace(within=stage, across=stage, same_view=stage.index)
    figures = diagnostics.describe(now, None, tracklets(modality, camera, view), pids, ban_same_camera=ban)
    for name in (*PREFIX.values(), "align/same_view"):
        assert figures[f"{name}/recall"] == figures[f"{name}/recall_any"] == 1


def test_the_line_of_a_refresh_has_the_share_of_twins(known):
    *columns, pids = known
    labelled = diagnostics.describe(mined(1), None, tracklets(*columns), pids)
    share = labelled["align/cross/twin_share"]
    assert f", twins {share:.2f};" in diagnostics.summary(labelled)
    assert "twins" not in diagnostics.summary(labelled | {"align/cross/per_tracklet": 0.0})
    assert "twins" not in diagnostics.summary(diagnostics.describe(mined(1), None, tracklets(*columns), None))
