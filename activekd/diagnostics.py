"""Diagnostics of a finished query and of the networks of its round; selectors never see them.

They read the true labels of the whole train split, unlabeled rows included, after the query, and change nothing. With
label noise these differ from the labels that were bought. Images of no class count in what needs no label alone: in
diversities, entropies and the number of picks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, nan

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from activekd.datasets import Dataset
from activekd.pool import NO_CLASS, Pool
from activekd.selectors.uncertainty import entropy, predicted, scores
from activekd.selectors.view import PoolView

CONFIDENT = 0.8
"""A teacher is confident where its largest probability is at least this."""

BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al. 2017, Equation 3)."""

LEAST_PROBABILITY = 1e-12
"""Lower clip of a probability in a likelihood."""


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of one round; a value is NaN where the round has no picks, no teacher or no misled images.

    Attributes:
        picks_coverage: distinct classes among the picks, over the smaller of the numbers of classes and picks.
        labeled_coverage: share of the classes with at least one label, the picks included.
        labeled_balance: entropy of the class distribution of all labels, the picks included, over log(classes); 1 is
            balanced.
        picks_feature_diversity: mean Euclidean distance from a pick to the nearest other pick in the student's
            features, over the same mean for equally many unlabeled images drawn at random; NaN for a single pick.
        picks_probability_diversity: the same ratio in the student's probabilities.
        picks_entropy: mean entropy of the student's probabilities on the picks, over log(classes).
        pool_entropy: the same mean on all unlabeled images, the picks included.
        picks_teacher_accuracy: the teacher's accuracy on the picks, in [0, 1].
        pool_teacher_accuracy: the teacher's accuracy on all unlabeled images, the picks included.
        student_ece: the student's expected calibration error on the test split.
        student_nll: the student's mean negative log-likelihood of the test labels, in nats.
        teacher_ece: the teacher's expected calibration error on the test split.
        teacher_nll: the teacher's mean negative log-likelihood of the test labels, in nats.
        label_head_accuracy: the accuracy of the label head alone on the test split, in [0, 1].
        distill_head_accuracy: the same of the distill head; the student predicts with the mixture of both.
        misled: share of the train split on which the teacher is confident (at least CONFIDENT) and wrong: the misled
            images.
        misled_learned: share of the unlabeled misled images on which the student predicts the teacher's wrong class.
        misled_labeled: share of the misled images that are labeled when the student is trained.
        misled_mended: share of the labeled misled images that the student predicts correctly.
    """

    picks_coverage: float
    labeled_coverage: float
    labeled_balance: float
    picks_feature_diversity: float
    picks_probability_diversity: float
    picks_entropy: float
    pool_entropy: float
    picks_teacher_accuracy: float
    pool_teacher_accuracy: float
    student_ece: float
    student_nll: float
    teacher_ece: float
    teacher_nll: float
    label_head_accuracy: float
    distill_head_accuracy: float
    misled: float
    misled_learned: float
    misled_labeled: float
    misled_mended: float


@dataclass(frozen=True)
class Opinion:
    """A network's prediction for each image: the class, and its probability."""

    classes: Int64[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Measured:
    """Network outputs from which the diagnostics of a round are computed; no pool-sized array is copied.

    Attributes:
        student_train: the student's probabilities on the train split.
        features: maps train rows, (n,), to the student's features, (n, dim).
        student_test: the student's probabilities on the test split.
        teacher_train: the teacher's predictions on the train split; None without a teacher.
        teacher_test: the teacher's probabilities on the test split; None without a teacher.
        heads_test: the classes that the student's label head and distill head predict alone on the test split.
    """

    student_train: Float32[Tensor, "n classes"]
    features: Callable[[np.ndarray], Tensor]
    student_test: Float32[Tensor, "m classes"]
    teacher_train: Opinion | None
    teacher_test: Float32[Tensor, "m classes"] | None
    heads_test: Int64[Tensor, "2 m"]


def diagnose(
    dataset: Dataset, pool: Pool, picked: Int64[np.ndarray, " q"], measured: Measured, *, rng: np.random.Generator
) -> Diagnostics:
    """The diagnostics of a round.

    Args:
        dataset: its train and test labels are read.
        pool: the pool that the student was trained on, before the query.
        picked: the rows of the query; empty in the last round.
        measured: outputs of the student and the teacher.
        rng: draws the unlabeled images that the picks' diversity is compared with.
    """
    labels, n_classes = dataset.true_labels, dataset.n_classes
    has_class = labels != NO_CLASS
    classed = picked[has_class[picked]]
    labeled = np.concatenate([np.array(pool.labeled, dtype=np.int64), classed])
    counts = np.bincount(labels[labeled], minlength=n_classes)
    drawn = rng.permutation(pool.unlabeled)[: len(picked)]
    view = PoolView(pool, labels, n_classes, {"student_probabilities": measured.student_train})
    uncertainty = scores(view, entropy).double().cpu().numpy() / (log(n_classes) or 1.0)
    teacher, unlabeled = measured.teacher_train, pool.unlabeled
    known = unlabeled[has_class[unlabeled]]
    right = None if teacher is None else teacher.classes == labels
    probabilities = measured.student_train
    return Diagnostics(
        picks_coverage=len(np.unique(labels[classed])) / min(n_classes, len(picked)) if len(picked) else nan,
        labeled_coverage=float(np.mean(counts > 0)),
        labeled_balance=_balance(counts),
        picks_feature_diversity=_diversity(measured.features, picked, drawn),
        picks_probability_diversity=_diversity(lambda rows: probabilities[torch.from_numpy(rows)], picked, drawn),
        picks_entropy=_mean(uncertainty[picked]),
        pool_entropy=_mean(uncertainty[unlabeled]),
        picks_teacher_accuracy=nan if right is None else _mean(right[classed]),
        pool_teacher_accuracy=nan if right is None else _mean(right[known]),
        **_calibration("student", measured.student_test, dataset.test.labels),
        **_calibration("teacher", measured.teacher_test, dataset.test.labels),
        **_heads(measured, dataset.test.labels),
        **_misled(labels, pool, teacher, predicted(probabilities).cpu().numpy()),
    )


def _calibration(network: str, probabilities: Tensor | None, labels: np.ndarray) -> dict[str, float]:
    if probabilities is None:
        return {f"{network}_ece": nan, f"{network}_nll": nan}
    return {
        f"{network}_ece": calibration_error(probabilities, labels),
        f"{network}_nll": negative_log_likelihood(probabilities, labels),
    }


def _heads(measured: Measured, labels: np.ndarray) -> dict[str, float]:
    """Accuracies of both heads; without a teacher the distill head is not trained."""
    names = ("label_head_accuracy", "distill_head_accuracy")
    if measured.teacher_test is None:
        return dict.fromkeys(names, nan)
    right = measured.heads_test.cpu().numpy() == labels
    return dict(zip(names, right.mean(axis=1).tolist(), strict=True))


def calibration_error(probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]) -> float:
    """Expected calibration error (Guo et al. 2017, Equation 3): |accuracy - confidence| of BINS bins of confidence.

    The mean over bins is weighted by their numbers of images.
    """
    confidence = probabilities.amax(dim=1).double().cpu().numpy()
    right = predicted(probabilities).cpu().numpy() == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right, minlength=BINS) - np.bincount(bins, weights=confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]) -> float:
    """Mean negative log-likelihood of the labels over images, in nats; probabilities are at least LEAST_PROBABILITY."""
    of_label = probabilities.gather(1, torch.from_numpy(labels).to(probabilities.device)[:, None])
    of_label = of_label[:, 0].double().cpu().numpy()
    return float(-np.log(np.maximum(of_label, LEAST_PROBABILITY)).mean())


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else nan


