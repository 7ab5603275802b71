"""CCMA: prediction sets of student and teacher, calibrated on the labels."""

from functools import partial
from math import ceil

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.clusters import central
from activekd.selectors.uncertainty import Scratch, largest, predicted, scores
from activekd.selectors.view import PoolView, unit_rows

MISCOVERAGE = 0.1
"""Share of the labeled images whose class a prediction set may lack."""

SIZE_WEIGHT = 0.2
"""Weight of the sizes of both sets against their disagreement."""

OVERSAMPLING, SHARE = 20, 5
"""k-means clusters the top OVERSAMPLING x query size images, but at most 1 / SHARE of the unlabeled ones."""


def ccma(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CCMA (Nguyen et al. 2026): images on which the conformal prediction sets of student and teacher disagree.

    A prediction set holds the classes that are at least as probable as a threshold, and always the most probable one.
    The threshold is split conformal: of the probabilities of the m labels, the ceil((m + 1) x 0.9)-th largest, or the
    smallest. The score of an image with the sets S and T is (1 - w) (1 - |S & T| / |S | T|) + w (|S| + |T|) /
    (2 |S | T|), with w = SIZE_WEIGHT. k-means on L2-normalised features clusters the images with the largest scores,
    at random among equal ones, and the image nearest to each centre is picked.

    Departures: the method was read in the authors' code. There the teacher's threshold is set by a mean set size, which
    needs no label; here it is conformal, as the student's. The student learned from the labels, there too, so its
    coverage is below 90%. Left out: the temperature of the student, chosen from a list by the mean entropy, and the
    selection of a diverse fifth of the pool by k-means before all; instead, at most a fifth is clustered. k-means works
    on the student's features; there on the teacher's. Without labels a set holds the most probable class alone.
    """
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    index, labels = view.at(labeled), view.at(view.labels[labeled])
    student, teacher = (
        threshold(probabilities[index, labels])
        for probabilities in (view.student_probabilities, view.teacher_probabilities)
    )
    unlabeled = view.pool.unlabeled
    m = max(query_size, min(OVERSAMPLING * query_size, len(unlabeled) // SHARE))
    top = largest(scores(view, partial(score, student, teacher)), rng.permutation(unlabeled), m)
    return top[central(unit_rows(view.features[view.at(top)]), query_size, rng=rng)]


def threshold(of_labels: Float32[Tensor, " labels"]) -> float:
    """The least probability of a class in a conformal prediction set; infinity without labels.

    Args:
        of_labels: the probability of the true class of each labeled image.
    """
    m = len(of_labels)
    if not m:
        return float("inf")
    rank = min(m, ceil(round((m + 1) * (1 - MISCOVERAGE), 9)))
    return float(of_labels.sort(descending=True).values[rank - 1])


def score(student: float, teacher: float, view: PoolView, rows: slice, scratch: Scratch) -> Tensor:
    one = _set(view.student_probabilities[rows], student)
    other = _set(view.teacher_probabilities[rows], teacher)
    sizes = one.sum(dim=1) + other.sum(dim=1)
    common = (one & other).sum(dim=1)
    union = sizes - common
    return (1 - SIZE_WEIGHT) * (1 - common / union) + SIZE_WEIGHT * sizes / (2 * union)


def _set(probabilities: Tensor, least: float) -> Tensor:
    inside = probabilities >= least
    inside.scatter_(1, predicted(probabilities)[:, None], True)
    return inside
