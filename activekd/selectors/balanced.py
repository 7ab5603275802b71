"""Class-balanced sampling over predicted classes."""

from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from activekd.pool import UNLABELED
from activekd.selectors.uncertainty import predicted as predicted_classes
from activekd.selectors.view import PoolView


def quotas(n_labels: Int64[np.ndarray, " classes"], query_size: int) -> Int64[np.ndarray, " classes"]:
    """The share of each class in a query, in proportion to 1 / (number of its labels + 1), in whole numbers.

    Each class receives the whole part of its share; the rest goes to the classes with the largest weights, one each,
    ties to the lowest class. A class without labels weighs as much as one with a single label. This is the rule of the
    class-balanced baseline in PCoreSet's released code (Kang et al. 2025). Departure: shares are exact fractions; in
    the released code floating-point error rounds some whole shares down.

    Args:
        n_labels: number of labels of each class.
        query_size: sum of the quotas.

    >>> quotas(np.array([1, 1, 2, 8]), 26).tolist()
    [9, 9, 6, 2]
    >>> quotas(np.array([1, 1, 2, 8]), 10).tolist()
    [4, 4, 2, 0]
    """
    weights = [Fraction(1, max(n, 1) + 1) for n in n_labels.tolist()]
    per_weight = query_size / sum(weights)
    out = np.array([int(per_weight * weight) for weight in weights], dtype=np.int64)
    heaviest = np.argsort(n_labels.clip(min=1), kind="stable")
    out[heaviest[: query_size - int(out.sum())]] += 1
    return out


def labels_per_class(view: PoolView) -> Int64[np.ndarray, " classes"]:
    """The number of labels of each class."""
    return np.bincount(view.labels[view.labels != UNLABELED], minlength=view.n_classes)


def classbalanced(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """Random rows by predicted class, more from the classes with fewer labels.

    The class-balanced baseline in PCoreSet's released code (Kang et al. 2025): ``quotas`` over the classes that are
    predicted for an unlabeled image; rows are drawn uniformly within a predicted class; what a class lacks to its quota
    is drawn uniformly from all remaining unlabeled rows. Departure: quotas are exact, see ``quotas``.
    """
    unlabeled = view.pool.unlabeled
    predicted = predicted_classes(view.student_probabilities).cpu().numpy()[unlabeled]
    n_labels = labels_per_class(view)
    classes, sizes = np.unique(predicted, return_counts=True)
    members = np.split(unlabeled[np.argsort(predicted, kind="stable")], np.cumsum(sizes)[:-1])
    shares = np.minimum(quotas(n_labels[classes], query_size), sizes)
    drawn = [rng.choice(rows, size=n, replace=False) for rows, n in zip(members, shares, strict=True) if n]
    picks = np.concatenate(drawn)
    rest = np.setdiff1d(unlabeled, picks, assume_unique=True)
    return np.concatenate([picks, rng.choice(rest, size=query_size - len(picks), replace=False)])
