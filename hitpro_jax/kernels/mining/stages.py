"""HCPA, Hierarchical Cross-Prototype Alignment: two-stage positive mining with DTS and SWA (paper).

P prototypes, D features, K positives, A ambiguous, M neighbours kept in the table, V views. Thresholds are
[2], by modality m of the anchor: in stage 2 that is the direction from m to the other one (0: RGB to IR).
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import lookup
from hitpro_jax.kernels.mining import thresholds
from hitpro_jax.kernels.mining.positives import cycle_consistent, no_positives, propagate, smoothed
from hitpro_jax.kernels.mining.weights import shared_neighbours, soft_weights
from hitpro_jax.kernels.search import exact
from hitpro_jax.kernels.search.centring import remove_modality_mean
from hitpro_jax.kernels.search.exact import Neighbours
from hitpro_jax.types import MODALITIES, Positives, TrackletInfo

Search = Callable[..., Neighbours]
VOTERS = 20  # neighbours whose votes are counted, from N-ULC's short lists (choice)


def within_modality(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    num_views: int,
    rho: float | jax.Array,
    kappa: float | jax.Array,
    previous: jax.Array | None = None,
    ema: float | jax.Array = 0.5,
    rule: str = "both",
    fixed: float = 0.5,
    camera_bias: str = "mean",
    balance: int = 0,
    per_camera: int = 3,
    reciprocity: int = 20,
    positives: int = 10,
    weighting: str = "softmax",
    temperature: float = 0.1,
    reliability: jax.Array | None = None,
    ambiguous: int = 10,
    band: float = 0.05,
    neighbours: int = 64,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
    search: Search = exact.nearest,
) -> Positives:
    """Stage 1: positives of the same modality seen by other cameras.

    s_ij = <p_i, p_j>, C_i = {j: m_j = m_i, c_j != c_i} (paper), camera bias removed; b_i = max_{C_i} s_ij.
    j is accepted if all hold (Dynamic Threshold Strategy, paper; rules ours):
      (a) s_ij >= rho b_i (from SDCL);  (b) s_ij >= theta_m = mean b + kappa std b (choice);
      (c) j is among the `per_camera` best of its camera (from O2CAP);
      (d) i is among the `reciprocity` nearest of j (from k-reciprocal encoding and DAL).
    The best `positives` are kept, weighted by w_ij (Soft Weight Assignment, paper). A tracklet may have none.
    Choice: candidates that reach the bar less `band` without being accepted are ambiguous: they may well be
    the same person, so they must not serve as negatives either.

    Args:
      prototypes: [P, D] float32 unit rows.
      info: modality, camera, view, valid [P].
      num_views: V, static.
      rho, kappa: this epoch's values, may be traced.
      previous, ema: thresholds of the last refresh and their weight (see `thresholds.dynamic_threshold`).
      rule, fixed: see `thresholds.row_threshold`.
      camera_bias: "none", "mean" or "zscore" (see `exact.view_bias`).
      balance: nearest candidates over which `exact.balanced` makes all rows equally near, static; 0: not.
        Choice: prototypes that are near to everything are then nobody's positive by that alone.
      per_camera, reciprocity, positives, ambiguous, neighbours: k_c, K_r, K1, A, M; static.
      weighting, temperature, reliability: see `weighting.soft_weights`; reliability [P] or None.
      band: width of the ambiguous band under the bar.
      block, mesh: see `exact.nearest`.
      search: what makes the tables of neighbours: `exact.nearest`, or `ivf.nearest` with its own options bound.

    Returns:
      Positives [P, K1]; rows without any are -1 / 0.

    Memory: O(block P + P M). Time: 2 P^2 D flops. Rules are exact for candidates inside the table of M.

    >>> info = TrackletInfo(*jnp.array([[0, 0, 0], [1, 2, 2], [0, 1, 1]]), jnp.ones(3, bool))
    >>> bank = jnp.array([[1., 0.], [.8, .6], [0., 1.]])
    >>> options = dict(num_views=2, rho=.9, kappa=0., camera_bias="none")
    >>> jax.jit(lambda bank: within_modality(bank, info, **options))(bank).index[:, 0].tolist()
    [1, 0, -1]
    """
    _check(prototypes, info)
    bias = exact.view_bias(prototypes, info, num_views=num_views, mode=camera_bias, block=block, mesh=mesh)
    table = search(prototypes, info, relation="other_camera", count=neighbours, block=block, bias=bias, mesh=mesh)
    if balance:
        table = exact.balanced(table, count=balance, block=block, mesh=mesh)
    theta, bar = _thresholds(table, info, kappa, ema, previous, rule, rho, fixed)
    accepted = (
        thresholds.reaches(table, bar)
        & (thresholds.camera_rank(table, info.camera, block=block, mesh=mesh) < per_camera)
        & thresholds.reciprocal(table, count=reciprocity, block=block, mesh=mesh)
    )
    kept = exact.keep_top(table, accepted, count=positives, mesh=mesh)
    voters = table.index[:, :VOTERS]
    weight = _weights(kept, weighting, temperature, bar, voters, voters, reliability, block, mesh)
    return _positives(kept, weight, _ambiguous(table, accepted, bar - band, ambiguous, mesh), theta)


def across_modalities(
    prototypes: jax.Array,
    within: Positives,
    info: TrackletInfo,
    *,
    rho: float | jax.Array,
    kappa: float | jax.Array,
    previous: jax.Array | None = None,
    ema: float | jax.Array = 0.5,
    rule: str = "both",
    fixed: float = 0.5,
    debias: str = "mean",
    reciprocity: int = 20,
    cycle: bool = True,
    positives: int = 10,
    weighting: str = "softmax",
    temperature: float = 0.1,
    reliability: jax.Array | None = None,
    ambiguous: int = 10,
    band: float = 0.05,
    direct: bool = False,
    ban_same_camera: bool = False,
    neighbours: int = 64,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
    search: Search = exact.nearest,
) -> Positives:
    """Stage 2: positives of the other modality, built on stage 1 (paper).

    q_i = unit(p_i + sum_j w_ij p_j), modality bias removed; C_i = {j: m_j != m_i}.
    DTS rules (a), (b) with statistics of each direction, and (d), as in stage 1; then a cycle check and
    propagation: i's positives include the stage-1 positives k of each match j with weight w_ij w_jk (choice).
    Many to one is allowed (choice: infrared is under-clustered, as CBA notes, so a one-to-one matching would
    force errors). `direct` skips stage 1 altogether, an ablation: q = p, no propagation, and no cycle check,
    which is written in stage-1 links.

    Args:
      prototypes: [P, D] float32 unit rows.
      within: stage-1 positives.
      info: modality, camera, view, valid [P].
      rho, kappa, previous, ema, rule, fixed: as in stage 1, of its own.
      debias: "none"; "mean", unit(q_i - mean of q over i's modality) (choice); or "balanced_knn", over the
        K_r nearest (see `exact.balanced`, after BMIL).
      reciprocity, positives, ambiguous, neighbours: K_r, K2, A, M; static.
      cycle: whether to apply `cycle_consistent`, static.
      weighting, temperature, reliability: see `weighting.soft_weights`. "vote" counts the stage-1 positives
        of j that are also near i.
      band: width of the ambiguous band under the bar.
      direct, ban_same_camera: see above and `exact.nearest`, static.
      block, mesh: see `exact.nearest`.
      search: what makes the tables of neighbours: `exact.nearest`, or `ivf.nearest` with its own options bound.

    Returns:
      Positives [P, K2]; rows without any are -1 / 0; all rows if only one modality is present.

    Memory and time: as stage 1.

    >>> info = TrackletInfo(*jnp.array([[0, 0, 1, 1], [1, 2, 1, 2], [0, 1, 2, 3]]), jnp.ones(4, bool))
    >>> bank, none = jnp.eye(2)[jnp.array([0, 1, 0, 1])], no_positives(4, positives=1, ambiguous=1)
    >>> mine = lambda bank: across_modalities(bank, none, info, rho=.9, kappa=0., direct=True)
    >>> jax.jit(mine)(bank).index[:, 0].tolist()
    [2, 3, 0, 1]
    """
    _check(prototypes, info)
    if direct:
        within = no_positives(prototypes.shape[0], positives=1, ambiguous=1)
    smooth = smoothed(prototypes, within, block=block, mesh=mesh)
    table = _across_table(smooth, info, debias, reciprocity, neighbours, block, ban_same_camera, mesh, search)
    theta, bar = _thresholds(table, info, kappa, ema, previous, rule, rho, fixed)
    accepted = thresholds.reaches(table, bar)
    accepted &= thresholds.reciprocal(table, count=reciprocity, block=block, mesh=mesh)
    if cycle and not direct:
        accepted &= cycle_consistent(table, within.index, block=block, mesh=mesh)
    kept = exact.keep_top(table, accepted, count=positives, mesh=mesh)
    voters = table.index[:, :VOTERS]
    weight = _weights(kept, weighting, temperature, bar, voters, within.index, reliability, block, mesh)
    matched = _positives(kept, weight, _ambiguous(table, accepted, bar - band, ambiguous, mesh), theta)
    if direct:
        return matched
    return propagate(matched, within, info.camera, ban_same_camera=ban_same_camera, block=block, mesh=mesh)


def same_view_ambiguity(
    prototypes: jax.Array,
    info: TrackletInfo,
    threshold: jax.Array,
    *,
    rho: float | jax.Array,
    rule: str = "both",
    fixed: float = 0.5,
    count: int = 5,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
    search: Search = exact.nearest,
) -> jax.Array:
    """Prototypes of the own view that look like the same person, for level 1.

    {j: g_j = g_i, j != i, s_ij >= max(rho max_j s_ij, theta_m)}, at most `count`, the most similar ones.
    Choice: HITSZ-VCM cuts a person's stay into tracks of 24 frames, so one person can own several prototypes
    of one view, and without this level 1 would push them apart. Choice: the bar is rule "statistic" with
    `thresholds.part_threshold`, which on the synthetic world is right for 0.95 of those it names and finds 0.88 of
    them; stage 1's rule, which always names the best match, was right for 0.3 to 0.6.

    Args:
      prototypes: [P, D] float32 unit rows.
      info: modality, camera, view, valid [P].
      threshold: [2] theta by modality, of `thresholds.part_threshold` or of stage 1. Choice: where it is not finite
        (a modality with one camera, or no stage 1) the relative bar, if there is one, decides alone, as one person's
        tracklets must not be pushed apart there either. Choice: stage 1's theta was measured after the camera bias
        was removed and is a low bar for plain similarities of one view, so that rho mostly decides there.
      rho, rule, fixed: as in stage 1.
      count: A, static.
      block, mesh: see `exact.nearest`.
      search: what makes the tables of neighbours: `exact.nearest`, or `ivf.nearest` with its own options bound.

    Returns:
      [P, A] int32, best first, -1 for none.

    >>> info = TrackletInfo(*jnp.zeros((3, 3), int), jnp.ones(3, bool))
    >>> bank = jnp.array([[1., 0.], [.8, .6], [0., 1.]])
    >>> mask = lambda bank: same_view_ambiguity(bank, info, jnp.array([.7, .7]), rho=.9, count=2)
    >>> jax.jit(mask)(bank).tolist()
    [[1, -1], [0, -1], [-1, -1]]
    """
    _check(prototypes, info)
    chex.assert_shape(threshold, (MODALITIES,))
    table = search(prototypes, info, relation="same_view", count=count, block=block, mesh=mesh)
    if rule != "statistic":  # there is a relative bar to decide
        threshold = jnp.where(jnp.isfinite(threshold), threshold, -jnp.inf)
    theta = threshold[info.modality]
    bar = thresholds.row_threshold(table.similarity[:, 0], theta, rule=rule, rho=rho, fixed=fixed)
    return exact.keep_top(table, thresholds.reaches(table, bar), count=count, mesh=mesh).index


def _check(prototypes: jax.Array, info: TrackletInfo) -> None:
    chex.assert_rank(prototypes, 2)
    for field in info:
        chex.assert_shape(field, (prototypes.shape[0],))


def _across_table(
    smooth: jax.Array,
    info: TrackletInfo,
    debias: str,
    reciprocity: int,
    neighbours: int,
    block: int,
    ban_same_camera: bool,
    mesh: jax.sharding.Mesh | None,
    search: Search,
) -> Neighbours:
    """Stage-2 candidates after the modality bias is removed."""
    if debias not in ("none", "mean", "balanced_knn"):
        raise ValueError(f"unknown modality debiasing {debias!r}; use 'none', 'mean' or 'balanced_knn'.")
    if debias == "mean":
        smooth = remove_modality_mean(smooth, info)

    table = search(
        smooth,
        info,
        relation="other_modality",
        count=neighbours,
        block=block,
        ban_same_camera=ban_same_camera,
        mesh=mesh,
    )
    return exact.balanced(table, count=reciprocity, block=block, mesh=mesh) if debias == "balanced_knn" else table


def _thresholds(
    table: Neighbours,
    info: TrackletInfo,
    kappa: float | jax.Array,
    ema: float | jax.Array,
    previous: jax.Array | None,
    rule: str,
    rho: float | jax.Array,
    fixed: float,
) -> tuple[jax.Array, jax.Array]:
    """Theta [2] of the anchors' modalities and the bar [P] of each row."""
    best = table.similarity[:, 0]
    theta = thresholds.dynamic_threshold(
        best, info.modality, num_groups=MODALITIES, kappa=kappa, ema=ema, previous=previous
    )
    return theta, thresholds.row_threshold(best, theta[info.modality], rule=rule, rho=rho, fixed=fixed)


def _weights(
    kept: Neighbours,
    kind: str,
    temperature: float,
    bar: jax.Array,
    own: jax.Array,
    theirs: jax.Array,
    reliability: jax.Array | None,
    block: int,
    mesh: jax.sharding.Mesh | None,
) -> jax.Array:
    votes = shared_neighbours(kept.index, own, theirs, block=block, mesh=mesh) if kind == "vote" else None
    if reliability is not None:
        reliability = lookup(reliability, kept.index, block=block, mesh=mesh)
    return soft_weights(
        kept.index,
        kept.similarity,
        kind=kind,
        temperature=temperature,
        threshold=bar,
        votes=votes,
        reliability=reliability,
    )


def _ambiguous(
    table: Neighbours, accepted: jax.Array, floor: jax.Array, count: int, mesh: jax.sharding.Mesh | None
) -> jax.Array:
    """[P, A] the best candidates above the floor that were not accepted."""
    return exact.keep_top(table, thresholds.reaches(table, floor) & ~accepted, count=count, mesh=mesh).index


def _positives(kept: Neighbours, weight: jax.Array, ignore: jax.Array, theta: jax.Array) -> Positives:
    """Entries that weigh nothing are no positives (the rest of a row under "hard")."""
    return Positives(jnp.where(weight > 0, kept.index, -1), weight, ignore, theta)
