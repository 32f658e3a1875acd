"""ICTP and HCPA, pair by pair. Positives are a dense [P, P] weight matrix, ambiguous ones a list of sets."""

from math import ceil, exp, inf, sqrt

import numpy as np

ROUNDING = 1e-6


def unit(x):
    norm = sqrt(sum(float(v) ** 2 for v in x))
    return np.array([float(v) / norm if norm > 0 else 0.0 for v in x])


def segment_mean(features, segment_ids, num_segments, weights=None):
    means = np.zeros((num_segments,) + features.shape[1:])
    totals = np.zeros(num_segments)
    for s in range(num_segments):
        for i, segment in enumerate(segment_ids):
            if segment == s:
                a = 1.0 if weights is None else float(weights[i])
                means[s] += a * features[i].astype(np.float64)
                totals[s] += a
        if totals[s] > 0:
            means[s] /= totals[s]
    return means, totals


def aggregate_parts(parts, part_mask, mode, temperature):
    prototypes, reliability = np.zeros((parts.shape[0], parts.shape[2])), np.zeros(parts.shape[0])
    for i in range(parts.shape[0]):
        used = [unit(u) for u, there in zip(parts[i], part_mask[i]) if there]
        if not used:
            continue
        centre = unit(sum(used))
        agreement = [float(u @ centre) for u in used]
        reliability[i] = sum(agreement) / len(used)
        a = [1.0] * len(used) if mode == "uniform" else [exp(g / temperature) for g in agreement]
        prototypes[i] = unit(sum(w * u for w, u in zip(a, used)))
    return prototypes, reliability


def momentum_update(prototypes, features, index, momentum):
    out = prototypes.astype(np.float64).copy()
    for i in range(len(prototypes)):
        clips = [features[b].astype(np.float64) for b in range(len(index)) if index[b] == i]
        if clips:
            out[i] = unit(momentum * prototypes[i].astype(np.float64) + (1 - momentum) * sum(clips) / len(clips))
    return out


def related(w, i, j, relation, ban_same_camera=False):
    if i == j or not (w.valid[i] and w.valid[j]):
        return False
    if relation == "same_view":
        return w.modality[i] == w.modality[j] and w.camera[i] == w.camera[j]
    if relation == "other_camera":
        return w.modality[i] == w.modality[j] and w.camera[i] != w.camera[j]
    return w.modality[i] != w.modality[j] and not (ban_same_camera and w.camera[i] == w.camera[j])


def cosines(features):
    size = len(features)
    x = features.astype(np.float64)
    return np.array([[float(sum(x[i] * x[j])) for j in range(size)] for i in range(size)]).reshape(size, size)


def ranked(w, similarity, relation, limit, ban_same_camera=False):
    """For each row the candidates, best first, at most `limit`."""
    size = len(w.modality)
    table = []
    for i in range(size):
        near = [j for j in range(size) if related(w, i, j, relation, ban_same_camera)]
        table.append(sorted(near, key=lambda j: (-similarity[i, j], j))[:limit])
    return table


def view_centres(w, prior):
    x, out = w.prototypes.astype(np.float64), []
    for i in range(len(x)):
        view = [x[j] for j in range(len(x)) if w.valid[j] and w.view[j] == w.view[i]]
        peers = [x[j] for j in range(len(x)) if w.valid[j] and w.modality[j] == w.modality[i]]
        mean = sum(peers) / len(peers) if peers else 0.0 * x[i]
        out.append((sum(view) + prior * mean) / (len(view) + prior))
    return np.array(out)


def direction_from(features, centre):
    rest = features - centre
    return np.array([unit(row) if row @ row > 1e-12 else 0.0 * row for row in rest])


def part_threshold(w, parts, part_mask, centre, quantile):
    similar, half = [[], []], parts.shape[1] // 2
    for i in np.flatnonzero(w.valid):
        halves = [
            [unit(u) for u, there in zip(parts[i, cut], part_mask[i, cut]) if there]
            for cut in (slice(0, half), slice(half, None))
        ]
        if all(halves):
            first, second = (unit(unit(sum(half)) - centre[i]) for half in halves)
            similar[w.modality[i]].append(first @ second)
    return [np.quantile(found, quantile, method="inverted_cdf") if found else inf for found in similar]


