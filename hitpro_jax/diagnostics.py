"""What a refresh found, in numbers, on the host.

Person ids may enter here and in the evaluator, and nowhere else. Without ids (unlabelled video) every figure is there
except those of precision and recall. P rows of the bank, N tracklets (the rows before the padding), K positives.
"""

import numpy as np

from hitpro_jax.types import Mined, TrackletInfo

PREFIX = {"within": "align/within", "across": "align/cross"}  # stage to the names of its figures
THRESHOLDS = {"within": ("rgb", "ir"), "across": ("rgb_to_ir", "ir_to_rgb")}  # what a threshold belongs to


def describe(
    mined: Mined,
    before: Mined | None,
    info: TrackletInfo,
    pids: np.ndarray | None,
    *,
    ban_same_camera: bool = False,
) -> dict[str, float]:
    """Figures of one refresh by the names that metrics.jsonl has.

    Args:
      mined: what the refresh found, NumPy arrays; its padding rows are left out.
      before: what there was just before it; None at the first refresh, then drift and stability are left out.
      info: of the tracklets, NumPy arrays [P] or [N]; padding rows stand at the end and are not valid.
      pids: int [N], or None if there are no labels.
      ban_same_camera: whether stage 2 leaves out candidates of the own camera.
    """
    size = np.count_nonzero(np.asarray(info.valid))
    info = TrackletInfo(*(np.asarray(column)[:size] for column in info))
    bank = np.asarray(mined.prototypes)[:size]
    figures = {
        "bank/reliability": float(mined.reliability[:size].mean()),
        **view_similarities(bank, info.modality, info.camera, info.view),
    }
    if before is not None:
        figures["bank/drift"] = float(1.0 - (bank * before.prototypes[:size]).sum(1).mean())
    for stage, prefix in PREFIX.items():
        index = np.asarray(getattr(mined, stage).index)[:size]
        found = positive_figures(index)
        for name, value in zip(THRESHOLDS[stage], getattr(mined, stage).threshold, strict=True):
            found[f"threshold_{name}"] = float(value)
        if before is not None:
            found["stability"] = overlap(index, np.asarray(getattr(before, stage).index)[:size])
        if pids is not None:
            found |= quality(stage, index, info, pids, ban_same_camera)
        figures |= {f"{prefix}/{name}": value for name, value in found.items()}
    if pids is not None:
        figures["align/cross/twin_share"] = twin_share(np.asarray(mined.across.index)[:size], info.camera, pids)
        found = quality("same_view", np.asarray(mined.same_view)[:size], info, pids)
        figures |= {f"align/same_view/{name}": value for name, value in found.items()}
    if mined.label is not None:
        found = cluster_figures(np.asarray(mined.label)[:size], info.modality, pids)
        figures |= {f"clusters/{name}": value for name, value in found.items()}
    return figures


def summary(figures: dict[str, float]) -> str:
    """One line for the log."""

    def stage(name: str) -> str:
        prefix = PREFIX[name]
        text = f"{figures[f'{prefix}/per_tracklet']:.1f} a tracklet"
        if f"{prefix}/precision" in figures:
            text += f", precision {figures[f'{prefix}/precision']:.2f}, found {figures[f'{prefix}/recall_any']:.2f}"
        if f"{prefix}/twin_share" in figures and figures[f"{prefix}/per_tracklet"]:
            text += f", twins {figures[f'{prefix}/twin_share']:.2f}"
        return text

    def clusters(name: str) -> str:
        number, *sizes, outliers = (
            f"{figures[f'clusters/{name}/{value}']:g}"
            for value in ("number", "smallest", "median", "largest", "outliers")
        )
        return f"; {name.upper()} clusters: {number}, smallest/median/largest {'/'.join(sizes)}, outliers {outliers}"

    of_clusters = "".join(clusters(name) for name in ("rgb", "ir") if f"clusters/{name}/number" in figures)
    return (
        f"positives within: {stage('within')}; across: {stage('across')}; "
        f"reliability {figures['bank/reliability']:.2f}{of_clusters}"
    )


def view_similarities(bank: np.ndarray, modality: np.ndarray, camera: np.ndarray, view: np.ndarray) -> dict[str, float]:
    """Mean similarity of two tracklets, for every pair of views, and averaged over pairs of three kinds.

    The differences of same_view, other_camera and other_modality are the camera bias and the modality bias. A tracklet
    is not compared with itself, so a view of one tracklet has no similarity of its own.

    Args:
      bank: [N, D] unit rows.
      modality: int [N].
      camera: int [N].
      view: int [N].
    """
    _, first, inverse, counts = np.unique(view, return_index=True, return_inverse=True, return_counts=True)
    # the sum of <p_i, p_j> over two views is <sum p_i, sum p_j>, so that no table of N x N is needed
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


def positive_figures(index: np.ndarray) -> dict[str, float]:
    """Positives per tracklet, share of tracklets with none, and share of positives that hold both ways.

    >>> positive_figures(np.array([[1, 2], [0, -1], [-1, -1]]))
    {'per_tracklet': 1.0, 'share_none': 0.3333333333333333, 'reciprocal': 0.6666666666666666}
    """
    there = index >= 0
    # -1 looks up the last row, which `there` leaves out
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


