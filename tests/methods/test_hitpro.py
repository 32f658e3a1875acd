"""Refresh, loss and update of HiTPro against the naive method, composed by hand; its switches, ramps and gradients."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax.kernels import losses
from hitpro_jax.kernels.mining import thresholds
from hitpro_jax.kernels.search import centring
from hitpro_jax.methods import hitpro
from hitpro_jax.methods.base import Setting
from hitpro_jax.methods.hitpro import HiTPro
from hitpro_jax.options import AcrossOptions, Options
from hitpro_jax.types import Clips, Encoded, TrackletInfo
from tests.reference import losses as naive_losses
from tests.reference import mining as naive
from tests.reference.worlds import PICTURES, pictures, world

SIZE, PARTS, DIM, CLIPS, FRAMES, VIEWS = 23, 3, 7, 6, 2, 6
SMALL = {
    "prototypes": {"momentum": 0.2},
    "within": {
        "reciprocity": 6,
        "positives": 4,
        "ambiguous": 3,
        "neighbours": 9,
        "block": 8,
        "per_camera": 2,
        "rho": (0.9, 0.7),
        "kappa": (0.0, -1.0),
    },
    "across": {
        "reciprocity": 6,
        "positives": 4,
        "ambiguous": 3,
        "neighbours": 9,
        "block": 8,
        "rho": (0.8, 0.5),
        "kappa": (0.0, -1.0),
    },
    "loss": {"hard_negatives": 5, "same_view": 2, "temperature": 0.1},
}
VARIANTS = {
    "default": {},
    "other switches": {
        "prototypes": {"mode": "consistency", "temperature": 0.2, "momentum": 0.7},
        "within": {
            "rule": "statistic",
            "schedule": "reverse",
            "weighting": "margin",
            "use_reliability": True,
            "camera_bias": "none",
            "ema": 0.25,
        },
        "across": {
            "rule": "relative",
            "schedule": "constant",
            "weighting": "uniform",
            "debias": "none",
            "cycle": False,
        },
        "loss": {
            "frame": 0.4,
            "ambiguity": "positive",
            "alpha": 0.3,
            "intra": 0.7,
            "intra_end": 0.25,
            "within": 0.9,
            "across": 0.2,
        },
    },
    "relative to views": {
        "alignment": {"centre": True},
        "within": {"balance": 3, "camera_bias": "none"},
        "loss": {"same_view_rule": "parts"},
    },
    "ban": {"across": {"ban_same_camera": True}},
    "direct": {"within": {"enabled": False}},
    "within alone": {"across": {"enabled": False}},
}


@cache
def options_of(variant: str) -> Options:
    options = Options()
    for changes in (SMALL, VARIANTS[variant]):
        changed = {name: replace(getattr(options, name), **values) for name, values in changes.items()}
        options = replace(options, **changed)
    return options


def method(variant: str, **loss) -> HiTPro:
    options = options_of(variant)
    options = replace(options, loss=replace(options.loss, **loss))
    return HiTPro.create(options, Setting(num_views=VIEWS, mesh=None, identities=None))


@cache
def refresh(variant: str):
    return jax.jit(method(variant).refresh)


@cache
def loss(variant: str):
    """(bank, tracklet features, frame features, ..) -> loss and terms, slopes in all three."""

    def total(bank, features, frames, memory, clips, info, progress):
        encoded = Encoded(features, frames)
        return method(variant).loss(memory._replace(prototypes=bank), {}, encoded, clips, info, progress)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))


class Problem:
    """A random world with sub-tracklets, and a batch of clips with one tracklet twice."""

    def __init__(self, seed: int, **options):
        rng = np.random.default_rng(seed)
        self.w = w = world(seed, size=SIZE, width=DIM, **options)
        self.info = w.info
        self.parts = (w.prototypes[:, None] + 0.15 * rng.normal(size=(SIZE, PARTS, DIM))).astype(np.float32)
        self.mask = w.valid[:, None] & ((rng.random((SIZE, PARTS)) < 0.8) | (np.arange(PARTS) == 0))
        tracklet = rng.permutation(np.flatnonzero(w.valid))[:CLIPS].astype(np.int32)
        tracklet[1] = tracklet[0]
        mask = np.arange(FRAMES) < rng.integers(1, FRAMES + 1, (CLIPS, 1))
        self.clips = Clips(None, mask, tracklet, None, None, None)  # the loss reads no more of them
        self.features, self.frames = (
            unit(rng.normal(size=(*shape, DIM))).astype(np.float32) for shape in ((CLIPS,), (CLIPS, FRAMES))
        )

    def mined(self, variant: str, *steps: float):
        """The memory after a refresh at each progress of `steps`."""
        memory = method(variant).init(SIZE, DIM)
        for progress in steps:
            memory = refresh(variant)(memory, self.parts, self.mask, self.info, progress)
        return memory

    def loss(self, variant: str, memory, progress: float):
        return loss(variant)(memory.prototypes, self.features, self.frames, memory, self.clips, self.info, progress)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def dense(positives) -> np.ndarray:
    out = np.zeros((SIZE, SIZE))
    for i, (row, weights) in enumerate(zip(positives.index, positives.weight, strict=True)):
        for j, a in zip(row, weights, strict=True):
            if j >= 0:
                out[i, j] += a
    return out


def sets(index) -> list[set[int]]:
    return [{int(j) for j in row if j >= 0} for row in index]


def scheduled(options, progress: float) -> dict[str, float]:
    """This epoch's rho and kappa."""
    moved = {"linear": progress, "reverse": 1 - progress, "constant": 0.5}[options.schedule]
    ends = {"rho": options.rho, "kappa": options.kappa}
    return {name: start + (end - start) * moved for name, (start, end) in ends.items()}


