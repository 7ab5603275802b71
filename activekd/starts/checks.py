"""What refuses a start: a student or teacher that lacks what it reads, or a data set with too few images. No torch."""

import numpy as np
from jaxtyping import Int64

from activekd.datasets import Dataset, reveal
from activekd.pool import NO_CLASS, Pool
from activekd.starts import BALANCED, TEACHER, TYPICLUST, Start
from activekd.students.networks import StudentNetwork
from activekd.teachers import Teacher


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
        labels, most = train_labels(dataset), -(-n // n_classes)
        counts = np.bincount(labels[labels != NO_CLASS], minlength=n_classes)
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
    """The label of every train row, from the oracle; NO_CLASS where it has none."""
    n = len(dataset.train)
    return reveal(dataset, Pool(n, tuple(range(n)))).labels
