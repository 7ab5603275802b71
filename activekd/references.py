"""Reference lines of a run: the student with all labels, and a linear probe and CLAP on the teacher's own features."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64

from activekd.accuracies import accuracy
from activekd.datasets import Dataset, buy, reveal
from activekd.errors import InputError
from activekd.fitted import Fitted
from activekd.fitting import Fitter, Wanted
from activekd.pool import Pool
from activekd.rounds import TeacherViews
from activekd.teachers.clap import clap

PROBE_C = 32.0
"""Inverse strength of the probe's L2 penalty, on features of unit norm; as C = 0.32 on features of norm 10."""

PROBE_STEPS = 1_000
"""Most iterations of the probe's L-BFGS."""


def probe_accuracy(
    train: Float[np.ndarray, "labeled dim"],
    labels: Int64[np.ndarray, " labeled"],
    test: Float[np.ndarray, "n dim"],
    test_labels: Int64[np.ndarray, " n"],
) -> float:
    """Accuracy of a linear probe: multinomial logistic regression with an L2 penalty, by scikit-learn's L-BFGS.

    The protocol is that of CLIP (Radford et al. 2021, Appendix A.3). Departures: features have unit norm, and the
    penalty is fixed (PROBE_C), since no label is held out to choose it; at most PROBE_STEPS iterations. A class without
    a label is never predicted; with labels of one class alone it is always predicted.

    Args:
        train: image features of the labeled rows, none of norm 0.
        labels: their classes.
        test: image features of the test split, likewise.
        test_labels: their classes.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) == 1:
        return float(np.mean(test_labels == labels[0]))
    with warnings.catch_warnings():
        # Few labels of many classes are no regression.
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        probe = LogisticRegression(C=PROBE_C, max_iter=PROBE_STEPS).fit(_unit(train), labels)
    return float(np.mean(probe.predict(_unit(test)) == test_labels))


def _unit(features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Features of unit norm in float64."""
    wide = features.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


@dataclass(frozen=True)
class References:
    """Measures the reference lines of a cohort.

    Attributes:
        dataset: class names and labels.
        fitter: of the cohort.
    """

    dataset: Dataset
    fitter: Fitter

    def of(self, want: Wanted, fitted: Fitted) -> dict[str, float | None]:
        """The references of a round, by their fields of ``Round``.

        Args:
            want: the fit of the round, on whose labels the probe and CLAP are fitted.
            fitted: its networks.

        Raises:
            InputError: a fit is not finite.
        """
        out = {"all_labels_accuracy": self._all_labels(want.seed) if want.index == 0 else None}
        teacher = self.fitter.teacher
        if teacher is None or teacher.test is None:
            return out
        test_labels = self.dataset.test.labels
        train = teacher.train.arrays[0][want.labeled.rows]
        probe = probe_accuracy(train, want.labeled.labels, np.asarray(teacher.test), test_labels)
        return {**out, "probe_accuracy": probe, "clap_accuracy": self._clap(teacher, want, fitted)}

    def _all_labels(self, seed: int) -> float:
        """Accuracy of the student, and of its teacher where it has one, fitted with every label of the pool.

        The recipe is that of every round. Its unlabeled batches are drawn from the whole pool, so that the fit has the
        objective, and with fixed steps the work, of any other. Its random streams are its own. Labels are those that
        the oracle reveals.
        """
        n = len(self.dataset.train)
        pool = buy(self.dataset, Pool(n), range(n))
        want = Wanted(0, seed, pool, reveal(self.dataset, pool), features=False, all_labels=True)
        (fitted,) = self.fitter.fit([want], width=1)
        if isinstance(fitted, InputError):
            raise InputError(f"reference with all labels: {fitted}")
        return accuracy(fitted.test.probabilities, self.dataset.test.labels)

    def _clap(self, teacher: TeacherViews, want: Wanted, fitted: Fitted) -> float | None:
        """Accuracy of CLAP on the labels of the round: what a teacher with this adaptation has there."""
        test = fitted.taught_test
        if teacher.adapt is not clap:
            as_clap = replace(self.fitter, teacher=replace(teacher, adapt=clap))
            taught = as_clap.taught(want)
            assert teacher.test is not None
            test = taught.probabilities(teacher.test)
        return None if test is None else accuracy(test, self.dataset.test.labels)