def naive_refresh(problem: Problem, variant: str, *steps: float):
    """Bank, reliability, (weights, ignored, theta) of both stages and same-view lists after refreshes at `steps`."""
    options = options_of(variant)
    bank, reliability = naive.aggregate_parts(
        problem.parts, problem.mask, options.prototypes.mode, options.prototypes.temperature
    )
    centre = np.zeros_like(bank)
    if options.alignment.centre:
        centre = naive.view_centres(problem.w._replace(prototypes=bank), centring.PRIOR)
    w = problem.w._replace(prototypes=naive.direction_from(bank, centre))
    nothing = np.zeros((SIZE, SIZE)), [set() for _ in range(SIZE)], [np.inf] * 2
    within = across = nothing
    factors = [reliability if stage.use_reliability else None for stage in (options.within, options.across)]
    for progress in steps:
        strict = scheduled(options.within, progress)
        if options.within.enabled:
            within = naive.within_modality(w, options.within, previous=within[2], reliability=factors[0], **strict)
        rule, theta = options.within.rule, within[2]
        if options.loss.same_view_rule == "parts":
            rule = "statistic"
            theta = naive.part_threshold(w, problem.parts, problem.mask, centre, thresholds.HALVES_QUANTILE)
        twins = naive.same_view_ambiguity(w, theta, rho=strict["rho"], rule=rule, count=options.loss.same_view)
        if options.across.enabled:
            across = naive.across_modalities(
                w,
                within[0],
                options.across,
                previous=across[2],
                direct=not options.within.enabled,
                reliability=factors[1],
                **scheduled(options.across, progress),
            )
    return bank, reliability, within, across, twins


@pytest.mark.parametrize("variant", VARIANTS)
def test_refresh_equals_naive(variant):
    problem, steps = Problem(1), (0.3, 0.8)
    memory = problem.mined(variant, *steps)
    bank, reliability, within, across, twins = naive_refresh(problem, variant, *steps)
    np.testing.assert_allclose(memory.prototypes, bank, atol=1e-5)
    np.testing.assert_allclose(memory.reliability, reliability, atol=1e-5)
    for found, (weight, ignore, theta) in ((memory.within, within), (memory.across, across)):
        np.testing.assert_allclose(dense(found), weight, atol=1e-4)
        assert sets(found.ignore) == ignore
        np.testing.assert_allclose(found.threshold, theta, atol=1e-5)
    assert sets(memory.same_view) == [set(row) for row in twins]
    enabled = [options_of(variant).within.enabled, options_of(variant).across.enabled]
    assert [bool(np.any(stage.index >= 0)) for stage in (memory.within, memory.across)] == enabled
    assert any(twins)
    if variant == "default":
        assert np.abs(dense(memory.within) - dense(problem.mined(variant, 0.3).within)).max() > 0.05  # progress matters


