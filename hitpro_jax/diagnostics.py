"""What a refresh found, in numbers: person ids may enter here and in the evaluator, and nowhere else.

Without ids (an owner of unlabelled video) every figure is there but precision and recall. NumPy, on the host.
N tracklets, K positives, V views.
"""

import numpy as np


def describe(
    memory,
    before,
    modality: np.ndarray,
    camera: np.ndarray,
    view: np.ndarray,
    pids: np.ndarray | None,
    ban_same_camera: bool = False,
) -> dict[str, float]:
    """Slash-named figures of one refresh.

    Args:
      memory: the method's memory after the refresh (see `ClusterMemory`), NumPy leaves; padding rows behind the N
        tracklets are left out.
      before: the memory just before it; None at the first refresh, then drift and stability are left out.
      modality, camera, view: int [N].
      pids: int [N], or None if there are no labels.
      ban_same_camera: as stage 2 was told, for what there was to find.
    """
    size = len(modality)
    bank = memory.prototypes[:size]
    figures = {
        "bank/reliability": float(memory.reliability[:size].mean()),
        **view_similarities(bank, modality, camera, view),
    }
    if before is not None:
        figures["bank/drift"] = float(1.0 - (bank * before.prototypes[:size]).sum(1).mean())
    for stage, prefix in _PREFIX.items():
        index = getattr(memory, stage).index[:size]
        figures |= {f"{prefix}/{name}": value for name, value in positives(index).items()}
        for name, value in zip(_DIRECTIONS[stage], getattr(memory, stage).threshold, strict=True):
            figures[f"{prefix}/threshold_{name}"] = float(value)
        if before is not None:
            figures[f"{prefix}/stability"] = overlap(index, getattr(before, stage).index[:size])
        if pids is not None:
            rivals = candidates(stage, modality, camera, pids, ban_same_camera)
            figures |= {f"{prefix}/{name}": value for name, value in quality(index, pids, rivals).items()}
    if pids is not None:
        figures["align/cross/twin_share"] = twin_share(memory.across.index[:size], camera, pids)
        rivals = candidates("same_view", modality, camera, pids)
        figures |= {
            f"align/same_view/{name}": value for name, value in quality(memory.same_view[:size], pids, rivals).items()
        }
    if hasattr(memory, "label"):
        figures |= {f"clusters/{name}": value for name, value in clusters(memory.label[:size], pids).items()}
    return figures


def clusters(label: np.ndarray, pids: np.ndarray | None) -> dict[str, float]:
    """Number of clusters, share of tracklets in none, and purity: how many are of their cluster's commonest person.

    >>> clusters(np.array([0, 0, 0, 1, -1]), np.array([7, 7, 8, 8, 8]))
    {'number': 2.0, 'outliers': 0.2, 'purity': 0.75}
    """
    there = label >= 0
    figures = {"number": float(len(np.unique(label[there]))), "outliers": float((~there).mean())}
    if pids is not None:
        pairs, counts = np.unique(np.stack([label, pids], 1)[there], axis=0, return_counts=True)
        commonest = np.zeros(label.max(initial=-1) + 1, np.int64)
        np.maximum.at(commonest, pairs[:, 0], counts)
        figures["purity"] = _ratio(commonest.sum(), there.sum())
    return figures


_PREFIX = {"within": "align/within", "across": "align/cross"}  # stage to figures
_DIRECTIONS = {"within": ("rgb", "ir"), "across": ("rgb_to_ir", "ir_to_rgb")}


def positives(index: np.ndarray) -> dict[str, float]:
    """Positives per tracklet, share of tracklets with none, and share of positives that hold both ways.

    >>> positives(np.array([[1, 2], [0, -1], [-1, -1]]))
    {'per_tracklet': 1.0, 'share_none': 0.3333333333333333, 'reciprocal': 0.6666666666666666}
    """
    there = index >= 0
    back = (index[index] == np.arange(len(index))[:, None, None]).any(-1) & there
    return {
        "per_tracklet": float(there.sum(1).mean()),
        "share_none": float((~there.any(1)).mean()),
        "reciprocal": _ratio(back.sum(), there.sum()),
    }


def overlap(index: np.ndarray, before: np.ndarray) -> float:
    """Stability: positives that were there before, over all of both refreshes (Jaccard); 0 if there are none."""
    common = ((index[:, :, None] == before[:, None]) & (index >= 0)[:, :, None]).any(-1).sum()
    return _ratio(common, (index >= 0).sum() + (before >= 0).sum() - common)


