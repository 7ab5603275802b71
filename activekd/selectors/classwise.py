"""Strategies that fill the classes with the fewest labels from the images predicted as them: TFS and PCB."""

from heapq import heapify, heappop, heapreplace

import numpy as np
from jaxtyping import Int64

from activekd.selectors.balanced import labels_per_class
from activekd.selectors.uncertainty import entropy, largest, predicted, scores
from activekd.selectors.view import PoolView

CANDIDATE_SHARE = 0.1
"""Share of the train rows that are PCB's candidates."""


def tfs(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """TFS, tail first sampling (Wang et al. 2025, in ALOR): repeatedly the class with the fewest labels.

    Of the unlabeled images that the student predicts as that class, the one with the largest entropy is picked; a pick
    counts as a label of its predicted class. Departures: the paper was read through its released code. No image is
    retrieved from a teacher's pretraining data, so labels alone are counted; the prediction is the student's, not that
    of a vision-language network. A class without remaining images is passed over and ties go to the lowest class, both
    as in the released code. The generator is not used.
    """
    unlabeled = view.pool.unlabeled
    return _filled(view, largest(scores(view, entropy), unlabeled, len(unlabeled)), query_size)


def pcb(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCB, pseudo-class balance (Bang et al. 2024): the smallest class is filled from the informative candidates.

    The candidates are the unlabeled images with the largest entropy, CANDIDATE_SHARE of the train images. Repeatedly a
    random candidate is picked of those predicted as the class with the fewest labels; a pick counts as a label of its
    predicted class. Departures: the paper was read through its released code. Entropy chooses the candidates, the
    cheapest of its three choices (entropy, CoreSet, BADGE); there are at least as many candidates as picks; the
    prediction is the student's, where the paper prompts a vision-language network. A class without remaining candidates
    is passed over; in the released code it stays the smallest class, so that all later picks are random candidates.
    """
    unlabeled = view.pool.unlabeled
    most = min(len(unlabeled), max(query_size, int(CANDIDATE_SHARE * view.pool.n)))
    return _filled(view, rng.permutation(largest(scores(view, entropy), unlabeled, most)), query_size)


def _filled(view: PoolView, rows: Int64[np.ndarray, " rows"], query_size: int) -> Int64[np.ndarray, " query_size"]:
    """Repeatedly the first of ``rows`` that is predicted as the class with the fewest labels and picks.

    Ties go to the lowest class; classes that no remaining row is predicted as are passed over.

    Args:
        view: the student's predictions and the labels.
        rows: unlabeled rows in order of preference.
        query_size: at most the number of rows.
    """
    n_labels = labels_per_class(view).tolist()
    of_rows = predicted(view.student_probabilities).cpu().numpy()[rows]
    classes, sizes = np.unique(of_rows, return_counts=True)
    members = np.split(rows[np.argsort(of_rows, kind="stable")], np.cumsum(sizes)[:-1])
    left = {c: some[::-1].tolist() for c, some in zip(classes.tolist(), members, strict=True)}
    smallest = [(n_labels[c], c) for c in left]
    heapify(smallest)
    picks = []
    while len(picks) < query_size:
        n, c = smallest[0]
        picks.append(left[c].pop())
        if left[c]:
            heapreplace(smallest, (n + 1, c))
        else:
            heappop(smallest)
    return np.array(picks, dtype=np.int64)
