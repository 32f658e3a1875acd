"""Retrieval scores of a query set against a gallery: CMC, mAP and mINP."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from hitpro_jax.kernels import retrieval

CMC_RANKS = 20
BEYOND_CMC = 99_999
_TILE = 128  # the gallery is padded to whole tiles, so that the product treats all its rows alike
_TABLE_ENTRIES = 2**24  # most entries of one call's table of matches: 64 MiB
_NONE = -1


def score(
    query_features: ArrayLike,
    gallery_features: ArrayLike,
    query_pids: ArrayLike,
    gallery_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    camera_rule: bool | str = True,
    ranking: ArrayLike | None = None,
) -> dict[str, Any]:
    """Cosine retrieval scores by the protocol of HITSZ-VCM: CMC to rank 20, mAP and mINP.

        AP_q = 1/n_q sum_k k / r_qk,   INP_q = n_q / r_q,n_q,   CMC(k) = share of queries with r_q1 <= k

    where r_q1 < ... < r_q,n_q are the ranks of the n_q true matches of query q. Features are
    L2-normalised here (a zero row stays zero). With the camera rule, gallery rows of the query's person
    AND camera leave its ranking. Ties go to the lower gallery index. A query left without a match is
    skipped and not counted. A gallery shorter than 20 holds the CMC's last value. The result depends
    neither on the order of queries nor on a block size.

    Shapes: Q queries, G gallery rows, D features.

    Args:
      query_features: [Q, D] floats, finite.
      gallery_features: [G, D] floats, finite.
      query_pids: [Q] integers, person ids.
      gallery_pids: [G] integers.
      query_camids: [Q] integers, camera ids, shared by both modalities.
      gallery_camids: [G] integers.
      camera_rule: True as above; "place" takes all gallery rows of the query's camera away, whoever they show
        (SYSU-MM01); False keeps every gallery row.
      ranking: [Q, G] gallery indices, best first, to be scored in place of the order of the features.

    Returns:
      `cmc` [20] float64 fractions; `rank1`, `rank5`, `rank10`, `rank20`, `mAP`, `mINP` in percent; and of
      each query `valid` [Q] bool, `ap` [Q] float64 fraction (NaN if invalid) and `first_hit` [Q] int64,
      the rank of the first match (0 if invalid, 99999 beyond rank 20).

    Numerics: similarities in float32, everything after the ranks in float64.
    Memory: O(block G) on the device, never Q G.

    Raises:
      ValueError: shapes that do not fit, features that are not finite, ids that are not integers, a
        ranking whose rows are not permutations, or no query with a match.

    Source: protocol as in MITML and M3-ReID, mINP as in AGW. Choice: stable ties, because with an
    unstable sort the scores of equal features depend on the machine.
    """
    query = _unit_rows("query_features", query_features)
    gallery = _unit_rows("gallery_features", gallery_features)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_features are {query.shape[1]} wide but gallery_features {gallery.shape[1]}: "
            "embed both with one encoder."
        )
    labels = _labels(
        _ids("query_pids", query_pids, len(query)),
        _ids("gallery_pids", gallery_pids, len(gallery)),
        _ids("query_camids", query_camids, len(query)),
        _ids("gallery_camids", gallery_camids, len(gallery)),
        camera_rule,
    )
    if not labels.num_matches.any():
        raise ValueError(
            f"No query of {len(query)} has a match left in the gallery of {len(gallery)} rows: "
            "check the person ids, the camera ids and camera_rule."
        )
    if ranking is None:
        return _summary(_ranks_by_features(query, gallery, labels), labels)
    return _summary(_ranks_by_ranking(_permutations(ranking, len(query), len(gallery)), labels), labels)


class _Labels(NamedTuple):
    """Who matches whom, without a table of Q x G."""

    by_person: np.ndarray  # [G] gallery indices, sorted by person, then by index
    start: np.ndarray  # [Q] the query's person is by_person[start:stop]
    stop: np.ndarray  # [Q]
    query_junk: np.ndarray  # [Q] int32, gallery rows of this value leave the query's ranking; -1: none does
    gallery_junk: np.ndarray  # [G] int32
    num_matches: np.ndarray  # [Q]

    def matches(self, query: int) -> np.ndarray:
        """Gallery indices of the query's true matches, ascending."""
        person = self.by_person[self.start[query] : self.stop[query]]
        return person[self.gallery_junk[person] != self.query_junk[query]]


