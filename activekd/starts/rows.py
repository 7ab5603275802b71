"""The rows of the initial strategies: drawn by class or uniformly, typical, or those of which a teacher is sure."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.computing import ENCODE_BATCH
from activekd.bank.views import ViewSource
from activekd.datasets import Dataset
from activekd.errors import InputError
from activekd.fitted import Taught
from activekd.pool import UNLABELED, Pool
from activekd.rounds import StudentViews, TeacherViews
from activekd.selectors.query import view_faults
from activekd.selectors.typical import typiclust
from activekd.selectors.view import PoolView
from activekd.starts import BALANCED, RANDOM, TEACHER, TYPICLUST, Start
from activekd.starts.checks import train_labels
from activekd.streams import stream
from activekd.students.encoders import FrozenFeatures
from activekd.students.networks import StudentNetwork
from activekd.teachers.classifier import from_prototypes

INITIAL = "initial"
"""Purpose of the streams of the initial labels."""


def initial_rows(
    dataset: Dataset, start: Start, seed: int, student: StudentViews, teacher: TeacherViews | None, device: str = "cpu"
) -> tuple[int, ...]:
    """The rows that have a label before round 0, in order of purchase.

    Args:
        dataset: class names and labels.
        start: strategy and number.
        seed: of the trial; names the streams.
        student: its inputs, which ``typiclust`` reads.
        teacher: None without distillation; ``teacher`` reads it.
        device: where networks run.

    Raises:
        InputError: a class has too few train images for ``balanced``, or features are not finite.
    """
    rows = drawn_rows(dataset, start, seed)
    if rows is None:
        rows = unlabeled_rows(start.name, start.n_labels(dataset.n_classes), seed, student, teacher, device)
    return rows


def drawn_rows(dataset: Dataset, start: Start, seed: int) -> tuple[int, ...] | None:
    """``initial_rows`` of a start that reads neither features nor a teacher; None of another."""
    n = start.n_labels(dataset.n_classes)
    if start.name == BALANCED:
        return balanced(dataset, n, seed)
    return uniform(len(dataset.train), n, seed) if start.name == RANDOM else None


def unlabeled_rows(
    name: str, n: int, seed: int, student: StudentViews, teacher: TeacherViews | None, device: str = "cpu"
) -> tuple[int, ...]:
    """The rows of a start that reads no label, in order of preference; arguments as of ``initial_rows``.

    Args:
        name: RANDOM, TYPICLUST or TEACHER.
        n: number of rows.
    """
    if name == RANDOM:
        return uniform(student.train.n_rows, n, seed)
    if name == TYPICLUST:
        return typical(pretrained_features(student, device), n, seed)
    assert name == TEACHER
    assert teacher is not None
    return confident(teacher, n, device)


def balanced(dataset: Dataset, n: int, seed: int) -> tuple[int, ...]:
    """Equally many random rows of each class, class by class; ``class_counts`` says where numbers do not divide.

    Raises:
        InputError: a class has too few train images.
    """
    labels, rng = train_labels(dataset), stream(seed, INITIAL)
    counts = class_counts(dataset.n_classes, n, stream(seed, INITIAL, "classes"))
    rows: list[int] = []
    for label, (name, count) in enumerate(zip(dataset.class_names, counts.tolist(), strict=True)):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            raise InputError(
                f"{dataset.name}: class '{name}' has {len(members)} train images; expected: at least {count}, "
                f"its initial labels"
            )
        rows.extend(rng.choice(members, size=count, replace=False).tolist())
    return tuple(rows)


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


def uniform(n_rows: int, n: int, seed: int) -> tuple[int, ...]:
    """Rows drawn uniformly without replacement."""
    return tuple(stream(seed, INITIAL).choice(n_rows, size=n, replace=False).tolist())


def typical(features: Float32[Tensor, "n_rows dim"], n: int, seed: int) -> tuple[int, ...]:
    """The first query of TypiClust (Hacohen et al. 2022, Algorithm 1): the most typical row of each cluster.

    ``activekd.selectors.typical.typiclust`` has the departures; here no student has learned the features.

    Raises:
        InputError: features are not finite.
    """
    pool = Pool(len(features))
    view = PoolView(pool, np.full(pool.n, UNLABELED), 1, {"features": features})
    for fault in view_faults(view):
        raise InputError(f"start '{TYPICLUST}': {fault}")
    return tuple(typiclust(view, n, rng=stream(seed, INITIAL, TYPICLUST)).tolist())


def confident(teacher: TeacherViews, n: int, device: str = "cpu") -> tuple[int, ...]:
    """Class-balanced rows by the zero-shot teacher; the same for each seed.

    Repeatedly the class with the fewest picks and, of the rows that are predicted as it, the one with the largest
    probability; a class without such a row is passed over. Ties go to the lowest class and the lowest row. A teacher
    that is fitted to labels counts by the zero-shot classifier of its network.
    """
    head = from_prototypes(torch.from_numpy(teacher.head.zero_shot).to(device), teacher.head.logit_scale)
    opinion = Taught(teacher, head).opinion()
    return tuple(by_class(opinion.classes, opinion.confidence, n).tolist())


def by_class(
    classes: Int64[np.ndarray, " n_rows"], confidence: Float32[np.ndarray, " n_rows"], n: int
) -> Int64[np.ndarray, " n"]:
    """Rows in turns of the classes, those with the largest confidence in a class first.

    The k-th row of a class comes after every (k - 1)-th one, so that all rows are ordered by their rank in their class.

    >>> by_class(np.array([0, 0, 0, 2]), np.array([0.5, 0.9, 0.7, 0.4], dtype=np.float32), 4).tolist()
    [1, 3, 2, 0]
    """
    order = np.lexsort((-confidence, classes))
    ordered = classes[order]
    rank = np.empty(len(classes), dtype=np.int64)
    rank[order] = np.arange(len(classes)) - np.searchsorted(ordered, ordered)
    return np.lexsort((classes, rank))[:n]


def pretrained_features(student: StudentViews, device: str = "cpu") -> Float32[Tensor, "n_rows dim"]:
    """The features of all train rows before any fit, from the evaluation view.

    On a frozen backbone they are banked. Otherwise the pretrained backbone runs, as for a bank, in float16 on ``cuda``.
    """
    inputs, network = student.train, student.network
    if not network.frozen:
        return _encoded(inputs, network, device)
    rows = np.arange(inputs.n_rows)
    return inputs.gather(rows, np.zeros_like(rows)).float().cpu()


@torch.inference_mode()
def _encoded(inputs: ViewSource, network: StudentNetwork, device: str) -> Float32[Tensor, "n_rows dim"]:
    encoder, parts = FrozenFeatures(network, device), []
    for start in range(0, inputs.n_rows, ENCODE_BATCH):
        rows = np.arange(start, min(start + ENCODE_BATCH, inputs.n_rows))
        parts.append(encoder.encode(inputs.gather(rows, np.zeros_like(rows))).float().cpu())
    return torch.cat(parts)
