"""Strategies that rank the images by each class and query around the threshold of its labels: GALAXY and DIRECT."""

import numpy as np
import torch
from jaxtyping import Int64

from activekd.pool import UNLABELED
from activekd.selectors.balanced import labels_per_class
from activekd.selectors.uncertainty import predicted
from activekd.selectors.view import PoolView


class Rankings:
    """The rows from the most to the least likely member of a class, one class at a time, and what is known of them.

    Rows with the class on top come first, in the order of their confidence; all others follow by their margin, the
    probability of the class minus the largest. Ties go to the lowest row.

    Args:
        view: the student's predictions and the labels.
    """

    def __init__(self, view: PoolView) -> None:
        self._probabilities = view.student_probabilities
        self._top = self._probabilities.amax(dim=1)
        self.known = view.labels.copy()
        """The class of each row; UNLABELED where it is not known."""
        self.free = np.zeros(view.pool.n, dtype=bool)
        """Whether each row may be picked."""
        self.free[view.pool.unlabeled] = True

    def of_class(self, label: int) -> Int64[np.ndarray, " n"]:
        """The rows in the order of one class."""
        scores = self._probabilities[:, label]
        scores = torch.where(scores == self._top, scores, scores - self._top)
        return torch.argsort(scores, descending=True, stable=True).cpu().numpy()

    def random(self, rng: np.random.Generator) -> int:
        """A free row, drawn uniformly."""
        return int(rng.choice(np.flatnonzero(self.free)))