def stranger_threshold(w, bins, share):
    """Pair by pair of each view, in the same bins."""
    found = []
    for m in range(2):
        rows = [i for i in range(len(w.valid)) if w.modality[i] == m]
        similarity = cosines(w.prototypes)
        slots = [int((similarity[i, j] + 1) / 2 * bins) for i in rows for j in rows if related(w, i, j, "same_view")]
        slots = sorted(min(max(slot, 0), bins - 1) for slot in slots)
        median = slots[(len(slots) - 1) // 2] if slots else bins
        higher = [
            t
            for t in range(median + 1, bins)
            if 1 + sum(s <= 2 * median - t for s in slots) <= share * sum(s >= t for s in slots)
        ]
        found.append(min(higher) * 2 / bins - 1 if higher else inf)
    return found


def look_alikes_without_halves(w, bins, shares, count):
    """Two passes: each row with the mean of those that the first bar names, and the bar of these."""
    named = same_view_ambiguity(w, stranger_threshold(w, bins, shares[0]), rho=0.0, rule="statistic", count=count)
    x = w.prototypes.astype(np.float64)
    smooth = np.array([unit(x[i] + x[near].mean(0)) if near else x[i] for i, near in enumerate(named)])
    return smooth, stranger_threshold(w._replace(prototypes=smooth), bins, shares[1])


def unbias_cameras(w, similarity, mode):
    if mode == "none":
        return similarity
    size = len(w.modality)
    corrected = similarity.copy()
    pairs = {}
    for i in range(size):
        for j in range(size):
            if related(w, i, j, "other_camera"):
                key = (w.modality[i], w.camera[i], w.camera[j])
                pairs.setdefault(key, []).append(float(similarity[i, j]))
    mean = {key: sum(v) / len(v) for key, v in pairs.items()}
    variance = {key: sum((s - mean[key]) ** 2 for s in v) / len(v) for key, v in pairs.items()}
    for i in range(size):
        for j in range(size):
            if not related(w, i, j, "other_camera"):
                continue
            here = (w.modality[i], w.camera[i], w.camera[j])
            keys = [key for key in pairs if key[0] == w.modality[i]]
            total = sum(len(pairs[key]) for key in keys)
            mu = sum(len(pairs[key]) * mean[key] for key in keys) / total
            sigma = sqrt(sum(len(pairs[key]) * variance[key] for key in keys) / total)
            factor = 1.0
            if mode == "zscore" and variance[here] > 1e-12:
                factor = sigma / sqrt(variance[here])
            corrected[i, j] = (similarity[i, j] - mean[here]) * factor + mu
    return corrected


def thresholds(w, similarity, table, kappa, ema, previous):
    theta = []
    for m in range(2):
        best = [similarity[i, near[0]] for i, near in enumerate(table) if near and w.modality[i] == m]
        old = None if previous is None or not np.isfinite(previous[m]) else float(previous[m])
        if not best:
            theta.append(inf if old is None else old)
            continue
        mean = sum(best) / len(best)
        fresh = mean + kappa * sqrt(sum((b - mean) ** 2 for b in best) / len(best))
        theta.append(fresh if old is None else ema * old + (1 - ema) * fresh)
    return theta


def bar_of(best, theta, rule, rho, fixed):
    relative = rho * best if best > 0 else inf
    return {"relative": relative, "statistic": theta, "both": max(relative, theta), "fixed": fixed}[rule]


def weigh(i, accepted, similarity, kind, temperature, bar, votes, reliability):
    """[(j, weight)] of the accepted candidates of i, best first."""
    if not accepted:
        return []
    if kind == "hard":
        accepted = accepted[:1]
    raw = []
    for j in accepted:
        value = 1.0  # uniform and hard
        if kind == "softmax":
            value = exp(similarity[i, j] / temperature)
        elif kind == "margin":
            value = max(similarity[i, j] - bar, 0.0) + 1e-3
        elif kind == "vote":
            value = 1.0 + votes[i, j]
        if reliability is not None:
            value *= float(reliability[i]) * float(reliability[j])
        raw.append(value)
    return [(j, r / sum(raw)) for j, r in zip(accepted, raw)]


def within_modality(w, options, *, rho, kappa, previous=None, reliability=None):
    """Stage 1 with `WithinOptions`; block and the schedules in them are not read."""
    size = len(w.modality)
    similarity = unbias_cameras(w, cosines(w.prototypes), options.camera_bias)
    table = ranked(w, similarity, "other_camera", options.neighbours)
    if options.balance:
        similarity, table = balanced(similarity, table, options.balance)
    theta = thresholds(w, similarity, table, kappa, options.ema, previous)

    near = [set(row[:20]) for row in table]
    votes = {(i, j): len(near[i] & near[j]) for i in range(size) for j in range(size)}

    weight, ignore = np.zeros((size, size)), []
    for i in range(size):
        accepted, unsure = [], []
        best = similarity[i, table[i][0]] if table[i] else -inf
        bar = bar_of(best, theta[w.modality[i]], options.rule, rho, options.fixed)
        for position, j in enumerate(table[i]):
            nearer = [k for k in table[i][:position] if w.camera[k] == w.camera[j]]
            fits = similarity[i, j] >= bar - ROUNDING
            if fits and len(nearer) < options.per_camera and i in table[j][: options.reciprocity]:
                accepted.append(j)
            elif similarity[i, j] >= bar - options.band - ROUNDING:
                unsure.append(j)
        for j, a in weigh_kept(i, accepted, similarity, options, bar, votes, reliability):
            weight[i, j] = a
        ignore.append(set(unsure[: options.ambiguous]))
    return weight, ignore, theta


def weigh_kept(i, accepted, similarity, options, bar, votes, reliability):
    kept = accepted[: options.positives]
    return weigh(i, kept, similarity, options.weighting, options.temperature, bar, votes, reliability)


def smoothed(prototypes, within):
    x = prototypes.astype(np.float64)
    return np.array([unit(x[i] + sum(within[i, j] * x[j] for j in range(len(x)))) for i in range(len(x))])


def without_modality_mean(w, q):
    rows = []
    for i in range(len(q)):
        peers = [q[j] for j in range(len(q)) if w.valid[j] and w.modality[j] == w.modality[i]]
        rows.append(unit(q[i] - sum(peers) / len(peers)) if peers else q[i])
    return np.array(rows).reshape(q.shape)


def balanced(similarity, table, count):
    """Similarities of all pairs, and the same tables in the new order."""
    level = {i: np.mean([similarity[i, j] for j in near[:count]]) for i, near in enumerate(table) if near}
    overall = sum(level.values()) / len(level) if level else 0.0
    corrected = similarity.copy()
    for i, mine in level.items():
        for j, theirs in level.items():
            corrected[i, j] -= (mine + theirs) / 2 - overall
    return corrected, [sorted(near, key=lambda j: (-corrected[i, j], j)) for i, near in enumerate(table)]


def across_modalities(w, within, options, *, rho, kappa, previous=None, direct=False, reliability=None):
    """Stage 2 with `AcrossOptions`; `within` is the dense weight matrix of stage 1."""
    size = len(w.modality)
    within = np.zeros((size, size)) if direct else within
    q = smoothed(w.prototypes, within)
    similarity = cosines(without_modality_mean(w, q) if options.debias == "mean" else q)
    table = ranked(w, similarity, "other_modality", options.neighbours, options.ban_same_camera)
    if options.debias == "balanced_knn":
        similarity, table = balanced(similarity, table, options.reciprocity)
    theta = thresholds(w, similarity, table, kappa, options.ema, previous)
    stage1 = [{j for j in range(size) if within[i, j] > 0} for i in range(size)]

    near = [set(row[:20]) for row in table]
    votes = {(i, j): len(near[i] & stage1[j]) for i in range(size) for j in range(size)}

    def home(i, j):
        b = table[j][0]
        return b == i or b in stage1[i] or i in stage1[b] or bool(stage1[i] & stage1[b])

    weight, ignore = np.zeros((size, size)), []
    for i in range(size):
        accepted, unsure = [], []
        best = similarity[i, table[i][0]] if table[i] else -inf
        bar = bar_of(best, theta[w.modality[i]], options.rule, rho, options.fixed)
        for j in table[i]:
            fits = similarity[i, j] >= bar - ROUNDING and i in table[j][: options.reciprocity]
            if fits and (direct or not options.cycle or home(i, j)):
                accepted.append(j)
            elif similarity[i, j] >= bar - options.band - ROUNDING:
                unsure.append(j)
        kept = weigh_kept(i, accepted, similarity, options, bar, votes, reliability)
        total = {}
        for j, a in kept:
            total[j] = total.get(j, 0.0) + a
        for j, a in kept:
            for k in sorted(stage1[j]):
                if not (options.ban_same_camera and w.camera[k] == w.camera[i]):
                    total[k] = total.get(k, 0.0) + a * within[j, k]
        top = sorted(total.items(), key=lambda item: -item[1])[: options.positives]
        for j, a in top:
            weight[i, j] = a / sum(v for _, v in top)
        ignore.append(set(unsure[: options.ambiguous]))
    return weight, ignore, theta


def same_view_ambiguity(w, threshold, *, rho, rule="both", fixed=0.5, count=5):
    similarity = cosines(w.prototypes)
    if rule != "statistic":  # none yet: the relative bar decides
        threshold = [theta if np.isfinite(theta) else -inf for theta in threshold]
    out = []
    for i, near in enumerate(ranked(w, similarity, "same_view", len(w.modality))):
        best = similarity[i, near[0]] if near else -inf
        bar = bar_of(best, threshold[w.modality[i]], rule, rho, fixed)
        out.append([j for j in near if similarity[i, j] >= bar - ROUNDING][:count])
    return out


def read_lists(w, centres, num_views, relation, share, tile):
    """The rows j that each row i compares itself with: those in the lists which the inverted-file search reads.

    A list holds the rows of one cell and one modality (same_view: one view), in order, and is cut into tiles; a row
    reads whole tiles of the modality in question, those of the cells nearest to itself first, so many as `share` of
    all lists have on average.
    """
    rows = [i for i in range(len(w.valid)) if w.valid[i]]
    kind, kinds = (w.view, num_views) if relation == "same_view" else (w.modality, 2)
    means, _ = segment_mean(w.prototypes, np.where(w.valid, w.view, -1), num_views)
    near = np.array([unit(w.prototypes[i] - means[w.view[i]]) @ centres.T for i in range(len(w.valid))])
    tiles = []
    for cell in range(len(centres)):
        for k in range(kinds):
            members = [i for i in rows if np.argmax(near[i]) == cell and kind[i] == k]
            tiles += [(cell, k, members[start : start + tile]) for start in range(0, len(members), tile)]
    reach = ceil(share * (len(w.valid) // tile + kinds * len(centres)) / kinds)
    read = {i: set() for i in range(len(w.valid))}
    for i in rows:
        wanted = [t for t in tiles if (t[1] == kind[i]) != (relation == "other_modality")]
        wanted.sort(key=lambda t: -near[i][t[0]])  # stable: tiles of one cell stay in order
        read[i] = {j for t in wanted[:reach] for j in t[2]}
    return read


def returned(similarity, table, count):
    """Table rows [j, ..], best first, each with the best of those rows too that have it among their first `count`."""
    out = []
    for j, own in enumerate(table):
        givers = [i for i, near in enumerate(table) if j in near[:count]]
        givers = sorted(givers, key=lambda i: (-similarity[i, j], i))[:count]
        out.append(sorted(set(own) | set(givers), key=lambda i: (-similarity[j, i], i)))
    return out
