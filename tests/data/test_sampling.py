"""Frames of clips against loops and published loaders; plans of epochs against what a batch must hold."""

import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hitpro_jax.data import sampling
from hitpro_jax.options import BatchOptions
from hitpro_jax.types import IR, RGB

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("length", [6, 10])
def test_test_frames_are_those_of_m3_reid(length):
    golden = np.load(GOLDENS / "sampling__M3-ReID__data_dataset.py__VideoVIDataset.npz")
    expected = golden[f"evenly_test_S{length}"]
    assert len(expected) == 150
    for num_frames, row in enumerate(expected, 1):
        np.testing.assert_array_equal(sampling.test_frames(num_frames, length), row)


@pytest.mark.parametrize("length", [1, 6, 10])
def test_uniform_frames_are_those_of_buptcampus(length):
    golden = np.load(GOLDENS / "sampling__BUPTCampus__dataloader.py__BUPTCampus_Dataset.npz")
    expected = golden[f"uniform_S{length}"]
    assert len(expected) == 150
    for num_frames, row in enumerate(expected, 1):
        np.testing.assert_array_equal(sampling.uniform_frames(num_frames, length), row)


@pytest.mark.parametrize(("parts", "length"), [(4, 6), (1, 1), (3, 2), (5, 7)])
def test_part_frames_hold_the_frames_of_their_part(parts, length):
    for n in range(1, 60):
        index, mask = sampling.part_frames(n, parts, length)
        assert index.shape == (parts, length)
        assert mask.shape == (parts,)
        assert index.min() >= 0
        assert index.max() < n
        for s in range(parts):
            members = list(range(math.floor(s * n / parts), math.floor((s + 1) * n / parts)))
            assert mask[s] == bool(members)
            if len(members) >= length:  # evenly spaced: steps differ by one at most, from the first member on
                steps = np.diff(index[s])
                assert index[s, 0] == members[0]
                assert set(index[s]) <= set(members)
                assert length == 1 or steps.max() - steps.min() <= 1
            elif members:
                assert index[s].tolist() == members + [members[-1]] * (length - len(members))


def test_part_frames_by_hand():
    index, mask = sampling.part_frames(24, 4, 6)
    assert index.tolist() == np.arange(24).reshape(4, 6).tolist()
    assert mask.all()
    index, mask = sampling.part_frames(1, 4, 3)
    assert mask.tolist() == [False, False, False, True]
    assert index[3].tolist() == [0, 0, 0]
    index, mask = sampling.part_frames(11, 2, 3)  # parts 0-4 and 5-10
    assert index.tolist() == [[0, 1, 3], [5, 7, 9]]


@pytest.mark.parametrize(("num_frames", "length"), [(1, 1), (1, 6), (5, 6), (6, 6), (7, 6), (24, 6), (100, 7)])
def test_clip_frames_take_one_frame_of_each_segment(num_frames, length):
    seen = [set() for _ in range(length)]
    for seed in range(400):
        frames = sampling.clip_frames(num_frames, length, np.random.default_rng(seed))
        assert frames.shape == (length,)
        for position, frame in enumerate(frames.tolist()):
            seen[position].add(frame)
    for position in range(length):
        if num_frames < length:
            assert seen[position] == {min(position, num_frames - 1)}
        else:
            start, end = position * num_frames // length, (position + 1) * num_frames // length
            assert seen[position] == set(range(start, end))


# ------------------------------------------------------------------------------------------------- tracklets


def world(rgb_views, ir_views, seed=0):
    """Views [N] and modality [N] in mixed order, from the number of tracklets of each view."""
    sizes = list(rgb_views) + list(ir_views)
    views = np.repeat(np.arange(len(sizes)), sizes)
    modality = (views >= len(rgb_views)).astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(views))
    return views[order], modality[order]


