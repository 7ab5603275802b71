"""Transfer: the accuracy of another student on the labels that a trial has bought."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from activekd.accuracies import accuracy
from activekd.errors import InputError
from activekd.fitted import Fitted, Taught
from activekd.fitting import Fitter, Wanted


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
