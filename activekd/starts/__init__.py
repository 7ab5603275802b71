"""Initial strategies by name: which rows have a label before round 0, how many, and what refuses them. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from activekd.datasets import Dataset, reveal
from activekd.errors import InputError, unknown
from activekd.pool import Pool
from activekd.students.networks import StudentNetwork
from activekd.teachers import Teacher

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


def class_counts(n_classes: int, n: int, rng: np.random.Generator) -> Int64[np.ndarray, " classes"]:
    """Equal numbers of each class that sum to ``n``; what is left over goes to random classes, one each.

    Args:
        n_classes: number of classes.
        n: sum of the numbers.
        rng: draws those classes; unused where ``n`` is a multiple of the classes.
    """
    counts = np.full(n_classes, n // n_classes, dtype=np.int64)
    if more := n % n_classes:
        counts[rng.choice(n_classes, size=more, replace=False)] += 1
    return counts


def start_faults(start: Start, student: StudentNetwork, teacher: Teacher | None) -> list[str]:
    """Why a student or a teacher does not have what a start reads, by their names alone.

    Args:
        start: of the run.
        student: the student.
        teacher: None for no distillation.
    """
    if start.name == TEACHER and teacher is None:
        return [f"start '{TEACHER}' without a teacher; expected: a teacher, or another start"]
    if start.name == TYPICLUST and not student.frozen and student.backbone.find is None:
        return [
            f"start '{TYPICLUST}' with student '{student.name}', whose backbone has no pretrained weights; "
            f"expected: another student, or another start"
        ]
    return []


def budget_faults(dataset: Dataset, *, rounds: int, start: Start, query_size: int) -> list[str]:
    """Why a run cannot label so many rows of a data set; empty where it can.

    A class may be left without a label by any start, or by ``balanced`` with fewer labels than classes: teachers,
    students, selectors and diagnostics bear it.
    """
    n, n_pool, n_classes = start.n_labels(dataset.n_classes), len(dataset.train), dataset.n_classes
    given = f"shots = {start.shots}" if start.labels is None else f"initial_labels = {start.labels}"
    if start.name == BALANCED:
        counts, most = np.bincount(train_labels(dataset), minlength=n_classes), -(-n // n_classes)
        if counts.min() < most:
            label = int(counts.argmin())
            return [
                f"{dataset.name}: class '{dataset.class_names[label]}' has {counts[label]} train images; "
                f"expected: at least {most} ({given})"
            ]
    if n > n_pool:
        return [f"{dataset.name}: {n} initial labels ({given}) of {n_pool} images; expected: at most {n_pool}"]
    left = n_pool - n
    if (rounds - 1) * query_size > left:
        return [
            f"{dataset.name}: {rounds - 1} queries of size {query_size} from a pool of {left} unlabeled images; "
            f"expected: rounds and query_size with (rounds - 1) x query_size <= {left}"
        ]
    return []


def train_labels(dataset: Dataset) -> Int64[np.ndarray, " n"]:
    """The label of every train row, from the oracle."""
    n = len(dataset.train)
    return reveal(dataset, Pool(n, tuple(range(n)))).labels
