"""Class-balanced sampling over the predicted classes."""

import numpy as np
from jaxtyping import Float64, Int64

from activekd.pool import UNLABELED
from activekd.selectors.uncertainty import predicted as predicted_classes
from activekd.selectors.view import PoolView


def quotas(
    weights: Float64[np.ndarray, " classes"], capacity: Int64[np.ndarray, " classes"], total: int
) -> Int64[np.ndarray, " classes"]:
    """Whole numbers that sum to ``total``, proportional to the weights by largest remainder, never above capacity.

    What a full class cannot take is shared out again among the others. Ties of remainders go to the lowest class.

    Raises:
        ValueError: the capacities sum to less than the total.
    """
    if capacity.sum() < total:
        raise ValueError(f"{total} to share out, capacity is {capacity.sum()}")
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
    """Random rows by predicted class, more from the classes with fewer bought labels.

    The class-balanced baseline of PCoreSet (Kang et al. 2025): the quota of a class is proportional to 1 / (its bought
    labels); inside of a predicted class the rows are drawn uniformly. A class without a label counts as one label, and
    what a class cannot fill goes to the others.
    """
    unlabeled = view.pool.unlabeled
    predicted = predicted_classes(view.student_probabilities).cpu().numpy()[unlabeled]
    bought = np.bincount(view.labels[view.labels != UNLABELED], minlength=view.n_classes)
    capacity = np.bincount(predicted, minlength=view.n_classes)
    share = quotas(1.0 / np.maximum(bought, 1), capacity, query_size)
    by_class = np.split(unlabeled[np.argsort(predicted, kind="stable")], np.cumsum(capacity)[:-1])
    picks = [rng.choice(by_class[label], size=share[label], replace=False) for label in np.flatnonzero(share)]
    return np.concatenate(picks)
