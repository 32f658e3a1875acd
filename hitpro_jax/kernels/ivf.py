"""HCPA, the approximate search: inverted lists over k-means cells, and the exact rules inside the lists that are read.

P prototypes, D features, C cells, V views, M table columns; T rows of a tile. A list holds the rows of one cell and
one modality and is cut into tiles of T rows, so that shapes are static however uneven the cells are: P / T + 2 C tiles
hold everything. A tile is also what asks: its rows are alike, so they read the same lists, as one dense product.
Source: the inverted file of faiss; Choice: reading by tiles, because gathering lists for every single row would cost
more than the products.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from hitpro_jax.kernels.candidates import (
    Bank,
    Group,
    Neighbours,
    ViewBias,
    empty_table,
    merge,
    refuse_unknown,
    scores,
    similarity,
    widened,
)
from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.rows import each_part, fold_blocks, padded
from hitpro_jax.kernels.segments import segment_mean

MODALITIES = 2
SAMPLE, ROUNDS = 32, 6  # rows a cell that k-means sees, and its iterations: more changed recall by less than 0.01
TILE = 8, 128  # fewest and most rows


class _Lists(NamedTuple):
    """Rows in tiles: of each row what the scores need, and its cell. A tile's first row is valid if any is."""

    bank: Bank
    cell: jax.Array  # [L] int32


