"""HCPA, the approximate search: inverted lists over k-means cells, and the exact rules inside the lists that are read.

P prototypes, D features, C cells, V views, M table columns, n devices. A list holds the rows of one cell and one
modality (for same_view: one view) and is cut into tiles of T rows, so that shapes are static however uneven the cells
are: P / T + lists tiles hold everything. B rows look at a time, each in the K tiles that are likeliest for itself.
Source: the inverted file of faiss, by its own nearest cells for every row. Choice: (row, tile) pairs are sorted by
tile, so that all rows that read a tile are multiplied with it at once, because gathering lists for every single row
would cost more than the products.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hitpro_jax.kernels.banks import each_part, fold_blocks, local_place, padded
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.candidates import (
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
from hitpro_jax.types import MODALITIES, TrackletInfo

SAMPLE, ROUNDS = 32, 6  # rows a cell that k-means sees, and its iterations: more changed recall by less than 0.01
TILE = 8, 128  # fewest and most rows
READERS = 128  # rows that are multiplied with a tile at once: enough for full speed
GROUP = 8  # columns of a tile of which the largest stands for all at first; narrower than for whole rows of a bank
OFFERS = 20  # entries that a row returns: as many as reciprocity reads


class _Lists(NamedTuple):
    """A part of the bank, L tiles: of each row what the scores need, of each tile whose list it is a piece of."""

    bank: Bank  # [L, T, ...]
    cell: jax.Array  # [L] int32
    kind: jax.Array  # [L] int32, modality or view; -1 for a tile without rows


def nearest(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    relation: str,
    count: int,
    num_views: int,
    cells: int = 0,
    probes: int = 32,
    block: int = 512,
    bias: ViewBias | None = None,
    ban_same_camera: bool = False,
    mesh: Mesh | None = None,
) -> Neighbours:
    """`mining.nearest` among the candidates of likely cells alone; what is found has its exact similarity.

    Cells are k-means cells of r_i = unit(p_i - mean of p over i's view). Choice: the view's mean is taken out because
    it says where, not who: with it, cells would part the cameras, and one person's tracklets with them.
    Every row reads the lists of the modality in question whose centres are nearest to its own r_i, `probes` of them on
    average over their lengths. Then it returns itself to the first `OFFERS` that it found: relations are symmetric, so
    what one of two rows has found the other need not. Choice: this instead of more probes, because a positive has to
    stand in both tables (reciprocity) and is read from one of the two far more often than from both.

    Args:
      prototypes, info, relation, count, ban_same_camera: see `mining.nearest`.
      bias: as there; symmetric between the views of the relation, as that of `view_bias` is within a modality.
      num_views: V, static.
      cells: C, static; 0: sqrt(P), which keeps placing the rows cheaper than comparing them. Choice: 2 C / V cells for
        same_view, whose lists are as long then, and as large a share of them is read.
      probes: lists read, static; as many as cells: all of them, which is exact, but for the order of equally similar
        candidates.
      block: rows that would look together if each read everything, static; so many more do as less is read.
      mesh: rows are cut over its devices. Every device keeps the lists of its own rows, and these go round the ring:
        nothing but centres [C, D] and view means [V, D] is held by all.

    Returns:
      Neighbours [P, M], as of `mining.nearest`. Deterministic.

    Memory on each of n devices: O(P D / n + P M / n + C T D + block (P / n + C T)), the last as of the exact search.
    Time: 2 P C D flops to place the rows, about P probes (P / 2 C + n T / 2) 2 D to compare them, and O(P log P) to
    return them: with many devices few rows are left to a list of each, and tiles of at least 8 rows are read almost
    empty.

    >>> info = TrackletInfo(*jnp.array([[0, 0, 0, 1], [1, 1, 2, 2], [0, 0, 1, 2]]), jnp.ones(4, bool))
    >>> nearest(jnp.eye(4), info, relation="other_camera", count=3, num_views=3, probes=9).index.tolist()
    [[2, -1, -1], [2, -1, -1], [0, 1, -1], [-1, -1, -1]]
    """
    chex.assert_rank(prototypes, 2)
    refuse_unknown(relation)
    size, devices = prototypes.shape[0], mesh.size if mesh else 1
    if size == 0:
        return empty_table(0, count)
    prototypes, info = padded((prototypes, info), devices)
    bank = Bank(prototypes, info, jnp.arange(info.valid.shape[0]))
    means, _ = segment_mean(prototypes, jnp.where(info.valid, info.view, -1), num_segments=num_views)
    directions = unit(prototypes - means[info.view])

    kinds = num_views if relation == "same_view" else MODALITIES
    cells = min(cells or round(size**0.5), size)
    cells, share = -(-cells * MODALITIES // kinds), probes / cells
    rows = bank.position.shape[0] // devices
    tile = tile_rows(rows, cells * kinds)
    tiles = rows // tile + cells * kinds
    reach = tiles if share >= 1 else min(tiles, math.ceil(share * tiles / kinds))
    centres = cell_centres(directions, info.valid, cells=cells, block=block, mesh=mesh)
    cell = nearest_cell(directions, centres, block=block, mesh=mesh)
    lists = _lists(bank, cell, tile=tile, cells=cells, kinds=kinds, mesh=mesh)

    def look(best: Neighbours, own: tuple, part: _Lists, offset: jax.Array, centres, bias) -> Neighbours:
        bank, direction = own
        read = _likely_tiles(bank.info, direction, part, centres, reach=reach, relation=relation, block=block)
        values, slot = _compared(bank, read, part, bias, relation=relation, ban_same_camera=ban_same_camera)
        values, place, column = _best(values, slot, min(best.index.shape[1], reach * tile))
        position = part.bank.position[jnp.take_along_axis(read, place, axis=1), column]
        return merge(best, values, position, first=mesh is None)

    none = empty_table(bank.position.shape[0], min(count, size))
    blocks = math.ceil(rows * reach / (block * tiles))
    table = fold_blocks(look, (bank, directions), none, lists, centres, bias, block=-(-rows // blocks), mesh=mesh)
    table = _returned(table, mesh) if share < 1 else table
    return widened(jax.tree.map(lambda column: column[:size], table), count)


def cell_centres(
    directions: jax.Array, valid: jax.Array, *, cells: int, block: int = 512, mesh: Mesh | None = None
) -> jax.Array:
    """Centres of spherical k-means: Lloyd's iterations on evenly spaced rows.

    Args:
      directions: [P, D] float32 unit rows.
      valid: [P] bool, rows that count.
      cells: C <= P, static.
      block, mesh: see `rows.fold_rows`.

    Returns:
      [C, D] float32 unit rows; a cell that no row is nearest to keeps the centre it had.

    >>> rows = jnp.array([[1., 0.], [.8, .6], [0., 1.], [0., 1.]])
    >>> print(jax.jit(lambda rows: cell_centres(rows, jnp.ones(4, bool), cells=2))(rows).round(2))
    [[0.95 0.32]
     [0.   1.  ]]
    """
    step = max(1, directions.shape[0] // (SAMPLE * cells))
    sample, valid = each_part(lambda *rows: jax.tree.map(lambda x: x[::step], rows), (directions, valid), mesh=mesh)
    start = sample[(jnp.arange(cells) * sample.shape[0]) // cells]

    def again(_: int, centres: jax.Array) -> jax.Array:
        cell = jnp.where(valid, nearest_cell(sample, centres, block=block, mesh=mesh), -1)
        mean, rows = segment_mean(sample, cell, num_segments=cells)
        return jnp.where((rows > 0)[:, None], unit(mean), centres)

    return jax.lax.fori_loop(0, ROUNDS, again, start)


def nearest_cell(directions: jax.Array, centres: jax.Array, *, block: int = 512, mesh: Mesh | None = None) -> jax.Array:
    """The cell [P] int32 whose centre [C, D] is nearest to each direction [P, D]; ties to the lower one.

    >>> nearest_cell(jnp.array([[0., 1.], [1., 0.]]), jnp.eye(2)).tolist()
    [1, 0]
    """

    def look(best: Neighbours, own: jax.Array, part: tuple, offset: jax.Array) -> Neighbours:
        centres, there = part
        values = jnp.where(there, similarity(own, centres), -jnp.inf)
        return merge(best, values, offset + jnp.arange(there.shape[0]), first=mesh is None)

    bank = centres, jnp.ones(centres.shape[0], bool)
    none = empty_table(directions.shape[0], 1)
    return fold_blocks(look, directions, none, bank, block=block, mesh=mesh).index[:, 0]


def tile_rows(rows: int, lists: int) -> int:
    """T for `rows` rows of a device: a power of two, about a list.

    >>> tile_rows(100_000, 632)
    128
    """
    tile, most = TILE
    while tile < most and 2 * tile * lists <= rows:
        tile *= 2
    return tile


def _in_tiles(key: jax.Array, *, keys: int, tile: int) -> tuple[jax.Array, jax.Array]:
    """Sorts N entries by key and puts them into tiles of T slots, each of one key alone; N / T + keys tiles hold all.

    Args:
      key: [N] int32; what is not in [0, keys) is left out.
      keys, tile: static.

    Returns:
      slot [N] of each entry, past the last one where it was left out, and entry [tiles, T] of each slot, -1 for none.

    >>> slot, entry = _in_tiles(jnp.array([1, 0, 1, 1, 9]), keys=2, tile=2)
    >>> slot.tolist(), entry.tolist()
    ([2, 0, 3, 4, 8], [[1, -1], [0, 2], [3, -1], [-1, -1]])
    """
    entries, tiles = jnp.arange(key.shape[0]), key.shape[0] // tile + keys
    key = jnp.where((key >= 0) & (key < keys), key, keys)
    order = jnp.argsort(key)
    lengths = jnp.bincount(key, length=keys + 1)
    tiles_before, entries_before = (jnp.cumsum(x) - x for x in (-(-lengths // tile), lengths))
    place = (tiles_before * tile - entries_before)[key[order]] + entries
    place = jnp.where(key[order] < keys, place, tiles * tile)
    slot = jnp.zeros_like(entries).at[order].set(place)
    entry = jnp.full_like(entries, -1, shape=tiles * tile).at[place].set(order, mode="drop")
    return slot, entry.reshape(tiles, tile)


def _lists(bank: Bank, cell: jax.Array, *, tile: int, cells: int, kinds: int, mesh: Mesh | None) -> _Lists:
    """Every device's rows in tiles."""

    def arrange(bank: Bank, cell: jax.Array) -> _Lists:
        kind = bank.info.modality if kinds == MODALITIES else bank.info.view
        key = jnp.where(bank.info.valid, cell * kinds + kind, -1)
        _, entry = _in_tiles(key, keys=cells * kinds, tile=tile)
        laid = jax.tree.map(lambda x: x[entry], bank)
        laid = laid._replace(info=laid.info._replace(valid=entry >= 0))
        first = entry[:, 0]
        return _Lists(laid, cell[first], jnp.where(first >= 0, kind[first], -1))

    return each_part(arrange, (bank, cell), mesh=mesh)


def _likely_tiles(
    own: TrackletInfo, direction: jax.Array, part: _Lists, centres: jax.Array, *, reach: int, relation: str, block: int
) -> jax.Array:
    """The K = `reach` tiles [B, K] that each row reads, likeliest first; L where there are no more."""
    kind = {"same_view": own.view, "other_camera": own.modality, "other_modality": 1 - own.modality}[relation]

    def row(direction: jax.Array, kind: jax.Array) -> jax.Array:
        near = similarity(direction[None], centres)[0]
        near, tile = jax.lax.top_k(jnp.where(part.kind == kind, near[part.cell], -jnp.inf), reach)
        return jnp.where(near > -jnp.inf, tile, part.kind.shape[0])

    return jax.lax.map(lambda x: row(*x), (direction, jnp.where(own.valid, kind, -2)), batch_size=block)


def _compared(
    own: Bank, read: jax.Array, part: _Lists, bias: ViewBias | None, *, relation: str, ban_same_camera: bool
) -> tuple[jax.Array, jax.Array]:
    """`scores` of all pairs of a row and a tile that it reads.

    Returns:
      values [S, T] of the pairs in slots, sorted by tile, and slot [B, K] of each pair; slots past the last hold -inf.
    """
    tiles, tile = part.bank.position.shape
    slot, pairs = _in_tiles(read.reshape(-1), keys=tiles, tile=READERS)

    def multiply(k: jax.Array, values: jax.Array) -> jax.Array:
        readers = jax.tree.map(lambda x: x[pairs[k] // read.shape[1]], own)
        rows = jax.tree.map(lambda x: x[read.reshape(-1)[pairs[k, 0]]], part.bank)
        fresh = scores(readers, rows, bias, relation=relation, ban_same_camera=ban_same_camera)
        return jax.lax.dynamic_update_slice_in_dim(values, fresh, k * READERS, axis=0)

    values = jnp.full_like(own.prototype, -jnp.inf, shape=(pairs.size, tile))
    return jax.lax.fori_loop(0, jnp.sum(pairs[:, 0] >= 0), multiply, values), slot.reshape(read.shape)


def _best(values: jax.Array, slot: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The `count` largest of the values [S, T] in each row's slots [B, K], by the way of `candidates.largest`.

    Returns:
      [B, count] values, largest first, and where they are: which of the row's slots, and which column.

    >>> values = jnp.arange(32.).reshape(2, 16)
    >>> [x.tolist() for x in _best(values, jnp.array([[1, 0], [2, 0]]), 2)]
    [[[31.0, 30.0], [15.0, 14.0]], [[0, 0], [1, 1]], [[15, 14], [15, 14]]]
    """
    groups = values.shape[1] // GROUP
    values = values.reshape(-1, GROUP)
    info = (slot[:, :, None] * groups + jnp.arange(groups)).reshape(slot.shape[0], -1)
    maxima = jnp.max(values, axis=1).at[info].get(mode="fill", fill_value=-jnp.inf)
    _, likely = jax.lax.top_k(maxima, min(count, maxima.shape[1]))
    info = jnp.take_along_axis(info, likely, axis=1)
    found = values.at[info].get(mode="fill", fill_value=-jnp.inf).reshape(slot.shape[0], -1)
    found, place = jax.lax.top_k(found, count)
    likely = jnp.take_along_axis(likely, place // GROUP, axis=1)
    return found, likely // groups, likely % groups * GROUP + place % GROUP


def _returned(table: Neighbours, mesh: Mesh | None) -> Neighbours:
    """The table [P, M] with every row entered at the first `OFFERS` that it found, and at most so many at each."""
    size, offers = table.index.shape[0], min(OFFERS, table.index.shape[1])

    def receive(best: Neighbours, own: jax.Array, part: Neighbours, offset: jax.Array) -> Neighbours:
        rows = jnp.arange(own.shape[0])
        place, here = local_place(part.index, own[0], own.shape[0])
        receiver = jnp.where(here, place, own.shape[0])
        giver = jnp.broadcast_to(offset + jnp.arange(part.index.shape[0])[:, None], receiver.shape)
        pairs = (x.reshape(-1) for x in (receiver, -part.similarity, giver))
        receiver, falling, giver = jax.lax.sort(tuple(pairs), num_keys=2)
        taken = jnp.searchsorted(receiver, rows)[:, None] + jnp.arange(offers)
        there = receiver.at[taken].get(mode="fill", fill_value=own.shape[0]) == rows[:, None]
        giver = giver[taken]
        known = jnp.any(giver[:, :, None] == best.index[:, None, :], axis=2)
        fresh = jnp.where(there & ~known, -falling[taken], -jnp.inf)
        both = (jnp.concatenate(pair, axis=1) for pair in ((best.similarity, fresh), (best.index, giver)))
        return merge(best, *both, first=True)  # the table's own entries are among the values

    given = jax.tree.map(lambda column: column[:, :offers], table)
    return fold_blocks(receive, jnp.arange(size), table, given, block=size, mesh=mesh)
