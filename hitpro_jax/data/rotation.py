"""The rotation of anchors: which tracklet of a modality comes at which draw, a pure function of seed and draw.

Nothing is carried from epoch to epoch: any draw is found without going through those before it.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

TURNS, ORDERS = 3, 4  # streams of random numbers of their own: a plan's partners have 1, the clips 2
BLOCK = 256  # draws, or random numbers, that are made at once


def view_shares(sizes: np.ndarray, power: float) -> np.ndarray:
    """Share of the draws that each view gets.

    q_v = n_v^power / sum_w n_w^power

    Args:
      sizes: int [V], tracklets n_v >= 1 of each view.
      power: 0 gives all views the same, 1 all tracklets.

    Returns:
      float64 [V], of sum 1.
    """
    weight = np.asarray(sizes, float) ** power
    return weight / weight.sum()


def turns(
    key: Sequence[int], views: np.ndarray, shares: np.ndarray, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whose turn it is at the draws first .. first + count - 1.

    Visit j of view v lies at the time (j + u_vj) / q_v, with u_vj uniform in [0, 1); draw k is the k-th visit in time.

    Args:
      key: of the random numbers, such as the seed.
      views: int [V], ids of the views.
      shares: float [V], q_v > 0 of sum 1, see `view_shares`.
      first: number of the first draw, from 0.
      count: draws.

    Returns:
      turn: int64 [count], positions in `views`.
      before: int64 [V], visits of each view before draw `first`.

    Choice: each view is visited once in every 1 / q_v draws, at a random moment of them. So no view runs ahead, views
    of equal share come up once a round in a fresh random order, and about where any draw lies can be calculated.
    Cost: O((count + V) log(count + V)), wherever it starts.
    """
    # before time t there are less than t + V and more than t - V visits; one more covers rounding
    margin = len(views) + 1
    low = np.floor(max(first - margin, 0) * shares).astype(int)
    high = np.ceil((first + count + margin) * shares).astype(int)
    view = np.repeat(np.arange(len(views)), high - low)
    spread = [np.arange(a, b) + _uniform(key, int(v), a, b) for v, a, b in zip(views, low, high, strict=True)]
    order = np.argsort(np.concatenate(spread) / shares[view], kind="stable")
    skipped = first - low.sum()
    before = low + np.bincount(view[order[:skipped]], minlength=len(views))
    return view[order[skipped : skipped + count]], before


def _uniform(key: Sequence[int], view: int, low: int, high: int) -> np.ndarray:
    """The random numbers u_vj of a view's visits low .. high - 1, made in blocks."""
    blocks = range(low // BLOCK, -(-high // BLOCK))
    made = [np.random.default_rng([TURNS, *key, view, block]).random(BLOCK) for block in blocks]
    return np.concatenate(made)[low - blocks.start * BLOCK :][: high - low]


def members_in_turn(key: Sequence[int], view: int, members: np.ndarray, first: int, eligible: np.ndarray) -> Iterator:
    """Yields a view's eligible members from position `first` of its endless order on; each round has its own order.

    Args:
      key: of the random numbers.
      view: id of the view.
      members: int [n], all tracklets of the view.
      first: position in the endless order of all members, from 0.
      eligible: bool [N], of every tracklet; one of the members at least.
    """
    number, start = divmod(first, len(members))
    for each in itertools.count(number):
        order = np.random.default_rng([ORDERS, *key, view, each]).permutation(members)[start:]
        yield from order[eligible[order]].tolist()
        start = 0


def rotation(
    key: Sequence[int], views: np.ndarray, own: np.ndarray, eligible: np.ndarray, power: float, first: int
) -> Iterator[int]:
    """Yields the tracklets of the draws from `first` on, without end.

    Args:
      key: of the random numbers.
      views: int [N], the view of every tracklet.
      own: int [M], the tracklets of the modality.
      eligible: bool [N], those that may be drawn; one of the modality's at least.
      power: of `view_shares`, over the views' eligible tracklets.
      first: number of the first draw, from 0.

    Choice: where not all are eligible, each view goes on at the position that it would have reached with all, and
    passes over the others. Who is eligible changes from epoch to epoch, so there is no count of visits to go on from
    that would be a function of seed and draw.
    """
    everyone, sizes = np.unique(views[own], return_counts=True)
    _, reached = turns(key, everyone, view_shares(sizes, power), first, 0)
    position = dict(zip(everyone.tolist(), reached.tolist(), strict=True))
    here, sizes = np.unique(views[own[eligible[own]]], return_counts=True)
    orders = [members_in_turn(key, v, own[views[own] == v], position[v], eligible) for v in here.tolist()]
    shares = view_shares(sizes, power)
    for start in itertools.count(first, BLOCK):
        turn, _ = turns(key, here, shares, start, BLOCK)
        yield from (next(orders[v]) for v in turn)


class Draws:
    """Fills batches from a rotation; a tracklet that its batch has already waits for the next one."""

    def __init__(self, tracklets: Iterator[int], pool: frozenset[int]):
        """`tracklets` of `rotation`, which all are of the `pool`."""
        self._tracklets, self._pool = tracklets, pool
        self._waiting: list[int] = []

    def fill(self, chosen: Sequence[int], count: int) -> list[int]:
        """Returns `chosen` filled up to `count`; a tracklet is repeated only once all of the pool are in."""
        chosen, early, self._waiting = list(chosen), iter(self._waiting), []
        draws = itertools.chain(early, self._tracklets)
        while len(chosen) < count:
            tracklet = next(draws)
            if tracklet not in chosen or self._pool <= set(chosen):
                chosen.append(tracklet)
            elif tracklet not in self._waiting:  # else it would have to wait ever longer
                self._waiting.append(tracklet)
        self._waiting += early
        return chosen