def is_candidate(
    stage: str, index: np.ndarray, modality: np.ndarray, camera: np.ndarray, ban_same_camera: bool = False
) -> np.ndarray:
    """Which entries [N, K] of a table are candidates of the stage; see `possible_positives`. -1 is none."""
    same_modality = modality[index] == modality[:, None]
    same_camera = camera[index] == camera[:, None]
    if stage == "across":
        candidate = ~same_modality & ~(same_camera & ban_same_camera)
    else:
        candidate = same_modality & (same_camera == (stage == "same_view"))
    return candidate & (index >= 0) & (index != np.arange(len(index))[:, None])


def possible_positives(
    stage: str, modality: np.ndarray, camera: np.ndarray, pids: np.ndarray, ban_same_camera: bool = False
) -> np.ndarray:
    """How many true positives each tracklet could have: tracklets of its person that are candidates of the stage.

    Args:
      stage: within, across or same_view.
      modality: int [N].
      camera: int [N].
      pids: int [N].
      ban_same_camera: of stage `across`.

    Returns:
      int [N].
    """

    def same(*columns: np.ndarray) -> np.ndarray:
        """How many tracklets, this one too, equal each tracklet in all columns."""
        _, inverse, counts = np.unique(np.stack(columns, 1), axis=0, return_inverse=True, return_counts=True)
        return counts[inverse.ravel()]

    if stage == "same_view":
        return same(pids, modality, camera) - 1
    if stage == "across" and ban_same_camera:
        # inclusion and exclusion: neither the own modality nor the own camera
        return same(pids) - same(pids, modality) - same(pids, camera) + same(pids, modality, camera)
    if stage == "across":
        return same(pids) - same(pids, modality)
    return same(pids, modality) - same(pids, modality, camera)


def quality(
    stage: str, index: np.ndarray, info: TrackletInfo, pids: np.ndarray, ban_same_camera: bool = False
) -> dict[str, float]:
    """How right a table of positives is; 0 where there is nothing to count.

    An entry is right if it is of the same person and a candidate of the stage: what counts as found is counted as there
    to be found.

    Args:
      stage: within, across or same_view.
      index: [N, K] tracklets, each once in a row, -1 for none.
      info: of the tracklets, [N].
      pids: int [N].
      ban_same_camera: of stage `across`.

    Returns:
      `precision` and `recall` of the entries; `recall_any`, of the tracklets that could have a right positive the share
      that has one; `false_any`, of those that could have none the share that has an entry.
    """
    there = index >= 0
    right = is_candidate(stage, index, info.modality, info.camera, ban_same_camera) & (pids[index] == pids[:, None])
    possible = possible_positives(stage, info.modality, info.camera, pids, ban_same_camera)
    return {
        "precision": _ratio(right.sum(), there.sum()),
        "recall": _ratio(right.sum(), possible.sum()),
        "recall_any": _ratio(right.any(1).sum(), (possible > 0).sum()),
        "false_any": _ratio((there.any(1) & (possible == 0)).sum(), (possible == 0).sum()),
    }


def twin_share(index: np.ndarray, camera: np.ndarray, pids: np.ndarray) -> float:
    """Share of cross-modality positives that are of the own person and the own camera.

    On BUPTCampus such a pair shows the same moments pixel by pixel, or another track of that stay. A high share means
    that alignment rests on the background rather than on the person.

    >>> twin_share(np.array([[1, 2], [0, -1], [0, -1]]), camera=np.array([5, 5, 6]), pids=np.array([3, 3, 3]))
    0.5
    """
    there = index >= 0
    twin = there & (pids[index] == pids[:, None]) & (camera[index] == camera[:, None])
    return _ratio(twin.sum(), there.sum())


def cluster_figures(label: np.ndarray, modality: np.ndarray, pids: np.ndarray | None) -> dict[str, float]:
    """Number of clusters, share of tracklets in none, and purity: how many are of their cluster's commonest person.

    Of each modality besides: number and sizes of its clusters, and number of tracklets in none.

    >>> figures = cluster_figures(np.array([0, 0, 0, 1, -1]), np.zeros(5, int), np.array([7, 7, 8, 8, 8]))
    >>> {name: value for name, value in figures.items() if "/" not in name}
    {'number': 2.0, 'outliers': 0.2, 'purity': 0.75}
    >>> {name: value for name, value in figures.items() if "rgb/" in name}
    {'rgb/number': 2.0, 'rgb/smallest': 1.0, 'rgb/median': 2.0, 'rgb/largest': 3.0, 'rgb/outliers': 1.0}
    """
    there = label >= 0
    figures = {"number": float(len(np.unique(label[there]))), "outliers": float((~there).mean())}
    for one in np.unique(modality):
        own = label[modality == one]
        sizes = np.unique(own[own >= 0], return_counts=True)[1]
        smallest, median, largest = np.quantile(sizes, (0, 0.5, 1)) if len(sizes) else (0, 0, 0)
        found = {"number": len(sizes), "smallest": smallest, "median": median, "largest": largest}
        found["outliers"] = (own < 0).sum()
        figures |= {f"{('rgb', 'ir')[one]}/{name}": float(value) for name, value in found.items()}
    if pids is not None:
        pairs, counts = np.unique(np.stack([label, pids], 1)[there], axis=0, return_counts=True)
        commonest = np.zeros(label.max(initial=-1) + 1, np.int64)
        np.maximum.at(commonest, pairs[:, 0], counts)
        figures["purity"] = _ratio(commonest.sum(), there.sum())
    return figures


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 0.0
