"""Retrieval scores of a query set against a gallery: CMC, mAP and mINP, from the ranks of the true matches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hitpro_jax.scoring import ranks
from hitpro_jax.scoring.ranks import Retrieved

CMC_RANKS = 20
BEYOND_CMC = 99_999
_TABLE_ENTRIES = 2**22  # entries of the tables of ranks that are summed at once


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
    progress: Callable[[int], None] = lambda queries: None,
) -> dict[str, Any]:
    """Cosine retrieval scores by the protocol of HITSZ-VCM: CMC to rank 20, mAP and mINP.

        AP_q = 1/n_q sum_k k / r_qk,   INP_q = n_q / r_q,n_q,   CMC(k) = share of queries with r_q1 <= k

    where r_q1 < ... < r_q,n_q are the ranks of the n_q true matches of query q. Rankings, ties and camera rules are
    those of `ranks.retrieve`. A query left without a match is skipped and not counted.
    Q queries, G gallery rows, D features.

    Args:
      query_features: [Q, D] floats, finite.
      gallery_features: [G, D] floats, finite.
      query_pids: [Q] integers, person ids.
      gallery_pids: [G] integers.
      query_camids: [Q] integers, camera ids, shared by both modalities.
      gallery_camids: [G] integers.
      camera_rule: "same_person", "same_camera" (SYSU-MM01) or "none"; True, "place" and False mean the same three.
      ranking: [Q, G] gallery rows, best first, to be scored instead of the order of the features.
      progress: gets the number of queries that were ranked since it was last called; those without a match are not.

    Returns:
      The mapping of `scores_of`.

    Raises:
      ValueError: shapes that do not fit, features that are not finite, ids that are not integers, a
        ranking whose rows are not permutations, or no query with a match.

    Choice: stable ties, because with an unstable sort the scores of equal features depend on the machine.

    Source: protocol as in MITML and M3-ReID, mINP as in AGW.

    Cost: see `ranks.ranked`; ranks are summed some queries at a time, so that memory is never Q G.
    """
    ids = (query_pids, gallery_pids, query_camids, gallery_camids)
    query, gallery = ranks.unit_features(query_features, gallery_features)
    labels = ranks.make_labels(*map(np.asarray, ids), len(query), len(gallery), camera_rule=camera_rule)
    if ranking is not None:
        return scores_of(ranks.retrieved_by(ranking, labels))
    tables = ((found.queries, found.ranks) for found in ranks.ranked(query, gallery, labels, progress=progress))
    return _scores(labels.num_matches, len(gallery), tables)


def scores_of(retrieved: Retrieved) -> dict[str, Any]:
    """Scores from the ranks of the true matches, in float64.

    Args:
      retrieved: with labels; its rows need not be there.

    Returns:
      `cmc` [20] fractions, of which a gallery shorter than 20 repeats the last; `rank1`, `rank5`, `rank10`, `rank20`,
      `mAP`, `mINP` in percent; and of each query `valid` [Q] bool, `ap` [Q] fraction (NaN if invalid) and
      `first_hit` [Q] int64, the rank of the first match (0 if invalid, 99999 beyond rank 20).

    Raises:
      ValueError: no query has a match.
    """
    return _scores(retrieved.num_matches, retrieved.num_gallery, _tables(retrieved))


def _scores(
    num_matches: np.ndarray, num_gallery: int, tables: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """The mapping of `scores_of`, from queries [n] and their ranks [n, M], ascending, in turn."""
    valid = num_matches > 0
    if not valid.any():
        raise ValueError(
            f"No query of {len(valid)} has a match left in the gallery of {num_gallery} rows: "
            "check the person ids, the camera ids and camera_rule."
        )
    ap, inp = np.full(len(valid), np.nan), np.full(len(valid), np.nan)
    first_hit = np.zeros(len(valid), np.int64)
    for queries, table in tables:
        step = max(1, _TABLE_ENTRIES // table.shape[1])
        for some, part in ((queries[i : i + step], table[i : i + step]) for i in range(0, len(queries), step)):
            ap[some], inp[some], first_hit[some] = _query_scores(part, num_matches[some])
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


def _tables(retrieved: Retrieved) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields valid queries [n] and their ranks [n, M], ascending; those of most matches first."""
    count = retrieved.num_matches
    start = np.cumsum(count) - count
    order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
    first = 0
    while first < len(order):
        most = int(count[order[first]])
        queries = order[first : first + max(1, _TABLE_ENTRIES // most)]
        column = np.arange(most)
        real = column < count[queries, None]
        yield queries, retrieved.ranks[np.where(real, start[queries, None] + column, 0)]
        first += len(queries)


def _query_scores(ranks: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AP, INP and first rank of each row of ranks [n, M], of which the first `count` [n] are real."""
    nth = np.arange(1, ranks.shape[1] + 1)
    real = nth <= count[:, None]
    precision = np.where(real, nth / np.where(real, ranks, 1), 0.0)
    last = np.take_along_axis(ranks, count[:, None] - 1, axis=1)[:, 0]
    total = precision.cumsum(axis=1)[:, -1]  # in order, so that the width of the table changes no bit
    return total / count, count / last, ranks[:, 0]
