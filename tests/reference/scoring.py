"""CMC, mAP, mINP and rankings once more: plain loops over a sorted list, nothing shared with the package."""

import math


def naive_scores(q_feat, g_feat, q_pid, g_pid, q_cam, g_cam, *, camera_rule=True, ranking=None, top=20):
    """The scores as fractions, or None where no query is valid."""
    queries, cmc, aps, inps = [], [0] * top, [], []
    for q in range(len(q_pid)):
        order = _order(q_feat[q], g_feat) if ranking is None else list(ranking[q])
        hits = [g_pid[g] == q_pid[q] for g in order if not _leaves(camera_rule, q, g, q_pid, g_pid, q_cam, g_cam)]
        if not any(hits):
            queries.append((False, math.nan, 0))
            continue
        precisions, found, last = [], 0, 0
        for position, hit in enumerate(hits, 1):
            if hit:
                found, last = found + 1, position
                precisions.append(found / position)
        first = hits.index(True) + 1
        for k in range(top):
            cmc[k] += first <= k + 1
        aps.append(sum(precisions) / found)
        inps.append(found / last)
        queries.append((True, aps[-1], first if first <= top else 99999))
    if not aps:
        return None
    valid, ap, first_hit = zip(*queries, strict=True)
    return {
        "cmc": [count / len(aps) for count in cmc],
        "mAP": sum(aps) / len(aps),
        "mINP": sum(inps) / len(inps),
        "valid": list(valid),
        "ap": list(ap),
        "first_hit": list(first_hit),
    }


def naive_rankings(q_feat, g_feat, q_pid, g_pid, q_cam, g_cam, *, camera_rule):
    """For each query its whole ranking, the cosines of these rows, and the ranks of its matches; ids may be None."""
    found = []
    for q in range(len(q_feat)):
        order = [g for g in _order(q_feat[q], g_feat) if not _leaves(camera_rule, q, g, q_pid, g_pid, q_cam, g_cam)]
        ranks = [] if q_pid is None else [rank for rank, g in enumerate(order, 1) if g_pid[g] == q_pid[q]]
        found.append((order, [_cosine(q_feat[q], g_feat[g]) for g in order], ranks))
    return found


def _leaves(camera_rule, q, g, q_pid, g_pid, q_cam, g_cam):
    """Whether gallery row g leaves the ranking of query q."""
    if camera_rule in (False, "none"):
        return False
    if camera_rule in (True, "same_person"):
        return g_pid[g] == q_pid[q] and g_cam[g] == q_cam[q]
    return g_cam[g] == q_cam[q]


def _order(query, gallery):
    """Gallery indices by falling cosine; `sorted` is stable, so ties stay in the gallery's order."""
    cosine = [_cosine(query, row) for row in gallery]
    return sorted(range(len(gallery)), key=lambda g: -cosine[g])


def _cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    norm = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(x) ** 2 for x in b))
    return dot / norm if norm else 0.0
