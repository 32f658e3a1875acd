"""HCPA, Hierarchical Cross-Prototype Alignment: two-stage positive mining with DTS and SWA (paper).

Thresholds are [2], by modality of the anchor, which in stage 2 is a direction.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling
from hitpro_jax.kernels.mining import thresholds
from hitpro_jax.kernels.mining.positives import cycle_consistent, no_positives, propagate, smoothed
from hitpro_jax.kernels.mining.weights import shared_neighbours, soft_weights
from hitpro_jax.kernels.search import exact
from hitpro_jax.kernels.search.bias import balanced, view_bias
from hitpro_jax.kernels.search.candidates import Neighbours, keep_top
from hitpro_jax.kernels.search.centring import remove_modality_mean
from hitpro_jax.options import AcrossOptions, StageOptions, WithinOptions
from hitpro_jax.types import MODALITIES, Positives, TrackletInfo

Search = Callable[..., Neighbours]  # `exact.nearest`, or `ivf.nearest` with its index bound
STRANGERS = 0.05, 0.01  # shares among look-alikes that are first found, and found after smoothing (choice)
VOTERS = 20  # neighbours whose votes are counted, from N-ULC's short lists (choice)


class Bars(NamedTuple):
    """How strict this refresh is; values may be traced."""

    rho: float | jax.Array  # [] share of the anchor's best similarity
    kappa: float | jax.Array  # [] standard deviations above the mean best similarity
    previous: jax.Array | None = None  # [2] thresholds of the last refresh; None, NaN or inf: none


def within_modality(
    prototypes: jax.Array,
    info: TrackletInfo,
    bars: Bars,
    *,
    options: WithinOptions,
    num_views: int,
    reliability: jax.Array | None = None,
    tiling: Tiling = ONE_DEVICE,
    search: Search = exact.nearest,
) -> Positives:
    """Stage 1: positives of the same modality seen by other cameras.

    s_ij = <p_i, p_j>, C_i = {j: m_j = m_i, c_j != c_i} (paper), camera bias removed; b_i = max_{C_i} s_ij.
    j is accepted if all hold:
      (a) s_ij >= rho b_i (from SDCL);  (b) s_ij >= theta_m = mean b + kappa std b (choice);
      (c) j is among the `per_camera` best of its camera (from O2CAP);
      (d) i is among the `reciprocity` nearest of j (from DAL).

    Args:
      prototypes: [P, D] unit rows.
      info: of the rows.
      bars: of this refresh.
      options: rules, static.
      num_views: V, static.
      reliability: [P] factors of the weights, or None.
      tiling: `Tiling`.
      search: makes the table of M.

    Returns:
      Positives [P, K].

    Cost: O(block P + P M) memory; 2 P^2 D flops.

    >>> info = TrackletInfo(*jnp.array([[0, 0], [1, 2], [0, 1]]), jnp.ones(2, bool))
    >>> options = WithinOptions(camera_bias="none", balance=0)
    >>> within_modality(jnp.ones((2, 1)), info, Bars(.9, 0.), options=options, num_views=2).index[:, 0].tolist()
    [1, 0]
    """
    _check(prototypes, info)
    bias = view_bias(prototypes, info, num_views=num_views, mode=options.camera_bias, tiling=tiling)
    table = search(prototypes, info, relation="other_camera", count=options.neighbours, bias=bias, tiling=tiling)
    if options.balance:
        # otherwise prototypes that are near to everything are positives of every anchor
        table = balanced(table, count=options.balance, tiling=tiling)
    theta, bar = _thresholds(table, info, bars, options)
    accepted = (
        thresholds.reaches(table, bar)
        & (thresholds.camera_rank(table, info.camera, tiling=tiling) < options.per_camera)
        & thresholds.reciprocal(table, count=options.reciprocity, tiling=tiling)
    )
    judged = _Judged(table, accepted, theta, bar)
    return _positives(judged, table.index[:, :VOTERS], reliability, options, tiling)


def across_modalities(
    prototypes: jax.Array,
    within: Positives,
    info: TrackletInfo,
    bars: Bars,
    *,
    options: AcrossOptions,
    direct: bool = False,
    reliability: jax.Array | None = None,
    tiling: Tiling = ONE_DEVICE,
    search: Search = exact.nearest,
) -> Positives:
    """Stage 2: positives of the other modality, built on stage 1 (paper).

    s_ij = <q_i, q_j> of `smoothed`, modality bias removed; C_i = {j: m_j != m_i}. Rules (a), (b), (d) of stage 1,
    then `cycle_consistent`, then `propagate`.

    Args:
      prototypes: [P, D] unit rows.
      within: stage-1 positives.
      info: of the rows.
      bars: of this refresh.
      options: rules, static.
      direct: ablation without stage 1: q = p, no check, no propagation; static.
      reliability: [P] factors of the weights, or None.
      tiling: `Tiling`.
      search: makes the table of M.

    Returns:
      Positives [P, K].

    Raises:
      ValueError: unknown debias.

    Cost: as stage 1.

    >>> info = TrackletInfo(*jnp.array([[0, 1], [1, 1], [0, 1]]), jnp.ones(2, bool))
    >>> none, options = no_positives(2, positives=1, ambiguous=1), AcrossOptions(debias="none")
    >>> across_modalities(jnp.ones((2, 1)), none, info, Bars(.9, 0.), options=options).index[:, 0].tolist()
    [1, 0]
    """
    _check(prototypes, info)
    if direct:
        within = no_positives(prototypes.shape[0], positives=1, ambiguous=1)
    smooth = smoothed(prototypes, within, tiling=tiling)
    table = _across_table(smooth, info, options, tiling, search)
    theta, bar = _thresholds(table, info, bars, options)
    # many may share one match: infrared is under-clustered (CBA), so one to one would force errors
    accepted = thresholds.reaches(table, bar)
    accepted &= thresholds.reciprocal(table, count=options.reciprocity, tiling=tiling)
    if options.cycle and not direct:  # the check is written in stage-1 links
        accepted &= cycle_consistent(table, within.index, tiling=tiling)
    # "vote" counts the stage-1 positives of j that are also near i
    matched = _positives(_Judged(table, accepted, theta, bar), within.index, reliability, options, tiling)
    if direct:
        return matched
    return propagate(matched, within, info.camera, ban_same_camera=options.ban_same_camera, tiling=tiling)


def same_view_ambiguity(
    prototypes: jax.Array,
    info: TrackletInfo,
    threshold: jax.Array,
    *,
    rho: float | jax.Array,
    rule: str = "both",
    fixed: float = 0.5,
    count: int = 5,
    tiling: Tiling = ONE_DEVICE,
    search: Search = exact.nearest,
) -> jax.Array:
    """Prototypes of the own view that look like the same person: {j: g_j = g_i, j != i, s_ij >= bar_i}.

    Args:
      prototypes: [P, D] unit rows.
      info: of the rows.
      threshold: [2] of `thresholds.part_threshold` (rule "statistic") or of stage 1.
      rho: see `thresholds.row_threshold`.
      rule: see there, static.
      fixed: see there.
      count: A, static.
      tiling: `Tiling`.
      search: makes the table.

    Returns:
      [P, A], best first.

    >>> info = TrackletInfo(*jnp.zeros((3, 2), int), jnp.ones(2, bool))
    >>> same_view_ambiguity(jnp.ones((2, 1)), info, jnp.zeros(2), rho=.9, count=1).tolist()
    [[1], [0]]
    """
    _check(prototypes, info)
    chex.assert_shape(threshold, (MODALITIES,))
    # a stay may be cut into several tracks (HITSZ-VCM: of 24 frames), which level 1 would push apart
    table = search(prototypes, info, relation="same_view", count=count, tiling=tiling)
    if rule != "statistic":
        # none yet (one camera, or no stage 1): the relative bar decides alone, or this view's tracklets would be
        # pushed apart. Stage 1's threshold is of similarities without camera bias, a low bar for plain ones
        threshold = jnp.where(jnp.isfinite(threshold), threshold, -jnp.inf)
    theta = threshold[info.modality]
    bar = thresholds.row_threshold(table.similarity[:, 0], theta, rule=rule, rho=rho, fixed=fixed)
    return keep_top(table, thresholds.reaches(table, bar), count=count, tiling=tiling).index


def look_alikes_without_halves(
    prototypes: jax.Array,
    info: TrackletInfo,
    lacking: jax.Array,
    *,
    count: int = 5,
    tiling: Tiling = ONE_DEVICE,
    search: Search = exact.nearest,
) -> tuple[jax.Array, jax.Array]:
    """Prototypes and threshold by which `same_view_ambiguity` finds look-alikes where no tracklet has halves.

    q_i = unit(p_i + mean_{j in A_i} p_j), A_i the look-alikes of p by `thresholds.stranger_threshold`; the threshold is
    that of q, with a smaller share of strangers.

    Args:
      prototypes: [P, D] unit rows p.
      info: of the rows.
      lacking: [2] bool, the modalities without halves; rows of another one stay as they are.
      count: most look-alikes of a row, static.
      tiling: `Tiling`.
      search: makes the table.

    Returns:
      q [P, D], and the threshold [2] by modality, +inf for a modality in which nothing stands out.

    Choice: two passes, because single pictures of one person vary more than tracklets; a picture together with those
    that are surely alike is nearer to its person's others. Measured in docs/lab/evidence.md.

    >>> info = TrackletInfo(*jnp.zeros((3, 160), int), jnp.ones(160, bool))
    >>> both = jnp.ones(2, bool)
    >>> look_alikes_without_halves(jnp.repeat(jnp.eye(8), 20, axis=0), info, both)[1].round(2).tolist()
    [0.0, inf]
    """
    first, second = STRANGERS
    theta = thresholds.stranger_threshold(prototypes, info, share=first, tiling=tiling)
    index = same_view_ambiguity(
        prototypes, info, theta, rho=0.0, rule="statistic", count=count, tiling=tiling, search=search
    )
    found = (index >= 0) & jnp.asarray(lacking)[info.modality][:, None]
    weight = found / jnp.maximum(found.sum(1, keepdims=True), 1)
    smooth = smoothed(
        prototypes,
        no_positives(len(index), positives=count, ambiguous=0)._replace(index=index, weight=weight),
        tiling=tiling,
    )
    return smooth, thresholds.stranger_threshold(smooth, info, share=second, tiling=tiling)


class _Judged(NamedTuple):
    """A table, and which of its entries the rules accept."""

    table: Neighbours
    accepted: jax.Array  # [P, M] bool
    theta: jax.Array  # [2]
    bar: jax.Array  # [P]


def _check(prototypes: jax.Array, info: TrackletInfo) -> None:
    chex.assert_rank(prototypes, 2)
    for field in info:
        chex.assert_shape(field, (prototypes.shape[0],))


def _across_table(
    smooth: jax.Array, info: TrackletInfo, options: AcrossOptions, tiling: Tiling, search: Search
) -> Neighbours:
    """Stage-2 candidates after the modality bias is removed."""
    if options.debias not in ("none", "mean", "balanced_knn"):
        raise ValueError(f"unknown modality debiasing {options.debias!r}; use 'none', 'mean' or 'balanced_knn'.")
    if options.debias == "mean":
        smooth = remove_modality_mean(smooth, info)
    table = search(
        smooth,
        info,
        relation="other_modality",
        count=options.neighbours,
        ban_same_camera=options.ban_same_camera,
        tiling=tiling,
    )
    # over as many neighbours as reciprocity reads, after BMIL
    return balanced(table, count=options.reciprocity, tiling=tiling) if options.debias == "balanced_knn" else table


def _thresholds(
    table: Neighbours, info: TrackletInfo, bars: Bars, options: StageOptions
) -> tuple[jax.Array, jax.Array]:
    """Theta [2], and the bar [P] of each row."""
    best = table.similarity[:, 0]
    theta = thresholds.dynamic_threshold(
        best, info.modality, num_groups=MODALITIES, kappa=bars.kappa, ema=options.ema, previous=bars.previous
    )
    bar = thresholds.row_threshold(best, theta[info.modality], rule=options.rule, rho=bars.rho, fixed=options.fixed)
    return theta, bar


def _positives(
    judged: _Judged, voted: jax.Array, reliability: jax.Array | None, options: StageOptions, tiling: Tiling
) -> Positives:
    """The best accepted candidates with their weights; voted [P, C]: neighbours of a positive."""
    table, accepted, theta, bar = judged
    kept = keep_top(table, accepted, count=options.positives, tiling=tiling)
    votes = None
    if options.weighting == "vote":
        votes = shared_neighbours(kept.index, table.index[:, :VOTERS], voted, tiling=tiling)
    if reliability is not None:
        reliability = tiling.lookup(reliability, kept.index)
    weight = soft_weights(
        kept.index,
        kept.similarity,
        kind=options.weighting,
        temperature=options.temperature,
        threshold=bar,
        votes=votes,
        reliability=reliability,
    )
    # they may well be the same person, so that they must not serve as negatives either
    unsure = thresholds.reaches(table, bar - options.band) & ~accepted
    ignore = keep_top(table, unsure, count=options.ambiguous, tiling=tiling).index
    # entries that weigh nothing are no positives (the rest of a row under "hard")
    return Positives(jnp.where(weight > 0, kept.index, -1), weight, ignore, theta)