def plan(
    views, modality, *, seed=0, epoch=0, steps=30, p=8, c=2, partner_share=0.0, power=0.0, eligible=None, **positives
):
    batch = BatchOptions(tracklets_per_modality=p, clips_per_tracklet=c, partner_share=partner_share, view_power=power)
    partners = sampling.Partners(**positives)
    return sampling.plan_epoch(
        seed, epoch, views, modality, steps=steps, batch=batch, partners=partners, eligible=eligible
    )


def random_positives(views, modality, *, count, seed=1, empty=0.0):
    """Random positives of the right kind, shuffled among -1."""
    rng = np.random.default_rng(seed)
    within, cross = np.full((2, len(views), 2 * count), -1)
    for i in range(len(views)):
        for table, same in ((within, True), (cross, False)):
            allowed = np.flatnonzero(((modality == modality[i]) == same) & (np.arange(len(views)) != i))
            if len(allowed) and rng.random() >= empty:
                table[i, rng.choice(2 * count, count, replace=False)] = rng.choice(allowed, count, replace=False)
    return within, cross


@pytest.mark.parametrize("c", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_modalities_alternate_and_clips_of_a_tracklet_are_neighbours(c, share):
    views, modality = world([20, 9, 14], [11, 30])
    within, cross = random_positives(views, modality, count=3)
    table = plan(views, modality, c=c, partner_share=share, within_index=within, across_index=cross)
    assert table.shape == (30, 2 * 8 * c)
    assert table.dtype == np.int32
    assert (modality[table[:, 0::2]] == RGB).all()
    assert (modality[table[:, 1::2]] == IR).all()
    by_tracklet = table.reshape(30, 8, c, 2)
    assert (by_tracklet == by_tracklet[:, :, :1]).all()
    for step in by_tracklet[:, :, 0]:
        assert len(np.unique(step)) == 16


def test_views_come_up_equally_often():
    views, modality = world([10, 40, 17], [90, 12, 30, 25])
    table = plan(views, modality, steps=60, p=6, c=1)
    counts = np.bincount(views[table.ravel()], minlength=7)
    assert counts[:3].tolist() == [120] * 3  # 60 * 6 / 3: multiples, so exact
    assert counts[3:].tolist() == [90] * 4
    for step in table:
        assert np.bincount(views[step], minlength=7)[:3].tolist() == [2, 2, 2]


def test_a_view_shows_each_tracklet_before_it_repeats_one():
    views, modality = world([8, 24], [16, 16])
    table = plan(views, modality, steps=24, p=4, c=1)  # 48 draws of each view: 6, 2, 3 and 3 rounds
    counts = np.bincount(table.ravel(), minlength=len(views))
    assert [set(counts[views == v].tolist()) for v in range(4)] == [{6}, {2}, {3}, {3}]


@pytest.mark.parametrize("only", [RGB, IR])
def test_one_modality_fills_all_places(only):
    views = np.arange(40) % 3
    table = plan(views, np.full(40, only), p=8, c=2, partner_share=0.5)
    assert table.shape == (30, 32)
    for step in table:
        assert len(np.unique(step)) == 16
        assert set(Counter(step.tolist()).values()) == {2}


def test_fewer_tracklets_than_places_repeat_only_what_must_be():
    views, modality = world([2, 1], [40])
    table = plan(views, modality, p=8, c=1)
    for step in table:
        assert set(step[0::2]) == set(np.flatnonzero(modality == RGB).tolist())
        assert len(set(step[1::2].tolist())) == 8


def test_a_single_tracklet_makes_a_plan():
    table = plan(np.zeros(1, int), np.array([IR]), steps=2, p=2, c=2)
    assert table.tolist() == [[0] * 8] * 2


@pytest.mark.parametrize("kind", ["within", "cross", "both"])
def test_partners_are_positives_of_the_anchors(kind):
    views, modality = world([60, 60], [70, 50])
    within, cross = random_positives(views, modality, count=4)
    tables = {"within_index": within} if kind != "cross" else {}
    tables |= {"across_index": cross} if kind != "within" else {}
    table = plan(views, modality, p=8, c=1, partner_share=0.5, **tables)
    sources = Counter()
    for step in table.reshape(30, 8, 2):
        anchors, partners = step[:4].ravel().tolist(), step[4:].ravel().tolist()
        for partner in partners:
            mine = [a for a in anchors for t in tables.values() if partner in t[a].tolist()]
            assert mine
            sources.update(modality[a] == modality[partner] for a in mine)
    assert (sources[True] > 0) == (kind != "cross")
    assert (sources[False] > 0) == (kind != "within")


def test_places_without_a_partner_go_back_to_the_rotation():
    views, modality = world([30, 30], [60])
    within, cross = random_positives(views, modality, count=1, empty=0.9)
    table = plan(views, modality, p=8, c=1, partner_share=0.75, within_index=within, across_index=cross)
    for step in table.reshape(30, 8, 2):
        assert len(np.unique(step)) == 16
    nothing = np.full_like(within, -1)
    table = plan(views, modality, steps=6, p=20, c=1, partner_share=0.5, within_index=nothing).reshape(6, 20, 2)
    for places in (table[:, :10], table[:, 10:]):  # the anchors' rotation and that of the rest
        for m in (RGB, IR):
            # 6 x 10 slots: each of the 60 once, except those that a batch had from the other rotation
            assert np.bincount(places[..., m].ravel(), minlength=120)[modality == m].max() <= 2
    assert np.sort(table[:, :10, RGB].ravel()).tolist() == np.flatnonzero(modality == RGB).tolist()


def test_heavy_positives_are_drawn_more_often_and_weight_zero_never():
    views = np.zeros(500, int)
    modality = np.zeros(500, int)
    index = np.tile([490, 491, 492], (500, 1))
    weight = np.tile([0.9, 0.1, 0.0], (500, 1))
    table = plan(views, modality, steps=400, p=1, c=1, partner_share=0.5, within_index=index, within_weight=weight)
    drawn = Counter(table[:, 1].tolist())
    assert 330 <= drawn[490] <= 385
    assert drawn[492] <= 3
    weight[:, :2] = 0
    table = plan(views, modality, steps=400, p=1, c=1, partner_share=0.5, within_index=index, within_weight=weight)
    assert Counter(table[:, 1].tolist())[492] <= 3


def test_the_rotation_visits_the_eligible_alone():
    views, modality = world([6, 6], [9])
    eligible = np.random.default_rng(0).random(len(views)) < 0.5
    drawn = plan(views, modality, p=2, eligible=eligible)
    assert set(drawn.ravel()) == set(np.flatnonzero(eligible))
    none_infrared = eligible & (modality == RGB)
    drawn = plan(views, modality, p=2, eligible=none_infrared)
    assert set(drawn.ravel()) == set(np.flatnonzero(none_infrared | (modality == IR)))
    few = np.arange(len(views)) < 1  # fewer than asked for: repeated, as in a small modality
    assert set(plan(views, modality, p=4, eligible=few)[:, ::2].ravel()) <= {0} | set(np.flatnonzero(modality == IR))
    np.testing.assert_array_equal(plan(views, modality, eligible=np.ones(len(views), bool)), plan(views, modality))


VCM = (  # tracklets of the twelve views of each modality: as many as HITSZ-VCM has, 47 to 1,444 a view
    [47, 80, 120, 180, 250, 330, 420, 520, 560, 650, 860, 1444],
    [47, 70, 100, 150, 200, 260, 330, 420, 480, 560, 700, 974],
)


def anchor_visits(views, modality, epochs, eligible=lambda epoch: None, **given) -> np.ndarray:
    """How often each tracklet is an anchor in epochs of `configs/vcm.py`, with mined partners."""
    within, across = np.random.default_rng(0).integers(-1, len(views), (2, len(views), 3))
    tables = {"partner_share": 0.5, "within_index": within, "across_index": across}
    counts = np.zeros(len(views), int)
    for epoch in range(epochs):
        table = plan(
            views, modality, epoch=epoch, steps=300, p=16, c=2, eligible=eligible(epoch), **tables, **given
        ).reshape(300, 16, 2, 2)
        counts += np.bincount(table[:, :8, 0].ravel(), minlength=len(views))
        assert (np.diff(np.sort(table[:, :, 0].transpose(0, 2, 1)), axis=-1) > 0).all()  # no batch repeats a tracklet
    return counts


def test_equal_tracklet_weights_visit_all_tracklets_alike():
    views, modality = world(*VCM)
    counts = anchor_visits(views, modality, 50, power=1.0)
    for m, size in ((RGB, 5461), (IR, 4291)):
        visits = counts[modality == m]
        assert visits.sum() == 50 * 300 * 8
        assert visits.max() - visits.min() <= 1  # 21 to 22 and 27 to 28
        assert len(visits) == size


def test_equal_view_weights_visit_the_tracklets_of_a_view_alike():
    views, modality = world(*VCM)
    counts = anchor_visits(views, modality, 50, power=0.0)
    by_view = [counts[views == view] for view in range(24)]
    assert max(visits.max() - visits.min() for visits in by_view) <= 1
    assert {visits.sum() for visits in by_view} == {10_000}
    assert (by_view[0].max(), by_view[11].min()) == (213, 6)


def test_the_eligible_are_visited_alike():
    views, modality = world(*VCM)
    clustered = np.random.default_rng(0).random(len(views)) < 0.6
    counts = anchor_visits(views, modality, 30, lambda epoch: clustered, power=1.0)
    assert not counts[~clustered].any()
    for m in (RGB, IR):
        visits = counts[clustered & (modality == m)]
        assert visits.max() <= 1.7 * visits.min()


def test_the_rotation_goes_on_from_epoch_to_epoch():
    """An epoch begins where the last one ended, so that two short epochs have the anchors of a long one."""
    views, modality = world([30, 50], [40, 9])
    long = plan(views, modality, steps=20, p=6)
    np.testing.assert_array_equal(plan(views, modality, epoch=1, steps=10, p=6), long[10:])
    np.testing.assert_array_equal(plan(views, modality, epoch=0, steps=10, p=6), long[:10])


def test_partners_do_not_move_the_anchors():
    views, modality = world([30, 50], [40, 9])
    within, cross = random_positives(views, modality, count=2, empty=0.5)
    table, alone = (
        plan(views, modality, epoch=3, p=8, partner_share=0.5, **given).reshape(30, 8, 4)[:, :4]
        for given in ({"within_index": within, "across_index": cross}, {})
    )
    np.testing.assert_array_equal(table, alone)


def test_a_plan_is_a_function_of_seed_epoch_and_positives():
    views, modality = world([20, 20], [40])
    within, cross = random_positives(views, modality, count=2)
    given = {"partner_share": 0.5, "within_index": within, "across_index": cross}
    first = plan(views, modality, seed=3, epoch=7, **given)
    np.testing.assert_array_equal(first, plan(views, modality, seed=3, epoch=7, **given))
    assert (first != plan(views, modality, seed=3, epoch=8, **given)).any()
    assert (first != plan(views, modality, seed=4, epoch=7, **given)).any()
    assert (first != plan(views, modality, seed=3, epoch=7, **given | {"across_index": None})).any()


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="training set is empty"):
        plan(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(ValueError, match=r"partner_share must lie in \[0, 1\), but is 1"):
        plan(np.zeros(4, int), np.zeros(4, int), partner_share=1)


def test_an_epoch_of_the_size_of_hitsz_vcm_is_planned_in_less_than_two_seconds():
    views, modality = world([455] * 12, [358] * 12)
    rng = np.random.default_rng(0)
    positives = rng.integers(-1, len(views), (len(views), 20))
    start = time.perf_counter()
    plan(
        views,
        modality,
        steps=300,
        p=16,
        c=2,
        partner_share=0.5,
        within_index=positives,
        across_index=positives,
    )
    assert time.perf_counter() - start < 2  # 0.2 s alone; the rest is for a busy machine