def naive_loss(problem: Problem, variant: str, memory, progress: float) -> dict[str, float]:
    """The terms, and their weighted sum as `total`, from loops over clips in float64."""
    w, o, target = problem.w, options_of(variant).loss, problem.clips.tracklet
    bank = np.asarray(memory.prototypes, np.float64)
    table = {
        name: np.asarray(part)[target]
        for name, part in {
            "twins": memory.same_view,
            "within": memory.within.index,
            "within_weight": memory.within.weight,
            "within_ignore": memory.within.ignore,
            "across": memory.across.index,
            "across_weight": memory.across.weight,
            "across_ignore": memory.across.ignore,
        }.items()
    }
    similarity = problem.features.astype(np.float64) @ bank.T
    other = w.modality[target][:, None] != w.modality
    ban = options_of(variant).across.ban_same_camera
    opposite = np.array([[naive.related(w, y, j, "other_modality", ban) for j in range(SIZE)] for y in target])

    def intra(similarity, target, twins, keep):
        found, has = naive_losses.intra_camera(similarity, target, w.view, w.valid, twins, o.temperature, o.ambiguity)
        return naive_losses.mean_over(found, has & keep)

    def soft(stage, candidate, ignore, alpha):
        return naive_losses.mean_over(
            *naive_losses.soft_target(
                similarity,
                target,
                table[stage],
                table[stage + "_weight"],
                candidate & w.valid,
                ignore,
                o.temperature,
                alpha,
                o.hard_negatives,
            )
        )

    terms = {
        "intra": intra(similarity, target, table["twins"], True),
        "within": soft("within", ~other, np.hstack([table["within_ignore"], table["twins"]]), o.alpha),
        "across": soft("across", opposite, table["across_ignore"], 0.0),
    }
    weights = {"intra": o.intra * (1.0 + (o.intra_end - 1.0) * progress), "frame": o.frame}
    for name, weight, begin in (("within", o.within, o.within_begin), ("across", o.across, o.across_begin)):
        weights[name] = weight * min(max((progress - begin) / o.ramp, 0.0), 1.0)
    if o.frame:
        every = problem.frames.reshape(CLIPS * FRAMES, DIM).astype(np.float64) @ bank.T
        terms["frame"] = intra(
            every, np.repeat(target, FRAMES), np.repeat(table["twins"], FRAMES, 0), problem.clips.mask.reshape(-1)
        )
    total = sum(weights[name] * value for name, value in terms.items())
    return terms | {"total": total, "weight_within": weights["within"], "weight_across": weights["across"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_equals_naive(variant):
    for seed in (1, 2):
        problem = Problem(seed)
        memory = problem.mined(variant, 0.3, 0.8)
        for progress in (0.15, 0.9):
            (total, terms), _ = problem.loss(variant, memory, progress)
            expected = naive_loss(problem, variant, memory, progress)
            assert total == pytest.approx(expected.pop("total"), abs=1e-4)
            assert terms.keys() == expected.keys()
            for name, value in expected.items():
                assert terms[name] == pytest.approx(value, abs=1e-4), name
            stages = [options_of(variant).within.enabled, options_of(variant).across.enabled]
            assert [float(terms[name]) > 0 for name in ("within", "across")] == stages


@pytest.mark.parametrize("variant", ["default", "other switches"])
def test_update_equals_naive(variant):
    problem = Problem(1)
    memory = problem.mined(variant, 0.3)
    updated = method(variant).update(memory, problem.features, problem.clips.tracklet)
    expected = naive.momentum_update(
        np.asarray(memory.prototypes),
        problem.features,
        problem.clips.tracklet,
        options_of(variant).prototypes.momentum,
    )
    np.testing.assert_allclose(updated.prototypes, expected, atol=1e-5)
    assert np.abs(updated.prototypes - memory.prototypes).max() > 0.1
    assert updated._replace(prototypes=None) == memory._replace(prototypes=None)  # the very same arrays


@pytest.mark.parametrize("ban", [True, False])
def test_level_3_leaves_twins_alone_under_the_ban(ban):
    """Everybody's tracklet of the other modality in the own camera is the most similar one of that modality."""
    rng, people, cameras = np.random.default_rng(0), 7, 4
    modality, camera, person = (x.reshape(-1) for x in np.indices((2, cameras, people)))
    columns = modality, camera, modality * cameras + camera, np.ones(modality.size, bool)
    info = TrackletInfo(*map(jnp.asarray, columns))
    moments = unit(rng.normal(size=(cameras, people, 32)) + rng.normal(size=(people, 32)))
    bank = unit(moments[camera, person] + 0.01 * rng.normal(size=(modality.size, 32))).astype(np.float32)
    options = replace(options_of("default"), across=replace(AcrossOptions(), ban_same_camera=ban))
    options = replace(options, loss=replace(options.loss, intra=0.0, within=0.0, hard_negatives=50))
    made = HiTPro.create(options, Setting(2 * cameras, None, None))
    memory = jax.jit(made.refresh)(made.init(*bank.shape), bank[:, None], columns[3][:, None], info, 1.0)
    tracklet = np.arange(modality.size, dtype=np.int32)
    clips = Clips(None, columns[3][:, None], tracklet, None, None, None)

    def level_3(offset):
        """Of clips whose similarity to each prototype is moved by an offset [B, P]."""
        features = jnp.concatenate([bank, offset], axis=1)
        wide = jnp.concatenate([bank, jnp.eye(modality.size)], axis=1)
        return made.loss(memory._replace(prototypes=wide), {}, Encoded(features, None), clips, info, 1.0)[0]

    slope = jax.grad(level_3)(jnp.zeros((modality.size,) * 2))
    banned = (modality[:, None] != modality) & (camera[:, None] == camera)
    twin = banned & (person[:, None] == person)
    closest = np.where(modality[:, None] != modality, bank @ bank.T, -2.0).argmax(1)
    assert twin[tracklet, closest].all()
    learns = (memory.across.index >= 0).any(1)
    assert learns.sum() > modality.size / 2
    assert np.abs(slope).max(axis=1)[learns].min() > 1e-4
    if ban:
        assert not slope[banned].any()
    else:
        assert (np.abs(slope[twin])[learns] > 1e-4).all()


def test_no_gradient_reaches_prototypes():
    problem = Problem(1)
    _, (bank, features, frames) = problem.loss("other switches", problem.mined("other switches", 0.3, 0.8), 0.9)
    assert not np.any(bank)
    assert np.abs(features).max() > 0.01
    assert np.abs(frames).max() > 0.01
    assert not np.any(frames[~problem.clips.mask])


def test_frames_play_no_part_without_their_term():
    problem = Problem(1)
    (_, terms), (_, _, frames) = problem.loss("default", problem.mined("default", 0.3, 0.8), 0.9)
    assert "frame" not in terms
    assert not np.any(frames)


def test_each_level_weight_is_its_own_switch():
    """The whole gradient is the sum of the levels' own; a weight of 0 takes one of them away."""
    problem = Problem(1)
    memory = problem.mined("default", 0.3, 0.8)
    levels = ("intra", "within", "across", "frame")
    clips, info = jax.tree.map(jnp.asarray, (problem.clips, problem.info))

    def slopes(on, features, frames):
        options = {name: 0.5 if name in on else 0.0 for name in levels}

        def total(features, frames):
            return method("default", **options).loss(memory, {}, Encoded(features, frames), clips, info, 1.0)[0]

        return jnp.concatenate([slope.reshape(-1) for slope in jax.grad(total, (0, 1))(features, frames)])

    sets_on = (levels, (), *((name,) for name in levels), levels[1:])
    every, none, *single, rest = jax.jit(lambda *x: [slopes(on, *x) for on in sets_on])(
        problem.features, problem.frames
    )
    assert all(np.abs(slope).max() > 1e-3 for slope in single)
    np.testing.assert_allclose(every, sum(single), atol=1e-5)
    np.testing.assert_allclose(every - rest, single[0], atol=1e-5)
    assert not np.any(none)


def test_levels_enter_one_after_the_other():
    problem = Problem(1)
    memory = problem.mined("default", 0.3, 0.8)
    weights, slopes = {}, {}
    for progress in (0.0, 0.0999, 0.15, 0.2, 0.25, 0.3, 1.0):
        (total, terms), (_, slopes[progress], _) = problem.loss("default", memory, progress)
        weights[progress] = terms["weight_within"], terms["weight_across"]
        if progress < 0.1:
            assert total == pytest.approx(float(terms["intra"]), abs=1e-6)
    expected = {
        0.0: (0, 0),
        0.0999: (0, 0),
        0.15: (0.25, 0),
        0.2: (0.5, 0),
        0.25: (0.5, 0.25),
        0.3: (0.5, 0.5),
        1.0: (0.5, 0.5),
    }
    for progress, values in expected.items():
        np.testing.assert_allclose(weights[progress], values, atol=1e-5)
    np.testing.assert_array_equal(slopes[0.0], slopes[0.0999])
    np.testing.assert_allclose(slopes[0.15] - slopes[0.0], (slopes[0.2] - slopes[0.0]) / 2, atol=1e-5)
    assert np.abs(slopes[0.2] - slopes[0.0]).max() > 1e-3
    assert np.abs(slopes[0.3] - slopes[0.2]).max() > 1e-3


def test_progress_moves_the_thresholds_from_strict_to_loose():
    problem = Problem(1)
    early, late = (np.asarray(problem.mined("default", progress).within.threshold) for progress in (0.0, 1.0))
    assert (early > late).all()


def test_a_stage_that_is_off_gives_no_positive():
    problem = Problem(1)
    off = problem.mined("direct", 0.3, 0.8)
    assert not np.any(off.within.index >= 0)
    assert not np.any(off.within.weight)
    assert np.any(off.across.index >= 0)
    assert np.any(off.same_view >= 0)
    off = problem.mined("within alone", 0.3, 0.8)
    assert not np.any(off.across.index >= 0)
    assert not np.any(off.across.weight)
    assert np.any(off.within.index >= 0)


@pytest.mark.parametrize(
    "options", [{"modalities": 1}, {"modalities": 1, "cameras": 1}], ids=["one modality", "one view"]
)
def test_levels_without_candidates_have_no_term_and_no_harm(options):
    problem = Problem(4, **options)
    memory = problem.mined("other switches", 0.3, 0.8)
    (total, terms), slopes = problem.loss("other switches", memory, 1.0)
    assert np.isfinite(total)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert float(terms["across"]) == 0.0
    assert not np.any(memory.across.index >= 0)
    assert (float(terms["within"]) > 0) == ("cameras" not in options)
    assert float(terms["intra"]) > 0


def test_an_empty_memory_gives_a_finite_loss():
    problem = Problem(1)
    (total, terms), slopes = problem.loss("default", method("default").init(SIZE, DIM), 1.0)
    assert np.isfinite(total)
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert float(terms["within"]) == float(terms["across"]) == 0.0


@pytest.mark.parametrize("variant", ["default", "direct", "within alone"])
def test_a_refresh_keeps_every_shape(variant):
    """Otherwise the training step would compile again, and a checkpoint would not fit."""
    problem = Problem(1)
    empty, mined = method(variant).init(SIZE, DIM), problem.mined(variant, 0.3)
    described = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory) for memory in (empty, mined)]
    assert described[0] == described[1]


