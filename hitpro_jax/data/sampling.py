"""Which frames make a clip, which tracklets make a batch: pure functions of sizes, positives and seeds."""

from typing import NamedTuple

import numpy as np

from hitpro_jax.data.rotation import Draws, rotation
from hitpro_jax.options import BatchOptions
from hitpro_jax.types import IR, RGB

ORDER = 2  # of the tracklets that `plan_epoch` gives: the next number where it gives another; checkpoints name it


def clip_frames(num_frames: int, clip_length: int, rng: np.random.Generator) -> np.ndarray:
    """Returns one random frame of each of `clip_length` even segments of a tracklet (for training).

    Segment l holds frames floor(l n / L) .. floor((l + 1) n / L) - 1 of n. A tracklet shorter than the clip gives all
    its frames and repeats the last.

    Args:
      num_frames: n >= 1.
      clip_length: L >= 1.
      rng: source of every random number.

    Returns:
      int64 [L], not decreasing, in [0, n).

    Source: the segments of TSN.
    """
    if num_frames < clip_length:
        return np.minimum(np.arange(clip_length), num_frames - 1)
    # the segments of TSN: a clip spans the whole tracklet, and yet changes from epoch to epoch
    edges = np.arange(clip_length + 1) * num_frames // clip_length
    return rng.integers(edges[:-1], edges[1:])


