"""Initial strategies by name: which rows have a label before round 0, and how many. Standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass

from activekd.errors import InputError, unknown

BALANCED, RANDOM, TYPICLUST, TEACHER = "balanced", "random", "typiclust", "teacher"

STARTS = (BALANCED, RANDOM, TYPICLUST, TEACHER)
"""Names of the initial strategies; ``activekd.starts.rows`` has what each does."""


def check_start(name: str, known: Sequence[str] = STARTS) -> str:
    """The name of an initial strategy.

    Raises:
        InputError: no known strategy has that name.
    """
    if name not in known:
        raise unknown("start", name, known)
    return name


@dataclass(frozen=True)
class Start:
    """The initial labels of a run: depending on configuration and seed, never on the query strategy.

    Attributes:
        name: one of STARTS.
        shots: initial labels, as a multiple of the number of classes.
        labels: number of initial labels; None for ``shots`` x classes.

    Raises:
        InputError: the name is unknown, a number is below 1, or both numbers are given.
    """

    name: str = BALANCED
    shots: int = 1
    labels: int | None = None

    def __post_init__(self) -> None:
        check_start(self.name)
        for key, number in (("shots", self.shots), ("initial_labels", self.labels)):
            if number is not None and number < 1:
                raise InputError(f"{key} is {number}; expected: at least 1")
        if self.labels is not None and self.shots != 1:
            raise InputError(f"shots = {self.shots} and initial_labels = {self.labels}; expected: one of them")

    def n_labels(self, n_classes: int) -> int:
        """The number of initial labels.

        >>> Start(shots=2).n_labels(10), Start(labels=7).n_labels(10)
        (20, 7)
        """
        return self.shots * n_classes if self.labels is None else self.labels