def test_the_memory_says_what_was_mined():
    memory = Problem(1).mined("default", 0.3)
    mined = method("default").mined(memory)
    assert mined.label is None
    for name in memory._fields:
        assert getattr(mined, name) is getattr(memory, name)


def test_shardings_fit_the_memory():
    of_memory, memory = method("default").shardings(), method("default").init(SIZE, DIM)
    assert jax.tree.structure(of_memory) == jax.tree.structure(memory)
    assert method("default").own_parameters(DIM, 0) == {}


# ------------------------------------------------------------------------------- sets of single pictures, and of little


@cache
def of_pictures(alike: int) -> HiTPro:
    options = Options()
    loss = replace(options.loss, same_view=alike)
    # neither stage: what is left of a refresh is the look-alikes
    stages = {name: replace(getattr(options, name), enabled=False) for name in ("within", "across")}
    return HiTPro.create(replace(options, loss=loss, **stages), Setting(4, None, None))


@partial(jax.jit, static_argnames="mode")
def slope_of_level_1(similarity, info, same_view, mode):
    rows = jnp.arange(len(similarity))

    def level_1(similarity):
        given = similarity, rows, info.view, info.valid, same_view
        return losses.mean_over(*losses.intra_camera(*given, temperature=0.05, mode=mode))

    return jax.grad(level_1)(similarity)


