"""The rotation replayed visit by visit from draw 0, with the same random numbers."""

import numpy as np


def shares(sizes, power):
    """By view, from the tracklets of each."""
    total = sum(n**power for n in sizes.values())
    return {v: n**power / total for v, n in sizes.items()}


def moment(key, view, visit, share):
    """When a view is visited for the `visit`-th time."""
    block, place = divmod(visit, 256)
    return (visit + np.random.default_rng([3, *key, view, block]).random(256)[place]) / share


def turns(key, share, count):
    """The views of the first `count` draws: always the one whose next visit is the earliest."""
    visits = dict.fromkeys(share, 0)
    due = {v: moment(key, v, 0, share[v]) for v in share}
    found = []
    for _ in range(count):
        view = min(due, key=lambda v: due[v])
        found.append(view)
        visits[view] += 1
        due[view] = moment(key, view, visits[view], share[view])
    return found


def member(key, view, members, position):
    """The tracklet at a position of a view's endless order."""
    each, place = divmod(position, len(members))
    return int(np.random.default_rng([4, *key, view, each]).permutation(members)[place])


def rotation(key, views, own, eligible, power, first, count):
    """The tracklets of the draws first .. first + count - 1."""
    members = {}
    for tracklet in own:
        members.setdefault(int(views[tracklet]), []).append(tracklet)
    everyone = turns(key, shares({v: len(each) for v, each in members.items()}, power), first)
    position = {v: everyone.count(v) for v in members}
    left = {v: sum(bool(eligible[t]) for t in each) for v, each in members.items()}
    order = turns(key, shares({v: n for v, n in left.items() if n}, power), first + count)
    found = []
    for view in order[first:]:
        while True:
            tracklet = member(key, view, members[view], position[view])
            position[view] += 1
            if eligible[tracklet]:
                break
        found.append(tracklet)
    return found
