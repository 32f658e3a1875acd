"""The baselines once more, clip by clip and pair by pair, in float64: clustering, matching, losses, memories."""

from itertools import permutations
from math import exp, log

import numpy as np


def unit(x):
    return x / np.linalg.norm(x)


def dbscan(distance, eps, min_samples, valid):
    """Clusters in the order of their first core point; a border point goes to the cluster that reaches it first."""
    size = len(distance)
    near = [[j for j in range(size) if valid[i] and valid[j] and distance[i, j] <= eps] for i in range(size)]
    core = [len(row) >= min_samples for row in near]
    label, found = np.full(size, -1), 0
    for i in range(size):
        if not core[i] or label[i] >= 0:
            continue
        reach = [i]
        label[i] = found
        while reach:
            a = reach.pop(0)
            if core[a]:
                fresh = [b for b in near[a] if label[b] < 0]
                label[fresh] = found
                reach += fresh
        found += 1
    return label


def centres(bank, classes):
    return {c: unit(bank[classes == c].astype(np.float64).mean(0)) for c in sorted(set(classes)) if c >= 0}


def votes(bank, label, modality, least, camera=None):
    """Matched clusters {a: b, b: a} by the votes of their members, most first, then the most similar pair.

    With cameras, pairs of one camera have no vote.
    """
    count, best = {}, {}
    for i in range(len(bank)):
        for j in range(len(bank)):
            cosine = float(bank[i].astype(np.float64) @ bank[j])
            if camera is not None and camera[i] == camera[j]:
                continue
            if modality[i] == 0 and modality[j] == 1 and min(label[i], label[j]) >= 0 and cosine >= least:
                pair = label[i], label[j]
                count[pair] = count.get(pair, 0) + 1
                best[pair] = max(best.get(pair, -2.0), cosine)
    match = {}
    for a, b in sorted(count, key=lambda pair: (-count[pair], -best[pair])):
        if a not in match and b not in match:
            match[a], match[b] = b, a
    return match


def other_camera_cosine(bank, label, camera, a, b):
    """Of the centres of two clusters, by their pairs of different cameras; None without such a pair."""
    rows = [[bank[i].astype(np.float64) for i in range(len(bank)) if label[i] == c] for c in (a, b)]
    cosines = [
        float(bank[i].astype(np.float64) @ bank[j])
        for i in range(len(bank))
        for j in range(len(bank))
        if label[i] == a and label[j] == b and camera[i] != camera[j]
    ]
    lengths = [np.linalg.norm(sum(members) / len(members)) for members in rows]
    return sum(cosines) / len(cosines) / (lengths[0] * lengths[1]) if cosines else None


def progressive(centre, modality, likeness=None):
    """Matched clusters by trying every assignment of every round: as many possible pairs as can be, then the cheapest.

    likeness: of two clusters, None for a pair that is not possible; the cosine of their centres if it is not given.
    """
    likeness = likeness or (lambda a, b: centre[a] @ centre[b])
    sides = [[c for c in centre if modality[c] == m] for m in (1, 0)]
    few, left = sorted(sides, key=len)
    match = {}
    while few and left:
        small, large = sorted((few, left), key=len)
        found = {}
        for order in permutations(large, len(small)):
            pairs = [(a, b) for a, b in zip(small, order, strict=True) if likeness(a, b) is not None]
            found[tuple(pairs)] = -len(pairs), sum(exp(-likeness(a, b)) for a, b in pairs)
        pairs = min(found, key=found.get)
        if not pairs:
            break
        for a, b in pairs:
            one, many = (a, b) if small is few else (b, a)
            match[many] = one
            match.setdefault(one, many)
        left = [c for c in left if c not in match]
    return match


def entropy(scores, targets, others, temperature):
    """-sum_t w_t log softmax of {targets} + others; targets {class: weight}."""
    total = sum(exp(scores[c] / temperature) for c in set(targets) | set(others))
    return -sum(w * log(exp(scores[c] / temperature) / total) for c, w in targets.items())


def sum_of_means(terms):
    """terms: (part, value) of clips that have one."""
    parts = {part for part, _ in terms}
    return sum(np.mean([value for p, value in terms if p == part]) for part in parts)


def contrast(features, classes, parts, centre, owner, temperature):
    """Cross-entropy of each clip against the classes of its class's owner; a clip of class -1 has none."""
    terms = []
    for z, c, part in zip(features, classes, parts, strict=True):
        if c >= 0:
            scores = {k: z @ centre[k] for k in centre if owner[k] == owner[c]}
            terms.append((part, entropy(scores, {c: 1.0}, scores, temperature)))
    return sum_of_means(terms)


def inter_camera(features, classes, parts, centre, cluster, modality, temperature, hard):
    """CAP: classes of the own cluster share the target, against the hardest others of the modality."""
    terms = []
    for z, c, part in zip(features, classes, parts, strict=True):
        if c < 0:
            continue
        scores = {k: z @ centre[k] for k in centre if modality[k] == modality[c]}
        same_person = [k for k in scores if cluster[k] == cluster[c]]
        rivals = sorted((k for k in scores if k not in same_person), key=lambda k: -scores[k])[:hard]
        terms.append((part, entropy(scores, {k: 1.0 / len(same_person) for k in same_person}, rivals, temperature)))
    return sum_of_means(terms)


def neighbour(features, tracklet, parts, bank, candidates, share, temperature):
    """SDCL: each clip drawn to the instances nearly as similar to its own memory as the most similar one."""
    terms = []
    for z, i, part, allowed in zip(features, tracklet, parts, candidates, strict=True):
        if i < 0 or not allowed:
            continue
        likeness = {j: float(bank[i] @ bank[j]) for j in allowed}
        best = max(likeness.values())
        near = [j for j in allowed if best > 0 and likeness[j] > share * best]
        if near:
            scores = {j: z @ bank[j] for j in allowed}
            term = entropy(scores, dict.fromkeys(near, 1.0), scores, temperature)
            terms.append((part, term / (len(near) + 1)))
    return sum_of_means(terms)


def moved(centre, features, classes, momentum):
    """Centres after an update by the mean clip of each class."""
    out = dict(centre)
    for c in set(classes) - {-1}:
        mean = np.mean([z for z, k in zip(features, classes, strict=True) if k == c], axis=0)
        out[c] = unit(momentum * centre[c] + (1 - momentum) * mean)
    return out


def identity(features, proxies, label, temperature):
    scores = [[z @ unit(w) for w in proxies] for z in features]
    return np.mean(
        [entropy(s, {y: 1.0}, range(len(proxies)), temperature) for s, y in zip(scores, label, strict=True) if y >= 0]
    )


def triplet(features, label, margin):
    terms = []
    for i, y in enumerate(label):
        if y >= 0:
            own = [features[i] @ features[j] for j, other in enumerate(label) if other == y]
            rest = [features[i] @ features[j] for j, other in enumerate(label) if other not in (y, -1)]
            terms.append(max(0.0, max(rest) - min(own) + margin))
    return np.mean(terms)
