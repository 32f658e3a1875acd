"""Ranked retrieval: for each query its best gallery rows, and the ranks of its true matches where there are labels.

Q queries, G gallery rows, D features, K rows wanted, M_q true matches of query q.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hitpro_jax.kernels import retrieval

# Camera rules by name; the other keys are how they were given before they had names.
RULES = {
    "none": "none",
    "same_person": "same_person",
    "same_camera": "same_camera",
    False: "none",
    True: "same_person",
    "place": "same_camera",
}
_TILE = 128  # the gallery is padded to whole tiles, so that the product treats all its rows alike
_TABLE_ENTRIES = 2**24  # most entries of one call's tables: 64 MiB each
_NONE = -1


class Retrieved(NamedTuple):
    """What a gallery holds for queries."""

    index: np.ndarray  # [Q, K] int32 gallery rows, best first; -1 for none
    similarity: np.ndarray  # [Q, K] float32 cosines of these rows; -inf for none
    ranks: np.ndarray  # [sum of M_q] int32, ranks of the true matches from 1, ascending, query after query
    num_matches: np.ndarray  # [Q] int64, M_q; 0 for all without labels
    num_gallery: int  # G

    def ranks_of(self, query: int) -> np.ndarray:
        """Ranks [M_q] of the true matches of one query, ascending."""
        stop = int(self.num_matches[: query + 1].sum())
        return self.ranks[stop - int(self.num_matches[query]) : stop]


class Ranked(NamedTuple):
    """What a gallery holds for some of the queries: n of them, M matches at most."""

    queries: np.ndarray  # [n] their rows
    ranks: np.ndarray  # [n, M] int32 of the true matches, ascending; beyond a query's M_q they mean nothing
    index: np.ndarray  # [n, K] as in `Retrieved`
    similarity: np.ndarray  # [n, K]


class Labels(NamedTuple):
    """Who matches whom and which rows leave a ranking, without a table of Q x G."""

    by_person: np.ndarray  # [G] gallery rows, sorted by person, then by row
    start: np.ndarray  # [Q] the query's person is by_person[start:stop]
    stop: np.ndarray  # [Q]
    query_junk: np.ndarray  # [Q] int32, gallery rows of this value leave the query's ranking; -1: none does
    gallery_junk: np.ndarray  # [G] int32, not negative
    num_matches: np.ndarray  # [Q] int64

    def matches(self, query: int) -> np.ndarray:
        """Gallery rows of the query's true matches, ascending."""
        person = self.by_person[self.start[query] : self.stop[query]]
        return person[self.gallery_junk[person] != self.query_junk[query]]


def retrieve(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    query_pids: ArrayLike | None = None,
    gallery_pids: ArrayLike | None = None,
    query_camids: ArrayLike | None = None,
    gallery_camids: ArrayLike | None = None,
    *,
    camera_rule: bool | str,
    top: int = 20,
) -> Retrieved:
    """The `top` gallery rows of each query by cosine, and the ranks of its true matches.

    Features are L2-normalised here; a zero row stays zero. Ties go to the lower gallery row. The result depends
    neither on the order of queries nor on a block size.

    Args:
      query_features: [Q, D] floats, finite.
      gallery_features: [G, D] floats, finite.
      query_pids: [Q] integers, person ids; None with `gallery_pids`: there are no labels, so no matches.
      gallery_pids: [G] integers.
      query_camids: [Q] integers, camera ids, shared by both modalities; only rule "none" does without.
      gallery_camids: [G] integers.
      camera_rule: "same_person" takes gallery rows of the query's person AND camera out of its ranking,
        "same_camera" all rows of the query's camera, "none" nothing; True, "place" and False mean the same three.
      top: K, rows wanted of each ranking; may exceed G, and 0 leaves them out, which is faster.

    Returns:
      The `Retrieved`; rows beyond a ranking's end are -1.

    Raises:
      ValueError: shapes that do not fit, features that are not finite, ids that are not integers, an unknown rule,
        or a rule without the ids that it needs.

    Cost: O(block G) on the device, O(Q K + sum of M_q) on the host, never Q G. Ranks and rows share one product.

    >>> found = retrieve([[1.0, 0.0]], [[0.0, 1.0], [2.0, 0.0]], camera_rule="none", top=3)
    >>> found.index.tolist(), found.similarity.tolist()
    ([[1, 0, -1]], [[1.0, 0.0, -inf]])
    """
    query, gallery = unit_features(query_features, gallery_features)
    ids = (query_pids, gallery_pids, query_camids, gallery_camids)
    labels = make_labels(*ids, len(query), len(gallery), camera_rule=camera_rule)
    index = np.full((len(query), top), _NONE, np.int32)
    similarity = np.full((len(query), top), -np.inf, np.float32)
    ranks = np.empty(labels.num_matches.sum(), np.int32)
    start = np.cumsum(labels.num_matches) - labels.num_matches
    for found in ranked(query, gallery, labels, top):
        index[found.queries], similarity[found.queries] = found.index, found.similarity
        column = np.arange(found.ranks.shape[1])
        real = column < labels.num_matches[found.queries, None]
        ranks[(start[found.queries, None] + column)[real]] = found.ranks[real]
    return Retrieved(index, similarity, ranks, labels.num_matches, len(gallery))


