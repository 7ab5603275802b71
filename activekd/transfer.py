"""Transfer: the accuracy of another student on the labels that a trial has bought."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.errors import InputError
from activekd.fitted import Fitted, Taught
from activekd.fitting import Fitter, Wanted


def accuracy(probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]) -> float:
    """Top-1 accuracy, in [0, 1]."""
    return float(np.mean(probabilities.argmax(dim=1).cpu().numpy() == labels))


@dataclass(frozen=True)
class Transferred:
    """Fits another student on the labels of fits, and measures it; it has the random streams of a trial of its own.

    Attributes:
        fitter: of the student; its teachers are those of the trials.
        labels: of the test split.
    """

    fitter: Fitter
    labels: Int64[np.ndarray, " n"]

    def accuracies(self, taught: Sequence[tuple[Wanted, Taught | None]]) -> Iterator[float | InputError]:
        """The test accuracy on the labels of each fit, beside its fitted teacher, or why it is not finite."""
        if not taught:
            return
        width = self.fitter.together(taught[0][0])
        for start in range(0, len(taught), width):
            for fitted in self.fitter.fit_students(taught[start : start + width], width):
                yield self._measured(fitted)

    def _measured(self, fitted: Fitted | InputError) -> float | InputError:
        if isinstance(fitted, InputError):
            return InputError(f"transfer: {fitted}")
        try:
            return accuracy(fitted.test.probabilities, self.labels)
        except InputError as fault:
            return InputError(f"transfer: {fault}")