def pushed_share(w, person, clips, same_view, mode: str) -> float:
    """How much of level 1's push from the negatives falls on those of the clip's person."""
    slope, rows = np.array(slope_of_level_1(clips @ w.prototypes.T, w.info, same_view, mode)), np.arange(len(person))
    # targets, and what is left out, are no negatives
    np.put_along_axis(slope, np.where(same_view >= 0, same_view, rows[:, None]), 0.0, axis=1)
    np.fill_diagonal(slope, 0.0)
    assert slope.min() >= 0
    return slope[person[:, None] == person].sum() / slope.sum()


@pytest.mark.parametrize("level", PICTURES)
def test_level_1_hardly_pushes_single_pictures_from_their_own_person(level):
    """Also where persons' pictures overlap with those of strangers; without look-alikes much of the push is wrong."""
    w, person, clips = pictures(0, **PICTURES[level])
    made, mask = of_pictures(50), np.ones((len(person), 1), bool)
    memory = jax.jit(made.refresh)(made.init(*w.prototypes.shape), w.prototypes[:, None], mask, w.info, 0.5)
    same_view = np.asarray(memory.same_view)
    for mode in ("positive", "mask"):
        before = pushed_share(w, person, clips, np.full_like(same_view, -1), mode)
        after = pushed_share(w, person, clips, same_view, mode)
        print(f"{level}, {mode}: {before:.3f} to {after:.3f}")
        assert after < 0.2 < 0.4 < before
    right = person[same_view] == person[:, None]
    assert right[same_view >= 0].mean() > 0.9