def nearest(
    prototypes: jax.Array,
    group: Group,
    *,
    relation: str,
    count: int,
    num_views: int,
    cells: int = 0,
    probes: int = 8,
    block: int = 512,
    bias: ViewBias | None = None,
    level: jax.Array | None = None,
    ban_same_camera: bool = False,
    mesh: Mesh | None = None,
) -> Neighbours:
    """`mining.nearest` among the candidates of the likeliest cells alone; what is found has its exact similarity.

    Cells are k-means cells of r_i = unit(p_i - mean of p over i's view). Choice: the view's mean is taken out because
    it says where, not who: with it, cells would part the cameras, and one person's tracklets with them.
    A tile of rows reads `probes` lists (on average over their lengths) of the modality in question: those whose
    centre is nearest to any of the tile's rows.

    Args:
      prototypes, group, relation, count, block, bias, level, ban_same_camera: see `mining.nearest`.
      num_views: V, static.
      cells: C, static; 0: sqrt(P), which keeps placing the rows cheaper than comparing them.
      probes: lists read, static; as many as cells: all of them, which is exact, but for the order of equally similar
        candidates.
      mesh: rows are cut over its devices. Every device keeps the lists of its own rows, and these go round the ring:
        nothing but centres [C, D] and view means [V, D] is held by all.

    Returns:
      Neighbours [P, M], as of `mining.nearest`. Deterministic.

    Memory on each of n devices: O(P D / n + C T D + P M / n). Time: 2 P C D flops to place the rows, about
    P probes (P / 2 C + n T) 2 D to compare them: with many devices few rows are left to a list of each, and tiles
    of at least 8 rows are read almost empty.

    >>> group = Group(*jnp.array([[0, 0, 0, 1], [1, 1, 2, 2], [0, 0, 1, 2]]), jnp.ones(4, bool))
    >>> nearest(jnp.eye(4), group, relation="other_camera", count=3, num_views=3, probes=9).index.tolist()
    [[2, -1, -1], [2, -1, -1], [0, 1, -1], [-1, -1, -1]]
    """
    chex.assert_rank(prototypes, 2)
    refuse_unknown(relation)
    size = prototypes.shape[0]
    if size == 0:
        return empty_table(0, count)
    cells = min(cells or round(size**0.5), size)
    level = jnp.zeros(size, jnp.float32) if level is None else level
    prototypes, level, group = padded((prototypes, level, group), mesh.size if mesh else 1)
    bank = Bank(prototypes, level, group, jnp.arange(level.shape[0]))
    means, _ = segment_mean(prototypes, jnp.where(group.valid, group.view, -1), num_segments=num_views)
    directions = unit(prototypes - means[group.view])
    centres = cell_centres(directions, group.valid, cells=cells, block=block, mesh=mesh)
    lists, slot = _lists(bank, nearest_cell(directions, centres, block=block, mesh=mesh), cells, mesh)
    tile, tiles = _tiling(level.shape[0], cells, mesh)
    reach = tiles if probes >= cells else min(tiles, -(-probes * tiles // (MODALITIES * cells)))

    def probe(best, own: _Lists, part: _Lists, offset: jax.Array, means, centres, bias) -> Neighbours:
        def look() -> Neighbours:
            chosen = _likely_tiles(own.bank, part, means, centres, tiles, reach, relation)
            near = jax.tree.map(lambda x: x.reshape(tiles, tile, *x.shape[1:])[chosen], part.bank)
            near = jax.tree.map(lambda x: x.reshape(reach * tile, *x.shape[2:]), near)
            values = scores(own.bank, near, bias, relation=relation, ban_same_camera=ban_same_camera)
            return merge(best, values, near.position, first=mesh is None)

        return jax.lax.cond(own.bank.group.valid[0], look, lambda: best)  # room for tiles that nothing filled

    none = empty_table(lists.cell.shape[0], min(count, size))
    table = fold_blocks(probe, lists, none, lists, means, centres, bias, block=tile, mesh=mesh)
    table = each_part(lambda slot, *table: Neighbours(*(x[slot] for x in table)), (slot, *table), mesh=mesh)
    index = jnp.where(group.valid[:, None], table.index, -1)  # rows that are not valid lie in no list
    table = Neighbours(index, jnp.where(index >= 0, table.similarity, -jnp.inf))
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


def nearest_cell(
    directions: jax.Array, centres: jax.Array, *, block: int = 512, mesh: Mesh | None = None
) -> jax.Array:
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


def tile_rows(rows: int, cells: int) -> int:
    """T for `rows` rows of a device: a power of two, about two tiles a list.

    >>> tile_rows(100_000, 316)
    64
    """
    tile, most = TILE
    while tile < most and 4 * tile * MODALITIES * cells <= rows:
        tile *= 2
    return tile


def _tiling(size: int, cells: int, mesh: Mesh | None) -> tuple[int, int]:
    """Rows of a tile and number of tiles of a device, with room for one unfilled tile in every list."""
    rows = size // (mesh.size if mesh else 1)
    tile = tile_rows(rows, cells)
    return tile, rows // tile + MODALITIES * cells


def _lists(bank: Bank, cell: jax.Array, cells: int, mesh: Mesh | None) -> tuple[_Lists, jax.Array]:
    """Every device's rows in tiles, and where each row went [P]."""
    tile, tiles = _tiling(cell.shape[0], cells, mesh)
    lists = MODALITIES * cells

    def arrange(bank: Bank, cell: jax.Array) -> tuple[_Lists, jax.Array]:
        group, rows = bank.group, jnp.arange(cell.shape[0])
        key = jnp.where(group.valid, cell * MODALITIES + group.modality, lists)
        order = jnp.argsort(key)
        lengths = jnp.bincount(key, length=lists + 1)
        tiles_before, rows_before = (jnp.cumsum(x) - x for x in (-(-lengths // tile), lengths))
        place = tiles_before[key[order]] * tile + rows - rows_before[key[order]]
        slot = jnp.zeros_like(rows).at[order].set(jnp.where(key[order] < lists, place, tiles * tile))
        source = jnp.full_like(rows, -1, shape=tiles * tile).at[slot].set(rows, mode="drop")
        laid = jax.tree.map(lambda x: x[source], _Lists(bank, cell))
        valid = laid.bank.group.valid & (source >= 0)
        return laid._replace(bank=laid.bank._replace(group=laid.bank.group._replace(valid=valid))), slot

    return each_part(arrange, (bank, cell), mesh=mesh)


def _likely_tiles(
    own: Bank, part: _Lists, means: jax.Array, centres: jax.Array, tiles: int, reach: int, relation: str
) -> jax.Array:
    """The `reach` tiles [reach] that the rows of one tile read."""
    near = similarity(unit(own.prototype - means[own.group.view]), centres)
    near = jnp.max(jnp.where(own.group.valid[:, None], near, -jnp.inf), axis=0)
    cell, modality, valid = (
        x.reshape(tiles, -1)[:, 0] for x in (part.cell, part.bank.group.modality, part.bank.group.valid)
    )
    own_modality = modality == own.group.modality[0]
    wanted = valid & (~own_modality if relation == "other_modality" else own_modality)
    return jax.lax.top_k(jnp.where(wanted, near[cell], -jnp.inf), reach)[1]
