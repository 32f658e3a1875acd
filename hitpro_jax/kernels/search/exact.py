"""HCPA, the search: one blockwise pass makes a sorted table of nearest candidates, which the rules read.

P prototypes, D features, M table columns, V views. A table row is best first, ties to the lower index, and -1
/ -inf where a row has fewer than M candidates. Nothing of size P x P is ever held.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import each_part, fold_blocks, fold_rows, lookup, padded
from hitpro_jax.kernels.search.candidates import (
    GROUP,
    Bank,
    Neighbours,
    ViewBias,
    empty_table,
    merge,
    refuse_unknown,
    scores,
    similarity,
    widened,
)
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import TrackletInfo

COLUMNS = 8192  # of the bank that are multiplied at once: enough for full speed
CHUNKS = 8  # a small bank is cut into so many, or half of it could not be left out


def nearest(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    relation: str,
    count: int,
    block: int = 512,
    bias: ViewBias | None = None,
    ban_same_camera: bool = False,
    mesh: jax.sharding.Mesh | None = None,
) -> Neighbours:
    """The `count` most similar candidates of every prototype.

    s_ij = <p_i, p_j> over C_i, which by relation is
      same_view: {j: g_j = g_i, j != i};
      other_camera: {j: m_j = m_i, c_j != c_i} (paper, stage 1);
      other_modality: {j: m_j != m_i} (paper, stage 2), without c_j = c_i if `ban_same_camera`.
    All three are symmetric, so a table also answers the reverse question "is i near j?".

    Args:
      prototypes: [P, D] float32 unit rows.
      info: modality, camera, view and validity of each row.
      relation: see above, static.
      count: M >= 1, static.
      block: rows per pass, static; P need not be a multiple of it.
      bias: camera bias of `view_bias`, applied to s before ranking.
      ban_same_camera: Choice: bars twins that one physical camera takes in both modalities, as on BUPTCampus.
      mesh: rows are cut over its devices, and the parts of the bank go round the ring (see `rows.fold_rows`).

    Returns:
      Neighbours [P, M]; invalid rows and rows without candidates are empty (-1 / -inf).

    Numerics: float32 products at highest precision. Memory: O(block P + P M + P D). Time: 2 D flops a candidate
    pair: every device sorts its rows by modality (same_view: by view) and multiplies a block of rows with those
    columns alone among which there are candidates.

    Raises:
      ValueError: unknown relation.

    >>> info = TrackletInfo(*jnp.array([[0, 0, 0, 1], [1, 1, 2, 2], [0, 0, 1, 2]]), jnp.ones(4, bool))
    >>> nearest(jnp.eye(4), info, relation="other_camera", count=3).index.tolist()
    [[2, -1, -1], [2, -1, -1], [0, 1, -1], [-1, -1, -1]]
    """
    chex.assert_rank(prototypes, 2)
    chex.assert_equal_shape([info.modality, info.camera, info.view, info.valid])
    chex.assert_equal_shape_prefix([prototypes, info.valid], 1)
    refuse_unknown(relation)
    size = prototypes.shape[0]

    def look(best: Neighbours, own: Bank, part: Bank, offset: jax.Array, bias: ViewBias | None) -> Neighbours:
        values = _all_scores(own, part, bias, relation, ban_same_camera)
        return merge(best, values, part.position, first=mesh is None)

    prototypes, info = padded((prototypes, info), mesh.size if mesh else 1)
    bank = _sorted(Bank(prototypes, info, jnp.arange(info.valid.shape[0])), relation, mesh)
    none = empty_table(bank.position.shape[0], min(count, size))
    table = fold_blocks(look, bank, none, bank, bias, block=block, mesh=mesh)
    table = each_part(_back, (bank.position, *table), mesh=mesh)
    return widened(jax.tree.map(lambda column: column[:size], table), count)


def view_bias(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    num_views: int,
    mode: str,
    block: int = 512,
    mesh: jax.sharding.Mesh | None = None,
) -> ViewBias | None:
    """Camera bias of the stage-1 similarities.

    With mu_ab and sigma_ab the mean and deviation of s between views a and b, and mu, sigma those pooled over
    all stage-1 pairs (a != b) of the modality:
      mean: s' = s - mu_ab + mu;   zscore: s' = (s - mu_ab) sigma / sigma_ab + mu.
    Choice: the role of CA-Jaccard and IICS, done on the similarity itself. The mean of the modality is added
    back, so that bars relative to a row's best keep their meaning. mu_ab = <mean_a, mean_b> visits no pair.

    Args:
      prototypes: [P, D] float32.
      info: of the rows; view ids in [0, V).
      num_views: V, static.
      mode: "none", "mean" or "zscore", static.
      block, mesh: as in `nearest`; used by zscore alone, which streams every pair once.

    Returns:
      ViewBias [V, V], or None for "none". A pair of views without spread (one similarity, or all alike) has
      scale 1; pairs with an empty view hold finite numbers that nothing reads.

    Memory: O(V D + V^2), zscore O(block P) more.

    Raises:
      ValueError: unknown mode.

    >>> info = TrackletInfo(jnp.zeros(3, int), jnp.arange(3), jnp.arange(3), jnp.ones(3, bool))
    >>> bank = jnp.array([[1., 0.], [.75, 0.], [0., 1.]])
    >>> view_bias(bank, info, num_views=3, mode="mean").offset[0].tolist()
    [0.75, 0.5, -0.25]
    """
    if mode == "none":
        return None
    if mode not in ("mean", "zscore"):
        raise ValueError(f"unknown camera bias {mode!r}; use 'none', 'mean' or 'zscore'.")
    view = jnp.where(info.valid, info.view, -1)
    centre, sizes = segment_mean(prototypes, view, num_segments=num_views)
    mean = similarity(centre, centre)
    modality, _ = segment_mean(info.modality, view, num_segments=num_views)
    same = (modality[:, None] == modality[None, :]).astype(jnp.float32)
    pairs = sizes[:, None] * sizes[None, :] * same * (1.0 - jnp.eye(num_views))

    def pooled(values: jax.Array) -> jax.Array:
        """Mean over the stage-1 pairs of each view's modality, as a column."""
        total, sums = (same * jnp.sum(x, axis=1) for x in (pairs, pairs * values))
        return jnp.sum(sums, axis=1, keepdims=True) / jnp.maximum(jnp.sum(total, axis=1, keepdims=True), 1.0)

    scale = jnp.ones((num_views, num_views), jnp.float32)
    if mode == "zscore":
        variance = _pair_variance(prototypes, view, mean, sizes, block, mesh)
        spread = variance > 1e-12  # below this sigma_ab is rounding, and dividing by it would make noise
        scale = jnp.where(spread, jnp.sqrt(pooled(variance) / jnp.where(spread, variance, 1.0)), 1.0)
        scale = jnp.where(scale > 0, scale, 1.0)  # views of the own modality may have no pair to pool
    return ViewBias(mean - pooled(mean) / scale, scale)


