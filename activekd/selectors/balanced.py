"""Class-balanced sampling over predicted classes."""

import numpy as np
from jaxtyping import Float64, Int64

from activekd.pool import UNLABELED
from activekd.selectors.uncertainty import predicted as predicted_classes
from activekd.selectors.view import PoolView


def quotas(
    weights: Float64[np.ndarray, " classes"], capacity: Int64[np.ndarray, " classes"], total: int
) -> Int64[np.ndarray, " classes"]:
    """Integers that sum to ``total``, proportional to the weights by largest remainder, at most the capacity.

    The excess of a full class is redistributed among the others. Ties of remainders go to the lowest class.

    Args:
        weights: weight of each class, more than 0.
        capacity: largest quota of each class.
        total: sum of the quotas.

    Raises:
        ValueError: the capacities sum to less than the total.
    """
    if capacity.sum() < total:
        raise ValueError(f"quotas that sum to {total}; expected: at most the capacity, {capacity.sum()}")
    out = np.zeros_like(capacity)
    while (left := total - int(out.sum())) > 0:
        room = capacity > out
        share = np.where(room, weights, 0.0)
        share = share / share.sum() * left
        whole = np.floor(share).astype(np.int64)
        remainder = np.where(room, share - whole, -1.0)
        extra = np.argsort(-remainder, kind="stable")[: left - int(whole.sum())]
        whole[extra] += 1
        out = np.minimum(out + whole, capacity)
    return out


def classbalanced(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """Random rows by predicted class, more from the classes with fewer labels.

    The class-balanced baseline of PCoreSet (Kang et al. 2025): the quota of a class is proportional to 1 / (number of
    its labels); rows are drawn uniformly within a predicted class. A class without labels counts as if it had one; the
    excess of a class over its predicted rows goes to the others.
    """
    unlabeled = view.pool.unlabeled
    predicted = predicted_classes(view.student_probabilities).cpu().numpy()[unlabeled]
    n_labels = np.bincount(view.labels[view.labels != UNLABELED], minlength=view.n_classes)
    capacity = np.bincount(predicted, minlength=view.n_classes)
    share = quotas(1.0 / np.maximum(n_labels, 1), capacity, query_size)
    by_class = np.split(unlabeled[np.argsort(predicted, kind="stable")], np.cumsum(capacity)[:-1])
    picks = [rng.choice(by_class[label], size=share[label], replace=False) for label in np.flatnonzero(share)]
    return np.concatenate(picks)