def _labels(query_pids, gallery_pids, query_camids, gallery_camids, camera_rule):
    by_person = np.argsort(gallery_pids, kind="stable")
    start, stop = (np.searchsorted(gallery_pids[by_person], query_pids, side=side) for side in ("left", "right"))
    query_junk = np.full(len(query_pids), _NONE, np.int32)
    gallery_junk = np.zeros(len(gallery_pids), np.int32)
    num_matches = stop - start
    if camera_rule:
        pairs = np.stack([np.append(query_pids, gallery_pids), np.append(query_camids, gallery_camids)], axis=1)
        values, inverse = np.unique(pairs, axis=0, return_inverse=True)
        query_junk, gallery_junk = np.split(inverse.reshape(-1).astype(np.int32), [len(query_pids)])
        num_matches = num_matches - np.bincount(gallery_junk, minlength=len(values))[query_junk]
    if camera_rule == "place":
        query_junk, gallery_junk = query_camids.astype(np.int32), gallery_camids.astype(np.int32)
    return _Labels(by_person, start, stop, query_junk, gallery_junk, num_matches)


def _ranks_by_features(query, gallery, labels):
    """Yields (queries [n], ranks [n, M], 0 for none), the queries of most matches first; compiles once."""
    padding = -len(gallery) % _TILE
    gallery = jnp.asarray(np.pad(gallery, ((0, padding), (0, 0))))
    gallery_junk = jnp.asarray(np.pad(labels.gallery_junk, (0, padding), constant_values=_NONE))
    order = np.argsort(-labels.num_matches, kind="stable")
    order = order[: np.count_nonzero(labels.num_matches)]
    width = 1 << int(labels.num_matches.max() - 1).bit_length()  # a power of two, so that few sizes compile
    block = retrieval.BLOCK
    rows = block * min(-(-len(order) // block), max(1, _TABLE_ENTRIES // (width * block)))
    for first in range(0, len(order), rows):
        chunk = order[first : first + rows]
        features = np.zeros((rows, query.shape[1]), np.float32)
        junk = np.full(rows, _NONE, np.int32)
        matches = np.full((rows, width), _NONE, np.int32)
        features[: len(chunk)], junk[: len(chunk)] = query[chunk], labels.query_junk[chunk]
        for row, index in enumerate(chunk):
            matches[row, : labels.num_matches[index]] = labels.matches(index)
        ranks = retrieval.match_ranks(features, gallery, junk, gallery_junk, matches)
        yield chunk, np.asarray(ranks)[: len(chunk)]


def _ranks_by_ranking(ranking, labels):
    """As `_ranks_by_features`, query by query, in the order that the caller gives."""
    for query in np.flatnonzero(labels.num_matches):
        kept = ranking[query][labels.gallery_junk[ranking[query]] != labels.query_junk[query]]
        yield np.array([query]), 1 + np.flatnonzero(np.isin(kept, labels.matches(query)))[None]


def _summary(ranked, labels):
    """The mapping that `score` returns, from the ranks of all matches."""
    valid = labels.num_matches > 0
    ap, inp = np.full(len(valid), np.nan), np.full(len(valid), np.nan)
    first_hit = np.zeros(len(valid), np.int64)
    for queries, ranks in ranked:
        ap[queries], inp[queries], first_hit[queries] = _query_scores(ranks)
    cmc = (first_hit[valid, None] <= np.arange(1, CMC_RANKS + 1)).mean(axis=0)
    return {
        "cmc": cmc,
        **{f"rank{k}": 100 * float(cmc[k - 1]) for k in (1, 5, 10, 20)},
        "mAP": 100 * float(ap[valid].mean()),
        "mINP": 100 * float(inp[valid].mean()),
        "valid": valid,
        "ap": ap,
        "first_hit": np.where(first_hit > CMC_RANKS, BEYOND_CMC, first_hit),
    }


def _query_scores(ranks):
    """AP, INP and first rank of each row of ranks [n, M]: 0 for none, one match at least."""
    hit = ranks > 0
    ranks = np.sort(np.where(hit, ranks, np.iinfo(ranks.dtype).max), axis=1)
    count = hit.sum(axis=1)
    nth = np.arange(1, ranks.shape[1] + 1)
    precision = np.where(nth <= count[:, None], nth / ranks, 0.0)
    last = np.take_along_axis(ranks, count[:, None] - 1, axis=1)[:, 0]
    total = precision.cumsum(axis=1)[:, -1]  # in order, so that the width of the table changes no bit
    return total / count, count / last, ranks[:, 0]


def _unit_rows(name, features):
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
    norm = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))
    return (features / np.where(norm > 0, norm, 1.0)[:, None]).astype(np.float32)


def _ids(name, ids, length):
    ids = np.asarray(ids)
    if ids.shape != (length,) or ids.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be {length} integers, one a row of features, not {ids.dtype} of shape {ids.shape}."
        )
    return ids.astype(np.int64)


def _permutations(ranking, num_queries, num_gallery):
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