def balanced(
    neighbours: Neighbours, *, count: int, block: int = 512, mesh: jax.sharding.Mesh | None = None
) -> Neighbours:
    """The table with all rows equally near to their nearest candidates: s'_ij = s_ij - (l_i + l_j) / 2.

    l_i = mean of the first `count` s_ij - mean over rows of the same; 0 for rows without candidates.
    Choice: our reading of BMIL's balanced neighbours. BMIL balances the two modalities inside the neighbour
    sets of a Jaccard distance; here a row's candidates are of one modality, and what is left of the idea is
    that every row should look equally near to the others. The form is that of CSLS, cross-domain local
    scaling; the mean is added back so that relative thresholds keep their meaning.
    Choice: the entries of the table change places, and none comes in that s alone left out, for which all candidates
    would have to be searched a second time.

    Args:
      neighbours: table [P, M] of the candidates, best first.
      count: neighbours averaged, static.
      block, mesh: see `rows.fold_rows`.

    Returns:
      Neighbours [P, M] by s', best first, ties to the lower index.

    >>> table = Neighbours(jnp.array([[1, 2], [0, 2], [0, 1]]), jnp.array([[.9, .6], [.9, .3], [.6, .3]]))
    >>> print(balanced(table, count=2).similarity)
    [[0.825 0.6  ]
     [0.825 0.375]
     [0.6   0.375]]
    """
    chex.assert_equal_shape(neighbours)
    near = neighbours.similarity[:, :count]
    found = near > -jnp.inf
    mean = jnp.sum(jnp.where(found, near, 0.0), axis=1) / jnp.maximum(jnp.sum(found, axis=1), 1)
    some = jnp.any(found, axis=1)
    overall = jnp.sum(mean) / jnp.maximum(jnp.sum(some), 1)  # rows without candidates add 0
    level = jnp.where(some, mean - overall, 0.0)
    theirs = lookup(level, neighbours.index, block=block, mesh=mesh)

    def ordered(index: jax.Array, similarity: jax.Array, own: jax.Array, theirs: jax.Array) -> Neighbours:
        falling, index = jax.lax.sort(((own[:, None] + theirs) / 2.0 - similarity, index), num_keys=2)
        return Neighbours(index, -falling)

    return each_part(ordered, (*neighbours, level, theirs), mesh=mesh)