def retrieved_by(ranking: ArrayLike, labels: Labels) -> Retrieved:
    """Ranks of the true matches in rankings that are given; no rows are kept.

    Args:
      ranking: [Q, G] gallery rows, best first, each once.
      labels: of the same queries and gallery rows.

    Returns:
      The `Retrieved` with K = 0.

    Raises:
      ValueError: a row of `ranking` is no permutation.
    """
    num_queries, num_gallery = len(labels.start), len(labels.by_person)
    ranking = _permutations(ranking, num_queries, num_gallery)
    ranks = [np.empty(0, np.int32)]
    for query in np.flatnonzero(labels.num_matches):
        kept = ranking[query][labels.gallery_junk[ranking[query]] != labels.query_junk[query]]
        ranks.append(1 + np.flatnonzero(np.isin(kept, labels.matches(query))).astype(np.int32))
    none = np.empty((num_queries, 0), np.float32)
    return Retrieved(none.astype(np.int32), none, np.concatenate(ranks), labels.num_matches, num_gallery)


def ranked(
    query: np.ndarray,
    gallery: np.ndarray,
    labels: Labels,
    top: int = 0,
    progress: Callable[[int], None] = lambda queries: None,
) -> Iterator[Ranked]:
    """Yields what the gallery holds for the queries, some at a time: those of most matches first.

    Args:
      query: [Q, D] float32 unit rows, or zero (see `unit_features`).
      gallery: [G, D], the same.
      labels: of these queries and gallery rows.
      top: K; with 0, queries without a match are left out.
      progress: gets the number of queries that were ranked since it was last called.

    Cost: a query of at most `retrieval.COUNTED` matches is one pass over the gallery a match, any other one sort of it.
    Memory O(block G) on the device and on the host, and one chunk of tables.
    """
    padding = -len(gallery) % _TILE
    padded = jnp.asarray(np.pad(gallery, ((0, padding), (0, 0))))
    gallery_junk = jnp.asarray(np.pad(labels.gallery_junk, (0, padding), constant_values=_NONE))
    order = np.argsort(-labels.num_matches, kind="stable")
    if not top:
        order = order[: np.count_nonzero(labels.num_matches)]
    many = np.count_nonzero(labels.num_matches > retrieval.COUNTED)
    for chosen, chunks in ((order[:many], _sorted_chunks), (order[many:], _counted_chunks)):
        for found in chunks(chosen, query, padded, gallery_junk, labels, top) if len(chosen) else ():
            yield found
            progress(len(found.queries))