def test_strangers_in_like_clothes_are_taken_for_one_person():
    """The limit of the rule: strangers then do not lie alike on both sides of their median. Own pictures are found."""
    w, person, clips = pictures(0, noise=0.6, outfits=5)
    made, mask = of_pictures(50), np.ones((len(person), 1), bool)
    memory = jax.jit(made.refresh)(made.init(*w.prototypes.shape), w.prototypes[:, None], mask, w.info, 0.5)
    same_view = np.asarray(memory.same_view)
    right = (person[same_view] == person[:, None])[same_view >= 0].mean()
    print(f"right: {right:.2f}")
    assert pushed_share(w, person, clips, same_view, "positive") < 0.2
    assert 0.3 < right < 0.7


@pytest.mark.parametrize("first", [True, False])
def test_a_modality_without_halves_falls_back_and_the_other_does_not(first):
    """Four parts, of which infrared pictures fill but the last: their threshold is that of the strangers."""
    w, person, _ = pictures(0, noise=0.5, people=10)
    made = of_pictures(50)
    parts = np.repeat(w.prototypes[:, None], 4, 1)
    halved = np.where(w.modality == 0, first, not first)
    mask = halved[:, None] | (np.arange(4) == 3)
    arguments = made.init(*w.prototypes.shape), parts, mask, w.info, 0.5
    memory = jax.jit(made.refresh)(*arguments)
    number = (np.asarray(memory.same_view) >= 0).sum(1)
    assert (number[~halved] > 5).mean() > 0.9
    assert not number[halved].any()  # its halves are alike to the last digit, and two pictures never are


