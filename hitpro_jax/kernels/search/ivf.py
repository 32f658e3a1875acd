"""The approximate search: inverted lists over k-means cells, and exact similarities inside the lists that are read.

C cells. A list holds the rows of one cell and one kind (modality; for same_view: view) in tiles of T rows. B rows look
at a time, each in its K likeliest tiles. Source: faiss.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.banks import ONE_DEVICE, Tiling, local_position, padded
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.candidates import (
    Bank,
    Neighbours,
    ViewBias,
    check_relation,
    empty_table,
    merge,
    scores,
    similarity,
    widened,
)
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import MODALITIES, TrackletInfo

SAMPLE, ROUNDS = 32, 6  # rows a cell that k-means sees, and its iterations: more changed recall by less than 0.01
TILE_ROWS = 8, 128  # fewest and most rows of a tile
READERS = 128  # rows that are multiplied with a tile at once: enough for full speed
COLUMN_GROUP = 8  # columns of a tile of which the maximum is taken first; narrower than for whole rows of a bank
RETURNED = 20  # entries that a row returns: as many as reciprocity reads


@dataclass(frozen=True)
class IvfIndex:
    """How rows are put into lists, and how many are read. Static."""

    num_views: int  # V
    cells: int = 0  # C; 0: sqrt(P), which keeps placing the rows cheaper than comparing them
    probes: int = 32  # lists that a row reads; as many as cells: all, which is exact up to the order of ties


class _Plan(NamedTuple):
    """Static sizes of a search."""

    relation: str
    ban_same_camera: bool
    cells: int
    kinds: int
    tile: int  # T
    tiles: int  # of a device
    reach: int  # K
    exhaustive: bool

    @property
    def keys(self) -> int:
        return self.cells * self.kinds


class _Lists(NamedTuple):
    """A part of the bank in L tiles of T rows."""

    bank: Bank  # [L, T, ...]
    cell: jax.Array  # [L] int32
    kind: jax.Array  # [L] int32, modality or view; -1 for a tile without rows


def nearest(
    prototypes: jax.Array,
    info: TrackletInfo,
    *,
    relation: str,
    count: int,
    index: IvfIndex,
    bias: ViewBias | None = None,
    ban_same_camera: bool = False,
    tiling: Tiling = ONE_DEVICE,
) -> Neighbours:
    """`exact.nearest` among the candidates of likely cells; what is found has its exact similarity.

    Cells are those of r_i = unit(p_i - mean of p over i's view). A row reads the lists nearest to r_i, then returns
    itself to the first `RETURNED` rows that it found.

    Args:
      prototypes: see `exact.nearest`.
      info: see there.
      relation: see there.
      count: see there.
      index: static.
      bias: symmetric between views.
      ban_same_camera: see there.
      tiling: `Tiling`.

    Returns:
      Neighbours [P, M], deterministic.

    Cost: O((P D + P M + block P) / n + C T (D + block)) memory; 2 P C D flops to find cells, about
    P probes (P / C + n T) D to compare rows.

    >>> info = TrackletInfo(*jnp.array([[0, 0], [1, 2], [0, 1]]), jnp.ones(2, bool))
    >>> nearest(jnp.eye(2), info, relation="other_camera", count=1, index=IvfIndex(num_views=2)).index.tolist()
    [[1], [0]]
    """
    chex.assert_rank(prototypes, 2)
    check_relation(relation)
    size = prototypes.shape[0]
    if size == 0:
        return empty_table(0, count)
    prototypes, info = padded((prototypes, info), tiling.devices)
    bank = Bank(prototypes, info, jnp.arange(info.valid.shape[0]))
    # a view's mean describes the place: cells that hold it would separate cameras, and with them a person's tracklets
    means, _ = segment_mean(prototypes, jnp.where(info.valid, info.view, -1), num_segments=index.num_views)
    directions = unit(prototypes - means[info.view])

    rows = bank.position.shape[0] // tiling.devices
    plan = _plan(size, rows, index, relation, ban_same_camera)
    centres = cell_centres(directions, info.valid, cells=plan.cells, tiling=tiling)
    cell = nearest_cell(directions, centres, tiling=tiling)
    lists = _lists(bank, cell, plan, tiling)

    none = empty_table(bank.position.shape[0], min(count, size))
    # rows that look together: `block` if each reads everything, and more as each reads less
    blocks = math.ceil(rows * plan.reach / (tiling.block * plan.tiles))
    together = Tiling(-(-rows // blocks), tiling.mesh)
    table = together.fold_blocks(_look(plan, tiling), (bank, directions), none, lists, centres, bias)
    # a positive must be in both tables (reciprocity), and only one of the two rows may have read the other
    table = table if plan.exhaustive else _returned(table, tiling)
    return widened(jax.tree.map(lambda column: column[:size], table), count)


def _plan(size: int, rows: int, index: IvfIndex, relation: str, ban_same_camera: bool) -> _Plan:
    kinds = index.num_views if relation == "same_view" else MODALITIES
    cells = min(index.cells or round(size**0.5), size)
    # same_view: fewer cells, so that lists are as long and as large a share of them is read
    cells, share = -(-cells * MODALITIES // kinds), index.probes / cells
    tile = tile_rows(rows, cells * kinds)
    tiles = rows // tile + cells * kinds
    reach = tiles if share >= 1 else min(tiles, math.ceil(share * tiles / kinds))
    return _Plan(relation, ban_same_camera, cells, kinds, tile, tiles, reach, share >= 1)


def cell_centres(directions: jax.Array, valid: jax.Array, *, cells: int, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """Centres [C, D] of spherical k-means: Lloyd's iterations on evenly spaced rows.

    Args:
      directions: [P, D] unit rows.
      valid: [P] bool.
      cells: C <= P, static.
      tiling: `Tiling`.

    >>> cell_centres(jnp.eye(2), jnp.ones(2, bool), cells=2).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    step = max(1, directions.shape[0] // (SAMPLE * cells))
    sample, valid = tiling.each_part(lambda *rows: jax.tree.map(lambda x: x[::step], rows), (directions, valid))
    start = sample[(jnp.arange(cells) * sample.shape[0]) // cells]

    def iterate(_: int, centres: jax.Array) -> jax.Array:
        cell = jnp.where(valid, nearest_cell(sample, centres, tiling=tiling), -1)
        mean, rows = segment_mean(sample, cell, num_segments=cells)
        return jnp.where((rows > 0)[:, None], unit(mean), centres)  # a cell without rows keeps its centre

    return jax.lax.fori_loop(0, ROUNDS, iterate, start)


def nearest_cell(directions: jax.Array, centres: jax.Array, *, tiling: Tiling = ONE_DEVICE) -> jax.Array:
    """The cell [P] int32 whose centre [C, D] is nearest to each direction [P, D].

    >>> nearest_cell(jnp.array([[0., 1.], [1., 0.]]), jnp.eye(2)).tolist()
    [1, 0]
    """

    def look(best: Neighbours, own: jax.Array, part: tuple, offset: jax.Array) -> Neighbours:
        centres, real = part
        values = jnp.where(real, similarity(own, centres), -jnp.inf)
        return merge(best, values, offset + jnp.arange(real.shape[0]), first=tiling.mesh is None)

    bank = centres, jnp.ones(centres.shape[0], bool)  # rows that pad the centres over a mesh are False
    none = empty_table(directions.shape[0], 1)
    return tiling.fold_blocks(look, directions, none, bank).index[:, 0]


def tile_rows(rows: int, lists: int) -> int:
    """T for `rows` rows of a device: a power of two, about a list.

    >>> tile_rows(100_000, 632)
    128
    """
    tile, most = TILE_ROWS
    while tile < most and 2 * tile * lists <= rows:
        tile *= 2
    return tile


def _in_tiles(key: jax.Array, *, keys: int, tile: int) -> tuple[jax.Array, jax.Array]:
    """Sorts entries by key [N] into tiles of T slots of one key each."""
    # every key wastes less than one tile: N / T + keys tiles hold everything
    entries, tiles = jnp.arange(key.shape[0]), key.shape[0] // tile + keys
    # other keys are left out: they sort behind, and their slot lies past the last one
    key = jnp.where((key >= 0) & (key < keys), key, keys)
    order = jnp.argsort(key)
    lengths = jnp.bincount(key, length=keys + 1)
    tiles_before, entries_before = (jnp.cumsum(x) - x for x in (-(-lengths // tile), lengths))
    sorted_slot = (tiles_before * tile - entries_before)[key[order]] + entries
    sorted_slot = jnp.where(key[order] < keys, sorted_slot, tiles * tile)
    slot = jnp.zeros_like(entries).at[order].set(sorted_slot)
    entry = jnp.full_like(entries, -1, shape=tiles * tile).at[sorted_slot].set(order, mode="drop")
    # the slot [N] of each entry, and the entry [tiles, T] of each slot, -1 for none
    return slot, entry.reshape(tiles, tile)


def _lists(bank: Bank, cell: jax.Array, plan: _Plan, tiling: Tiling) -> _Lists:
    """Every device's rows in tiles."""

    def arrange(bank: Bank, cell: jax.Array) -> _Lists:
        kind = bank.info.modality if plan.kinds == MODALITIES else bank.info.view
        key = jnp.where(bank.info.valid, cell * plan.kinds + kind, -1)
        _, entry = _in_tiles(key, keys=plan.keys, tile=plan.tile)
        # in tiles, because lists of many lengths would have no static shape
        laid = jax.tree.map(lambda x: x[entry], bank)
        laid = laid._replace(info=laid.info._replace(valid=entry >= 0))
        first = entry[:, 0]  # every slot of a tile is of one list
        return _Lists(laid, cell[first], jnp.where(first >= 0, kind[first], -1))

    return tiling.each_part(arrange, (bank, cell))


def _look(plan: _Plan, tiling: Tiling) -> Callable[..., Neighbours]:
    """For `fold_blocks`: a block's best entries after its likely tiles are read."""

    def look(best: Neighbours, own: tuple, part: _Lists, offset: jax.Array, centres, bias) -> Neighbours:
        rows, direction = own
        read = _likely_tiles(rows.info, direction, part, centres, plan, tiling.block)
        values, slot = _compared(rows, read, part, bias, plan)
        values, tile, column = _best(values, slot, min(best.index.shape[1], plan.reach * plan.tile))
        position = part.bank.position[jnp.take_along_axis(read, tile, axis=1), column]
        return merge(best, values, position, first=tiling.mesh is None)

    return look


def _likely_tiles(
    own: TrackletInfo, direction: jax.Array, part: _Lists, centres: jax.Array, plan: _Plan, block: int
) -> jax.Array:
    """The K tiles [B, K] of each row, likeliest first; L for none."""
    kind = {"same_view": own.view, "other_camera": own.modality, "other_modality": 1 - own.modality}[plan.relation]

    def row(direction: jax.Array, kind: jax.Array) -> jax.Array:
        near = similarity(direction[None], centres)[0]
        near, tile = jax.lax.top_k(jnp.where(part.kind == kind, near[part.cell], -jnp.inf), plan.reach)
        return jnp.where(near > -jnp.inf, tile, part.kind.shape[0])

    # -2: not even empty tiles, whose kind is -1
    return jax.lax.map(lambda x: row(*x), (direction, jnp.where(own.valid, kind, -2)), batch_size=block)


def _compared(
    own: Bank, read: jax.Array, part: _Lists, bias: ViewBias | None, plan: _Plan
) -> tuple[jax.Array, jax.Array]:
    """`scores` of all pairs of a row and a tile that it reads."""
    tiles, tile = part.bank.position.shape
    # by tile, so that all its readers are multiplied at once: to gather lists row by row would cost more than products
    slot, pairs = _in_tiles(read.reshape(-1), keys=tiles, tile=READERS)

    def multiply(k: jax.Array, values: jax.Array) -> jax.Array:
        readers = jax.tree.map(lambda x: x[pairs[k] // read.shape[1]], own)
        rows = jax.tree.map(lambda x: x[read.reshape(-1)[pairs[k, 0]]], part.bank)
        fresh = scores(readers, rows, bias, relation=plan.relation, ban_same_camera=plan.ban_same_camera)
        return jax.lax.dynamic_update_slice_in_dim(values, fresh, k * READERS, axis=0)

    # values [S, T] in slots, sorted by tile; and the slot [B, K] of each pair
    values = jnp.full_like(own.prototype, -jnp.inf, shape=(pairs.size, tile))
    return jax.lax.fori_loop(0, jnp.sum(pairs[:, 0] >= 0), multiply, values), slot.reshape(read.shape)


def _best(values: jax.Array, slot: jax.Array, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The `count` largest of values [S, T] in each row's slots [B, K], with slot and column."""
    width = values.shape[1] // COLUMN_GROUP  # groups of a slot
    values = values.reshape(-1, COLUMN_GROUP)
    group = (slot[:, :, None] * width + jnp.arange(width)).reshape(slot.shape[0], -1)
    maxima = jnp.max(values, axis=1).at[group].get(mode="fill", fill_value=-jnp.inf)
    # as in `candidates.largest`: the best entries lie in the groups with the best maxima
    _, likely = jax.lax.top_k(maxima, min(count, maxima.shape[1]))
    group = jnp.take_along_axis(group, likely, axis=1)
    found = values.at[group].get(mode="fill", fill_value=-jnp.inf).reshape(slot.shape[0], -1)
    found, position = jax.lax.top_k(found, count)
    likely = jnp.take_along_axis(likely, position // COLUMN_GROUP, axis=1)
    return found, likely // width, likely % width * COLUMN_GROUP + position % COLUMN_GROUP


def _returned(table: Neighbours, tiling: Tiling) -> Neighbours:
    """The table with every row entered at the first `RETURNED` that it found."""
    size, count = table.index.shape[0], min(RETURNED, table.index.shape[1])

    def receive(best: Neighbours, own: jax.Array, part: Neighbours, offset: jax.Array) -> Neighbours:
        rows = jnp.arange(own.shape[0])
        position, present = local_position(part.index, own[0], own.shape[0])
        receiver = jnp.where(present, position, own.shape[0])
        giver = jnp.broadcast_to(offset + jnp.arange(part.index.shape[0])[:, None], receiver.shape)
        pairs = (x.reshape(-1) for x in (receiver, -part.similarity, giver))
        # by receiver, each one's most similar givers first: its list begins where searchsorted finds it
        receiver, falling, giver = jax.lax.sort(tuple(pairs), num_keys=2)
        taken = jnp.searchsorted(receiver, rows)[:, None] + jnp.arange(count)
        there = receiver.at[taken].get(mode="fill", fill_value=own.shape[0]) == rows[:, None]
        giver = giver[taken]
        known = jnp.any(giver[:, :, None] == best.index[:, None, :], axis=2)
        fresh = jnp.where(there & ~known, -falling[taken], -jnp.inf)
        both = (jnp.concatenate(pair, axis=1) for pair in ((best.similarity, fresh), (best.index, giver)))
        return merge(best, *both, first=True)  # the table's own entries are among the values

    given = jax.tree.map(lambda column: column[:, :count], table)
    return Tiling(size, tiling.mesh).fold_blocks(receive, jnp.arange(size), table, given)