def part_frames(num_frames: int, parts: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns `length` evenly spaced frames of each of the sub-tracklets of a tracklet (ICTP).

    Part s of S holds frames floor(s n / S) .. floor((s + 1) n / S) - 1 of n, and frame l of L is the
    floor(l m / L)-th of its m frames; the last is repeated when m < L.

    Args:
      num_frames: n >= 1.
      parts: S >= 1.
      length: L >= 1.

    Returns:
      index: int64 [S, L] in [0, n); rows of empty parts hold frames of their neighbours and mean nothing.
      mask: bool [S], False where a part is empty (only when n < S).

    Choice: even parts, because nothing in a tracklet marks a natural cut.
    Source: sub-tracklets are the paper's.
    """
    edges = np.arange(parts + 1) * num_frames // parts
    first, size = edges[:-1, None], np.diff(edges)[:, None]
    position = np.arange(length)
    spaced = np.where(size < length, np.minimum(position, size - 1), position * size // length)
    # a row of an empty part would otherwise point at frame -1
    return np.clip(first + spaced, 0, num_frames - 1), size[:, 0] > 0


def test_frames(num_frames: int, length: int) -> np.ndarray:
    """Returns the frames by which a tracklet is tested on HITSZ-VCM.

    Position s of S is min(s ceil(n / S), n - 1), and min(s, n - 1) when n < S.

    Args:
      num_frames: n >= 1.
      length: S >= 1.

    Returns:
      int64 [S], not decreasing, in [0, n).

    Source: M3-ReID.
    """
    # rounded up: a stride rounded down would not reach the end
    stride = max(1, -(-num_frames // length))
    return np.minimum(np.arange(length) * stride, num_frames - 1)


def uniform_frames(num_frames: int, length: int) -> np.ndarray:
    """Returns the frames floor(s n / S) by which a tracklet is tested in BUPTCampus's own protocol.

    Args:
      num_frames: n >= 1.
      length: S >= 1.

    Returns:
      int64 [S], not decreasing, in [0, n); a short tracklet repeats every frame about equally often.
    """
    return np.arange(length) * num_frames // length


class Partners(NamedTuple):
    """Mined positives from which a batch draws partners; N tracklets, K and K' positives.

    All None before the first mining.
    """

    within_index: np.ndarray | None = None  # int [N, K], positives of the own modality, -1 for none
    within_weight: np.ndarray | None = None  # float [N, K], 0 for none; None weighs all positives alike
    across_index: np.ndarray | None = None  # int [N, K'], positives of the other modality, likewise
    across_weight: np.ndarray | None = None  # float [N, K']


NO_PARTNERS = Partners()


def plan_epoch(
    seed: int,
    epoch: int,
    views: np.ndarray,
    modality: np.ndarray,
    *,
    steps: int,
    batch: BatchOptions,
    partners: Partners = NO_PARTNERS,
    eligible: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the tracklet of every clip of an epoch: modalities and views balanced, partly mined partners.

    Each batch takes, per modality, its anchors from a rotation that visits the views by turns and each view's
    tracklets without repeats until they are exhausted. It goes on from epoch to epoch: step s of the run, counted over
    all epochs, has the draws s A .. (s + 1) A - 1 of A anchors. The other slots go to partners: positives of this
    batch's anchors, drawn with probability proportional to their weight and at most once per batch. A partner takes a
    slot of its own modality, whichever modality its anchor has. Slots for which no positive is left are filled from a
    second rotation of the same kind, so that counts always hold; a batch repeats a tracklet only when its modality has
    fewer than asked for.

    Args:
      seed: non-negative.
      epoch: non-negative.
      views: int [N], dense id of (modality, camera).
      modality: int [N].
      steps: batches in the epoch, the same in every epoch of a run.
      batch: P = tracklets_per_modality; where all tracklets are of one modality, it fills all 2 P slots.
        C = clips_per_tracklet. partner_share of the P slots, rounded, may go to partners; one slot at least is left to
        the rotation. view_power: see `rotation.view_shares`.
      partners: what partners are drawn from.
      eligible: bool [N], the tracklets that the rotation visits, such as those of a cluster; None: all. A modality
        without any keeps all of its own.

    Returns:
      int32 [steps, B], B = 2 P C. Clips alternate rgb, ir, rgb, ir ...; the clips of one tracklet are in neighbouring
      pairs; anchors come first and partners last.

    Raises:
      ValueError: there is no tracklet, or partner_share lies outside [0, 1).

    Choice: two rotations, because the anchors' one must not depend on how many partners were found.
    Source: the rotation is CAP's; that it goes on over epochs is ours.
    """
    views, modality = np.asarray(views), np.asarray(modality)
    if not len(views):
        raise ValueError("an epoch cannot be planned without tracklets: the training set is empty")
    if not 0 <= batch.partner_share < 1:
        raise ValueError(f"partner_share must lie in [0, 1), but is {batch.partner_share}")
    rng = np.random.default_rng([seed, 1, epoch])  # 1: another stream than the clips' own, which has 2
    present = [m for m in (RGB, IR) if np.any(modality == m)]
    # tracklets of a single modality fill the slots of both
    slots = batch.tracklets_per_modality * 2 // len(present)
    anchors = max(1, slots - round(batch.partner_share * slots))

    def draws(which: int, per_step: int) -> list[Draws]:
        first = epoch * steps * per_step
        return [_draws((seed, which), views, modality == m, eligible, batch.view_power, first) for m in present]

    rotations, fills = draws(0, anchors), draws(1, slots - anchors)
    index, weight = _join(partners, len(views))

    def one_batch() -> list[list[int]]:
        chosen = [each.fill([], anchors) for each in rotations]
        if anchors < slots:
            ranked = _ranked_partners(rng, np.concatenate(chosen), index, weight)
            for m, row in zip(present, chosen):
                row += [t for t in ranked if modality[t] == m and t not in row][: slots - anchors]
        return [each.fill(row, slots) for each, row in zip(fills, chosen)]

    table = np.array([one_batch() for _ in range(steps)], np.int32).reshape(steps, len(present), slots)
    # [steps, slots, clips, modalities]: so the modalities alternate, and clips of a tracklet are neighbours
    table = table.transpose(0, 2, 1)[:, :, None]
    return np.repeat(table, batch.clips_per_tracklet, axis=2).reshape(steps, -1)


def _draws(
    key: tuple[int, int], views: np.ndarray, own: np.ndarray, eligible: np.ndarray | None, power: float, first: int
) -> Draws:
    """The rotation of a modality's tracklets [N] bool from draw `first` on: the eligible ones, or all where none is."""
    pool = own if eligible is None or not (own & eligible).any() else own & eligible
    tracklets = rotation(key, views, np.flatnonzero(own), pool, power, first)
    return Draws(tracklets, frozenset(np.flatnonzero(pool).tolist()))


def _join(partners: Partners, num_tracklets: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns both positives tables side by side: index [N, K + K'] and weight, 0 for none."""
    index, weight = [np.full((num_tracklets, 0), -1)], [np.zeros((num_tracklets, 0))]
    within = partners.within_index, partners.within_weight
    cross = partners.across_index, partners.across_weight
    for table, weights in (within, cross):
        if table is not None:
            index.append(np.asarray(table))
            weight.append(np.where(index[-1] >= 0, 1.0 if weights is None else weights, 0.0))
    return np.concatenate(index, axis=1), np.concatenate(weight, axis=1)


def _ranked_partners(rng: np.random.Generator, anchors: np.ndarray, index: np.ndarray, weight: np.ndarray) -> list[int]:
    """Returns the anchors' positives without repeats, in random order in which heavy ones tend to come first.

    The order of Exp(1) / weight is that of draws without replacement with probability proportional to weight.
    """
    candidate, weight = index[anchors].ravel(), weight[anchors].ravel()
    candidate, weight = candidate[weight > 0], weight[weight > 0]
    order = np.argsort(rng.exponential(size=len(weight)) / weight, kind="stable")
    return list(dict.fromkeys(candidate[order].tolist()))