def galaxy(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """GALAXY (Zhang et al. 2022): bisection between labels of a class and of others, then both sides of the cut.

    For every class the images form a chain, ranked by their margin for it. The classes take turns, one pick each. Of
    all stretches of unknown images between a label of the class and a label of another one, the middle of the shortest
    is picked. Where no such stretch is left, images are linked to ever more distant ones of the chain until one of
    unknown class is linked to a label of either kind; it is picked. Without labels of both kinds a random image is
    picked. Departures: the paper labels each pick before the next, with the same student; here a query is one batch,
    and the student's prediction stands for the label of a pick until the query ends. The paper was read through its
    released code. There the classes take turns from the lowest, here in a random order that is drawn for each query;
    the range of links only grows within a query, here the smallest range that serves is taken at each pick; ties of
    both are arbitrary, here they go to the highest rank. Each pick sorts the images once.
    """
    rankings = Rankings(view)
    of_rows = predicted(view.student_probabilities).cpu().numpy()
    turns = rng.permutation(view.n_classes)
    picks = np.empty(query_size, dtype=np.int64)
    for k in range(query_size):
        label = int(turns[k % len(turns)])
        order = rankings.of_class(label)
        place = bisection(rankings.known[order], label)
        picks[k] = row = rankings.random(rng) if place is None else order[place]
        rankings.known[row] = of_rows[row]
        rankings.free[row] = False
    return picks


def bisection(known: Int64[np.ndarray, " n"], label: int) -> int | None:
    """Where GALAXY queries a chain; None where it has not both a label of the class and one of another.

    Args:
        known: the class of each image along the chain; UNLABELED where it is not known.
        label: the class of the chain.

    >>> bisection(np.array([1, -1, -1, -1, 0, -1, 1]), 1)
    5
    >>> bisection(np.array([-1, -1, 1, 0, -1]), 1)
    1
    """
    places = np.flatnonzero(known != UNLABELED)
    is_member = known[places] == label
    members, others = places[is_member], places[~is_member]
    if not len(members) or not len(others):
        return None
    unknown = np.diff(places) - 1
    cuts = np.flatnonzero((is_member[1:] != is_member[:-1]) & (unknown > 0))
    if len(cuts):
        cut = cuts[unknown[cuts].argmin()]
        return int(places[cut] + (unknown[cut] + 1) // 2)
    ends = np.unique(np.concatenate([places - 1, places + 1]))
    ends = ends[(ends >= 0) & (ends < len(known))]
    ends = ends[known[ends] == UNLABELED]
    return int(ends[np.maximum(_nearest(ends, members), _nearest(ends, others)).argmin()])


def _nearest(places: Int64[np.ndarray, " n"], among: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " n"]:
    """Distance of each place to the nearest of the others, which ascend."""
    after = np.searchsorted(among, places)
    left, right = among[(after - 1).clip(min=0)], among[after.clip(max=len(among) - 1)]
    return np.minimum(np.abs(places - left), np.abs(right - places))


def direct(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """DIRECT (Nuggehalli et al. 2025): per class, labels inside the region of its threshold, then around the threshold.

    For every class the images are ranked by their margin for it. Half of the query is drawn uniformly inside the
    regions in which the thresholds lie (``region``). The other half is nearest in rank to the thresholds that separate
    the labels best (``threshold``). Every class has an equal share of each half. Departures: the paper labels the first
    half in several parallel batches, each of which narrows the region, and then estimates the threshold with their
    labels; here a query is one batch, so the first half is the first of these batches and the threshold rests on the
    labels from before the query. The paper was read through its released code (LabelBench). Of equally good thresholds
    that code takes the one of the highest rank, here it is the middle one: without the labels of the first half they
    lie far apart, and the first is among images of which the student is certain. Where a half has fewer images than
    classes, the first half goes to the classes with the fewest labels and the second to those with the most; in the
    code the second goes to random ones, and a smallest share decides how many classes have a part in the first. Ties
    are broken at random. What a region is too small for goes to the second half. Each share of a class sorts the images
    once.
    """
    rankings = Rankings(view)
    turns = rng.permutation(view.n_classes)
    rarest = turns[np.argsort(labels_per_class(view)[turns], kind="stable")]
    picks: list[int] = []

    def take(rows: Int64[np.ndarray, " rows"]) -> None:
        rankings.free[rows] = False
        picks.extend(rows.tolist())

    for label, share in _shares(rarest, query_size // 2):
        order = rankings.of_class(label)
        first, last = region(rankings.known[order], label)
        inside = order[first : last + 1]
        inside = inside[rankings.free[inside]]
        take(rng.choice(inside, size=min(share, len(inside)), replace=False))
    for label, share in _shares(rarest[::-1], query_size - len(picks)):
        order = rankings.of_class(label)
        at = threshold(rankings.known[order], label)
        places = np.flatnonzero(rankings.free[order])
        after = int(np.searchsorted(places, at))
        close = places[max(0, after - share) : after + share]
        distances = np.where(close < at, 2 * (at - 1 - close), 2 * (close - at) + 1)
        take(order[close[np.argsort(distances)[:share]]])
    return np.array(picks, dtype=np.int64)


def _shares(classes: Int64[np.ndarray, " classes"], total: int) -> list[tuple[int, int]]:
    """Each class with an equal part of a number, the rest one each to the first classes; without parts of 0."""
    part, rest = divmod(total, len(classes))
    return [(int(c), part + (k < rest)) for k, c in enumerate(classes) if part + (k < rest)]


def region(known: Int64[np.ndarray, " n"], label: int) -> tuple[int, int]:
    """The first and the last place between which the threshold of a class lies.

    The first is that of the last label of the class before any label of another one, the last that of the first label
    of another one behind all labels of the class; the ends of the ranking where there is none.

    >>> region(np.array([-1, 1, -1, 0, 1, -1, 0, -1]), 1)
    (1, 6)
    """
    places = np.flatnonzero(known != UNLABELED)
    is_member = known[places] == label
    ahead = places[: len(is_member) if is_member.all() else int(is_member.argmin())]
    behind = places[0 if not is_member.any() else len(is_member) - int(is_member[::-1].argmax()) :]
    return int(ahead[-1]) if len(ahead) else 0, int(behind[0]) if len(behind) else len(known) - 1


def threshold(known: Int64[np.ndarray, " n"], label: int) -> int:
    """The number of places ahead of the threshold with the fewest labels on the wrong side.

    All thresholds between two neighbouring labels are equally good: the middle is taken, between the first such pair.

    >>> threshold(np.array([-1, 1, -1, -1, -1, 0]), 1)
    3
    """
    places = np.flatnonzero(known != UNLABELED)
    right = np.cumsum(np.where(known[places] == label, 1, -1), dtype=np.int64)
    ahead = int(np.append(0, right).argmax())
    first = int(places[ahead - 1]) + 1 if ahead else 0
    last = int(places[ahead]) if ahead < len(places) else len(known)
    return (first + last) // 2