@pytest.mark.parametrize(("share", "found"), [(0.05, True), (0.45, True), (0.55, False)])
def test_a_few_tracklets_with_halves_do_not_set_the_bar_of_the_rest(share, found):
    """Their halves are alike to the last digit, and two pictures of a person never are."""
    w, person, _ = pictures(0, noise=0.5, people=10)
    made, size = of_pictures(50), len(person)
    mask = (np.random.default_rng(0).permutation(size) < share * size)[:, None] | (np.arange(4) == 3)
    parts = np.repeat(w.prototypes[:, None], 4, 1)
    memory = jax.jit(made.refresh)(made.init(*w.prototypes.shape), parts, mask, w.info, 0.5)
    number = (np.asarray(memory.same_view) >= 0).sum(1)
    assert (number > 5).mean() > 0.9 if found else not number.any()
    note = made.notes(jax.tree.map(np.asarray, w.info), np.where(mask[:, 0], 4, 1))[-1]
    assert ("more alike than strangers" in note) == found


def test_look_alikes_of_tracklets_do_not_read_the_strangers(monkeypatch):
    """Where every modality has halves the other rule is a branch that is not taken."""
    problem, wanted = Problem(1), Problem(1).mined("default", 0.3).same_view
    nothing = lambda bank, *_, **__: (bank, jnp.full(2, -1.0))  # noqa: E731
    monkeypatch.setattr(hitpro.stages, "look_alikes_without_halves", nothing)
    made = method("default")
    memory = jax.jit(made.refresh)(made.init(SIZE, DIM), problem.parts, problem.mask, problem.info, 0.3)
    np.testing.assert_array_equal(memory.same_view, wanted)


def columns(modality, camera) -> TrackletInfo:
    modality, camera = np.array(modality), np.array(camera)
    view = np.unique(modality * 100 + camera, return_inverse=True)[1]
    return TrackletInfo(modality, camera, view, np.ones(len(view), bool))


def test_notes_say_which_rule_finds_look_alikes():
    info, made = columns([0, 0, 1, 1], [0, 1, 0, 1]), method("default")
    both = "look-alikes of a view (visible, infrared)"
    assert made.notes(info, np.array([24, 2, 24, 2]))[1:] == [
        f"{both}: as alike as halves of one tracklet; at most loss.same_view=2 a tracklet"
    ]
    strangers = "more alike than strangers, as most tracklets have no halves (of one frame, or of one part)"
    visible, infrared = made.notes(info, np.array([24, 2, 1, 1]))[1:]
    assert visible.startswith("look-alikes of a view (visible): as alike as halves of one tracklet")
    assert infrared.startswith(f"look-alikes of a view (infrared): {strangers}")
    one_part = replace(made, prototypes=replace(made.prototypes, parts=1))
    assert one_part.notes(info, np.array([24, 2, 24, 2]))[1].startswith(f"{both}: {strangers}")
    assert "by the rule of stage 1" in method("default", same_view_rule="stage1").notes(info)[-1]
    assert "none is looked for" in method("default", ambiguity="none").notes(info)[-1]


def test_notes_say_which_levels_have_no_terms():
    assert "level 1" in method("default").notes(columns([0, 0, 1, 1], [0, 1, 0, 1]))[0]
    assert method("default").notes(columns([0, 0, 0, 1, 1], [0, 0, 1, 0, 1])) == []
    notes = method("default").notes(columns([1, 1], [0, 0]))
    assert [f"level {n}" in note for n, note in zip((3, 2), notes, strict=True)] == [True, True]
    assert "infrared" in notes[0]


def test_a_warning_where_no_level_has_a_term():
    """A single tracklet in each view and no positives; a term, or one without weight, is another case."""
    alone, pair = columns([0, 1], [0, 0]), columns([0, 0, 1], [0, 0, 1])
    made = method("default")
    empty = made.mined(made.init(32, DIM))
    (line,) = made.warnings(empty, alone)
    assert line.startswith("warning: nothing is learned, as no level of the loss has a term")
    assert "give more tracklets" in line.lower()
    assert made.warnings(empty, pair) == []
    assert len(method("default", intra=0.0).warnings(empty, pair)) == 1
    some = empty.across._replace(index=empty.across.index.at[0, 0].set(1))
    assert made.warnings(empty._replace(across=some), alone) == []
    assert len(method("default", across=0.0).warnings(empty._replace(across=some), alone)) == 1
    alike = empty._replace(same_view=empty.same_view.at[:2, 0].set(jnp.array([1, 0])))
    assert len(method("default", ambiguity="mask").warnings(alike, pair)) == 1
    assert method("default", ambiguity="positive").warnings(alike, pair) == []