def candidates(
    stage: str, modality: np.ndarray, camera: np.ndarray, pids: np.ndarray, ban_same_camera: bool = False
) -> np.ndarray:
    """How many true positives each tracklet could have, int [N]: same person, and a legal candidate of the stage."""

    def same(*columns):
        _, inverse, counts = np.unique(np.stack(columns, 1), axis=0, return_inverse=True, return_counts=True)
        return counts[inverse.ravel()]

    if stage == "same_view":
        return same(pids, modality, camera) - 1
    if stage == "across" and ban_same_camera:
        return same(pids) - same(pids, modality) - same(pids, camera) + same(pids, modality, camera)
    if stage == "across":
        return same(pids) - same(pids, modality)
    return same(pids, modality) - same(pids, modality, camera)


def quality(index: np.ndarray, pids: np.ndarray, possible: np.ndarray | None) -> dict[str, float]:
    """Precision of the entries of a table [N, K], their recall, the share of tracklets with at least one true positive
    among those that have one to find, and that of tracklets with a (false) one among those that have none to find.
    0 where there is nothing to count.
    """
    there = index >= 0
    true = there & (pids[index] == pids[:, None])
    found = {"precision": _ratio(true.sum(), there.sum())}
    if possible is not None:
        found["recall"] = _ratio(true.sum(), possible.sum())
        found["recall_any"] = _ratio((true.any(1) & (possible > 0)).sum(), (possible > 0).sum())
        found["false_any"] = _ratio((there.any(1) & (possible == 0)).sum(), (possible == 0).sum())
    return found


def twin_share(index: np.ndarray, camera: np.ndarray, pids: np.ndarray) -> float:
    """Share of cross-modality positives that are of the own person and the own camera.

    On BUPTCampus these two are the same moments pixel by pixel (or another track of that stay), so that a high share
    says that alignment rests on the background rather than on the person.

    >>> twin_share(np.array([[1, 2], [0, -1], [0, -1]]), camera=np.array([5, 5, 6]), pids=np.array([3, 3, 3]))
    0.5
    """
    there = index >= 0
    twin = there & (pids[index] == pids[:, None]) & (camera[index] == camera[:, None])
    return _ratio(twin.sum(), there.sum())


def view_similarities(bank: np.ndarray, modality: np.ndarray, camera: np.ndarray, view: np.ndarray) -> dict[str, float]:
    """Mean similarity of two tracklets, for every pair of views, and averaged over pairs of three kinds.

    The differences of same_view, other_camera and other_modality are the camera bias and the modality bias. Only the
    views' sums are needed: the sum of <p_i, p_j> is <sum p_i, sum p_j>. A tracklet is not compared with itself, so a
    view of one tracklet has no similarity of its own.
    """
    _, first, inverse, counts = np.unique(view, return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), bank.shape[1]))
    np.add.at(sums, inverse, bank)
    total = sums @ sums.T - np.diag(np.bincount(inverse, (bank.astype(np.float64) ** 2).sum(1)))
    pairs = np.outer(counts, counts) - np.diag(counts)
    names = [f"{('rgb', 'ir')[modality[i]]}{camera[i]}" for i in first]
    figures, kinds = {}, {"same_view": [], "other_camera": [], "other_modality": []}
    for a, b in zip(*np.nonzero(np.triu(pairs))):
        value = float(total[a, b] / pairs[a, b])
        figures[f"bank/similarity/{names[a]}-{names[b]}"] = value
        alike = modality[first[a]] == modality[first[b]]
        kinds["same_view" if a == b else "other_camera" if alike else "other_modality"].append(value)
    return figures | {f"bank/similarity/{kind}": float(np.mean(values)) for kind, values in kinds.items() if values}


def summary(figures: dict[str, float]) -> str:
    """One line for the terminal."""

    def stage(name):
        prefix = _PREFIX[name]
        text = f"{figures[f'{prefix}/per_tracklet']:.1f} a tracklet"
        if f"{prefix}/precision" in figures:
            text += f", precision {figures[f'{prefix}/precision']:.2f}, found {figures[f'{prefix}/recall_any']:.2f}"
        return text

    return (
        f"positives within: {stage('within')}; across: {stage('across')}; reliability {figures['bank/reliability']:.2f}"
    )


def _ratio(part, whole) -> float:
    return float(part) / float(whole) if whole else 0.0