def keep_top(
    neighbours: Neighbours, keep: jax.Array, *, count: int, mesh: jax.sharding.Mesh | None = None
) -> Neighbours:
    """The first `count` kept entries of each row, moved to the front.

    Args:
      neighbours: table [P, M], best first.
      keep: [P, M] bool.
      count: K, static.
      mesh: see `rows.fold_rows`.

    Returns:
      Neighbours [P, K], best first, -1 / -inf for none.

    >>> table = Neighbours(jnp.array([[4, 7, 2]]), jnp.array([[.9, .8, .7]]))
    >>> keep_top(table, jnp.array([[True, False, True]]), count=2).index.tolist()
    [[4, 2]]
    """
    chex.assert_rank(neighbours.index, 2)
    chex.assert_equal_shape([neighbours.index, neighbours.similarity, keep])
    reach = min(count, neighbours.index.shape[1])

    def front(index: jax.Array, similarity: jax.Array, keep: jax.Array) -> Neighbours:
        masked = jnp.where(keep & (index >= 0), similarity, -jnp.inf)
        best, place = jax.lax.top_k(masked, reach)  # ties go to the lower column: the order stays
        return Neighbours(jnp.where(best > -jnp.inf, jnp.take_along_axis(index, place, axis=1), -1), best)

    return widened(each_part(front, (*neighbours, keep), mesh=mesh), count)


def _sorted(bank: Bank, relation: str, mesh: jax.sharding.Mesh | None) -> Bank:
    """Every device's rows by what decides of a pair: rows of one view, or modality, lie together, invalid ones last."""

    def sort(*bank: jax.Array) -> Bank:
        info = Bank(*bank).info
        key = info.view if relation == "same_view" else info.modality
        order = jnp.argsort(jnp.where(info.valid, key, jnp.iinfo(jnp.int32).max))  # stable: ties stay in order
        return jax.tree.map(lambda column: column[order], Bank(*bank))

    return each_part(sort, bank, mesh=mesh)


def _back(position: jax.Array, *table: jax.Array) -> Neighbours:
    """A device's rows of the table in the order of the bank."""
    order = jnp.argsort(position)
    return Neighbours(*(column[order] for column in table))


def _all_scores(own: Bank, part: Bank, bias: ViewBias | None, relation: str, ban_same_camera: bool) -> jax.Array:
    """`scores` [B, Q] and up to GROUP empty columns, chunk by chunk from the first column that has a candidate on."""
    total = part.position.shape[0]
    width = min(COLUMNS, -(-total // CHUNKS))
    within = _within_reach(own.info, part.info, relation)
    first, last = jnp.argmax(within), total - 1 - jnp.argmax(within[::-1])

    def chunk(k: jax.Array, values: jax.Array) -> jax.Array:
        start = jnp.minimum(k * width, total - width)  # the last chunk begins within the one before it
        columns = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, width), part)
        fresh = scores(own, columns, bias, relation=relation, ban_same_camera=ban_same_camera)
        return jax.lax.dynamic_update_slice_in_dim(values, fresh, start, axis=1)

    nothing = jnp.full_like(own.prototype, -jnp.inf, shape=(own.prototype.shape[0], total + -total % GROUP))
    return jax.lax.fori_loop(first // width, jnp.where(jnp.any(within), last // width + 1, 0), chunk, nothing)


def _within_reach(own: TrackletInfo, part: TrackletInfo, relation: str) -> jax.Array:
    """[Q] bool, False where a column can be no candidate of any row of the block."""
    key, keys = (own.view, part.view) if relation == "same_view" else (own.modality, part.modality)
    low = jnp.min(jnp.where(own.valid, key, jnp.iinfo(jnp.int32).max))
    high = jnp.max(jnp.where(own.valid, key, -1))
    near = (keys != low) | (keys != high) if relation == "other_modality" else (keys >= low) & (keys <= high)
    return near & part.valid & (low <= high)


def _pair_variance(
    prototypes: jax.Array,
    view: jax.Array,
    mean: jax.Array,
    sizes: jax.Array,
    block: int,
    mesh: jax.sharding.Mesh | None,
) -> jax.Array:
    """[V, V] variance of the similarities of each pair of views, from deviations for float32's sake."""
    member = jax.nn.one_hot(view, mean.shape[0], dtype=jnp.float32)  # no view, no member: padding drops out

    def row(total: jax.Array, anchor: tuple, part: tuple, offset: jax.Array, mean: jax.Array) -> jax.Array:
        (prototype, own), (prototypes, other, member) = anchor, part
        deviation = similarity(prototype, prototypes) - mean[own][other]
        return total + jnp.matmul(jnp.square(deviation), member, precision=jax.lax.Precision.HIGHEST)

    bank = (prototypes, view, member)
    per_row = fold_rows(row, (prototypes, view), jnp.zeros_like(member), bank, mean, block=block, mesh=mesh)
    total, _ = segment_mean(per_row, view, num_segments=mean.shape[0])
    return total / jnp.maximum(sizes, 1.0)[None, :]