def _counted_chunks(order, query, gallery, gallery_junk, labels: Labels, top: int) -> Iterator[Ranked]:
    """Ranks by counting on the device; compiles once."""
    most = max(1, int(labels.num_matches[order[0]]))
    width = 1 << (most - 1).bit_length()  # a power of two, so that few sizes compile
    block = retrieval.BLOCK
    rows = block * min(-(-len(order) // block), max(1, _TABLE_ENTRIES // (max(width, top) * block)))
    for first in range(0, len(order), rows):
        chunk = order[first : first + rows]
        matches = np.full((rows, width), _NONE, np.int32)
        for row, index in enumerate(chunk):
            matches[row, : labels.num_matches[index]] = labels.matches(index)
        features, junk = _filled_up(chunk, rows, query, labels)
        found = retrieval.rank_gallery(features, gallery, junk, gallery_junk, matches, top=top)
        ranks, *tables = (np.asarray(table)[: len(chunk)] for table in found)
        ascending = np.sort(np.where(ranks > 0, ranks, np.iinfo(np.int32).max), axis=1)
        yield Ranked(chunk, ascending, *tables)


def _sorted_chunks(order, query, gallery, gallery_junk, labels: Labels, top: int) -> Iterator[Ranked]:
    """Ranks by sorting on the host, where a sort takes a tenth of the time that XLA's takes there."""
    width, block = int(labels.num_matches[order[0]]), retrieval.BLOCK
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for first in range(0, len(order), block):
            chunk = order[first : first + block]
            features, junk = _filled_up(chunk, block, query, labels)
            similarity = np.asarray(retrieval.similarities(features, gallery, junk, gallery_junk))
            ranks = np.zeros((len(chunk), width), np.int32)
            best = np.full((len(chunk), top), _NONE, np.int32)

            def sort(row: int) -> None:
                position = _by_falling(similarity[row])  # noqa: B023, all are done before the next block
                is_match = np.zeros(len(position), bool)
                is_match[labels.matches(chunk[row])] = True  # noqa: B023
                found = 1 + np.flatnonzero(is_match[position])
                ranks[row, : len(found)] = found  # noqa: B023
                best[row, : len(position)] = position[:top]  # noqa: B023

            list(pool.map(sort, range(len(chunk))))
            cosine = np.take_along_axis(similarity[: len(chunk)], np.maximum(best, 0), axis=1)
            cosine = np.where(best >= 0, cosine, np.float32(-np.inf))
            yield Ranked(chunk, ranks, np.where(cosine > -np.inf, best, _NONE), cosine)


def _filled_up(chunk: np.ndarray, rows: int, query: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Features and junk values of the queries of a chunk, filled up to `rows`."""
    features, junk = np.zeros((rows, query.shape[1]), np.float32), np.full(rows, _NONE, np.int32)
    features[: len(chunk)], junk[: len(chunk)] = query[chunk], labels.query_junk[chunk]
    return features, junk


def _by_falling(values: np.ndarray) -> np.ndarray:
    """Positions [G] of float32 values, without -0.0, from the largest on; of equal ones the lower position first."""
    bits = values.view(np.uint32)
    # ascending with falling values: all bits but the sign of what is not negative are turned over
    falling = np.where(bits >> 31, bits, bits ^ 0x7FFFFFFF).astype(np.uint64)
    # one sort of both together: far faster than a stable sort of positions by value
    both = (falling << 32) | np.arange(len(values), dtype=np.uint64)
    both.sort()
    return both.astype(np.uint32).view(np.int32)  # the lower half


def make_labels(
    query_pids: ArrayLike | None,
    gallery_pids: ArrayLike | None,
    query_camids: ArrayLike | None,
    gallery_camids: ArrayLike | None,
    num_queries: int,
    num_gallery: int,
    *,
    camera_rule: bool | str,
) -> Labels:
    """The labels of queries and gallery rows; ids and rules are as in `retrieve`."""
    rule = _rule(camera_rule)
    q_pid, g_pid = _ids_of_both("pids", query_pids, gallery_pids, num_queries, num_gallery)
    q_cam, g_cam = _ids_of_both("camids", query_camids, gallery_camids, num_queries, num_gallery)
    if rule != "none" and q_cam is None:
        raise ValueError(
            f"camera_rule {rule!r} needs camera ids: give query_camids and gallery_camids, or rule 'none'."
        )
    if rule == "same_person" and q_pid is None:
        raise ValueError(f"camera_rule {rule!r} needs person ids: give query_pids and gallery_pids, or another rule.")
    junk = np.full(num_queries, _NONE, np.int32), np.zeros(num_gallery, np.int32)
    if rule == "same_camera":
        junk = _dense(np.append(q_cam, g_cam), num_queries)
    if q_pid is None:
        nothing = np.zeros(num_queries, np.int64)
        return Labels(np.arange(num_gallery), nothing, nothing, *junk, nothing)
    # stable, so that matches are ascending
    by_person = np.argsort(g_pid, kind="stable")
    start, stop = (np.searchsorted(g_pid[by_person], q_pid, side=side) for side in ("left", "right"))
    num_matches = stop - start
    if rule != "none":
        pairs = np.stack([np.append(q_pid, g_pid), np.append(q_cam, g_cam)], axis=1)
        pair = _dense(pairs, num_queries)
        # by either rule, matches in the query's own camera leave its ranking
        num_matches = num_matches - np.bincount(pair[1], minlength=int(pair[0].max()) + 1)[pair[0]]
        junk = pair if rule == "same_person" else junk
    return Labels(by_person, start, stop, *junk, num_matches)


def unit_features(query_features: ArrayLike, gallery_features: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both tables as float32 rows of length 1, or 0 where a row is zero; checks them.

    Raises:
      ValueError: see `retrieve`.
    """
    query = _unit_rows("query_features", query_features)
    gallery = _unit_rows("gallery_features", gallery_features)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_features are {query.shape[1]} wide but gallery_features {gallery.shape[1]}: "
            "embed both with one encoder."
        )
    return query, gallery


def _unit_rows(name: str, features: Any) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(
            f"{name} must be a table of rows x features with neither empty, not of shape {features.shape}."
        )
    features = features.astype(np.promote_types(features.dtype, np.float32), copy=False)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        row, count = np.argmin(finite), np.count_nonzero(~finite)
        raise ValueError(f"{name} holds NaN or infinity in {count} rows, first in row {row}: check the encoder.")
    # float64, so that no square overflows or vanishes
    norm = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    return (features / np.where(norm > 0, norm, 1.0)[:, None]).astype(np.float32)


def _rule(camera_rule: bool | str) -> str:
    if camera_rule not in RULES:
        raise ValueError(f"unknown camera_rule {camera_rule!r}: choose one of same_person, same_camera, none.")
    return RULES[camera_rule]


def _ids_of_both(kind: str, query_ids: Any, gallery_ids: Any, num_queries: int, num_gallery: int):
    """The ids of both sides, or two times None."""
    if query_ids is None and gallery_ids is None:
        return None, None
    return _ids(f"query_{kind}", query_ids, num_queries), _ids(f"gallery_{kind}", gallery_ids, num_gallery)


def _ids(name: str, ids: Any, length: int) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.shape != (length,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be {length} integers, one a row of features, not {ids.dtype} of shape {ids.shape}."
        )
    return ids.astype(np.int64)


def _dense(values: np.ndarray, num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers from 0 on for values [Q + G] or rows [Q + G, 2], equal for equal ones: int32 [Q] and [G]."""
    _, inverse = np.unique(values, axis=0, return_inverse=True)
    query, gallery = np.split(inverse.reshape(-1).astype(np.int32), [num_queries])
    return query, gallery


def _permutations(ranking: Any, num_queries: int, num_gallery: int) -> np.ndarray:
    ranking = np.asarray(ranking)
    if ranking.shape != (num_queries, num_gallery) or ranking.dtype.kind not in "iu":
        raise ValueError(
            f"ranking must be integers of shape {(num_queries, num_gallery)}, "
            f"not {ranking.dtype} of shape {ranking.shape}."
        )
    for query, row in enumerate(ranking):
        if not np.array_equal(np.sort(row), np.arange(num_gallery)):
            raise ValueError(f"Row {query} of ranking must hold each gallery index from 0 to {num_gallery - 1} once.")
    return ranking