def _balance(counts: Int64[np.ndarray, " classes"]) -> float:
    if len(counts) == 1:
        return 1.0
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / log(len(counts)))


def _diversity(points: Callable[[np.ndarray], Tensor], picked: np.ndarray, drawn: np.ndarray) -> float:
    if len(picked) < 2:
        return nan
    of_drawn = _spacing(points(drawn))
    return _spacing(points(picked)) / of_drawn if of_drawn > 0 else nan


def _spacing(points: Float[Tensor, "q dim"]) -> float:
    """Mean Euclidean distance from each point to its nearest other point."""
    away = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    away.fill_diagonal_(torch.inf)
    return float(away.min(dim=1).values.mean())


def _misled(labels: np.ndarray, pool: Pool, teacher: Opinion | None, student: np.ndarray) -> dict[str, float]:
    if teacher is None:
        return dict.fromkeys(("misled", "misled_learned", "misled_labeled", "misled_mended"), nan)
    has_class = labels != NO_CLASS
    misled = (teacher.confidence >= CONFIDENT) & (teacher.classes != labels) & has_class
    labeled = np.zeros(pool.n, dtype=bool)
    labeled[list(pool.labeled)] = True
    return {
        "misled": _mean(misled[has_class]),
        "misled_learned": _mean((student == teacher.classes)[misled & ~labeled]),
        "misled_labeled": _mean(labeled[misled]),
        "misled_mended": _mean((student == labels)[misled & labeled]),
    }
