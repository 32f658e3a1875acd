"""k-reciprocal encoding and Jaccard distances with dense tables, sets and loops, in float64."""

import numpy as np


def neighbours(features, members, i, k):
    """The k nearest of row i among `members`, i first; ties to the lower index."""
    others = sorted((j for j in members if j != i), key=lambda j: (-float(features[i] @ features[j]), j))
    return [i] + others[: k - 1]


def encodings(features, modality, valid, k1, k2):
    """Dense encodings [P, P]."""
    features, size, half = features.astype(np.float64), len(features), int(np.round(k1 / 2)) + 1
    peers = [[j for j in range(size) if valid[j] and modality[j] == modality[i]] for i in range(size)]
    near = {k: [neighbours(features, peers[i], i, k) if valid[i] else [] for i in range(size)] for k in (k1, half, k2)}
    mutual = {k: [{j for j in near[k][i] if i in near[k][j]} for i in range(size)] for k in (k1, half)}
    raw = np.zeros((size, size))
    for i in np.flatnonzero(valid):
        grown = set(mutual[k1][i])
        for c in mutual[k1][i]:
            if len(mutual[half][c] & mutual[k1][i]) > 2 / 3 * len(mutual[half][c]):
                grown |= mutual[half][c]
        for j in grown:
            raw[i, j] = np.exp(-np.sum((features[i] - features[j]) ** 2))
        raw[i] /= raw[i].sum()
    return np.array([np.mean(raw[near[k2][i]], axis=0) if valid[i] else raw[i] for i in range(size)])


def distances(dense):
    """Jaccard distances [P, P] of dense encodings."""
    size = len(dense)
    out = np.ones((size, size))
    for i in range(size):
        for j in range(size):
            most = np.maximum(dense[i], dense[j]).sum()
            if most > 0:
                out[i, j] = 1.0 - np.minimum(dense[i], dense[j]).sum() / most
    return out
