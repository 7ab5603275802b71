"""What a run reads and gives: views of student and teacher, the members of a cohort, rounds, kept fits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from activekd.bank.gathered import Gathered
from activekd.bank.views import Views, ViewSource
from activekd.diagnostics import Diagnostics
from activekd.recipes import Recipe
from activekd.selectors.selector import Selector
from activekd.students.networks import StudentNetwork
from activekd.teachers.classifier import Classifier
from activekd.teachers.text_heads import TextHead


@dataclass(frozen=True)
class StudentViews:
    """A student with its inputs.

    Attributes:
        network: the student's name, parsed.
        train: views of the train split.
        test: views of the test split; only view 0 is read.
    """

    network: StudentNetwork
    train: ViewSource
    test: ViewSource

    @property
    def who(self) -> str:
        """Names the student in messages."""
        return f"student '{self.network.name}'"


@dataclass(frozen=True)
class Transfer:
    """Another student, fitted in each round on the labels that a trial has bought; it is never asked.

    Attributes:
        student: network and inputs, on the rows of the trial's data set.
        recipe: hyperparameters of its fits. The teacher's stay those of the trial: the fitted teacher is the same.
    """

    student: StudentViews
    recipe: Recipe


@dataclass(frozen=True)
class TeacherViews:
    """A teacher with its banked image features.

    Attributes:
        name: for messages, such as ``clip_rn50+clap``.
        adapt: fits the teachers of a round, with the arguments and the result of ``activekd.teachers.clap.clap``.
        head: text embeddings of the classes, and the logit scale.
        train: features of the views of the train split; view 0 alone where the teacher has a single view.
        test: features of view 0 of the test split, (n_test, width); None where they are not known, and neither is the
            teacher's accuracy. An index into it copies rows.
    """

    name: str
    adapt: Callable[..., Classifier]
    head: TextHead
    train: Views
    test: np.ndarray | Gathered | None

    @property
    def who(self) -> str:
        """Names the teacher in messages."""
        return f"teacher '{self.name}'"


@dataclass(frozen=True)
class Round:
    """The results of one round.

    A fit that several trials share counts for each of them, as it would have cost each alone; one of several fits that
    are computed together counts with its share.

    Attributes:
        index: round number, from 0.
        n_labeled: labels that are paid for before the round, the wasted ones included.
        picked: rows that its query labels, in order of preference; empty in the last round.
        accuracy: the student's top-1 accuracy on the test split, in [0, 1].
        teacher_accuracy: the fitted teacher's top-1 accuracy on the test split, in [0, 1]; None without a teacher, or
            without its features of the test split.
        teacher_seconds: time to fit the teacher.
        train_seconds: time to build and fit the student.
        predict_seconds: time to predict the test split and, where the selector needs it, the train split.
        select_seconds: time of the query.
        peak_rss_bytes: peak resident memory of the round; on systems without /proc, of the whole process.
        diagnostics: diagnostics of the query and the networks; None unless requested. Times and memory exclude them.
        macro_accuracy: the student's mean accuracy over the classes that have test images, in [0, 1].
        worst_class_accuracy: its least accuracy among these classes, in [0, 1].
        wasted_labels: of ``n_labeled``, those spent on images of no class, on which no student trains.
        forward_passes: images that passed through the student in its fit, as ``Recipe.forward_passes`` counts them;
            None where they were not counted.
        transfer_accuracy: top-1 accuracy on the test split, in [0, 1], of another student that is fitted on the same
            labels; None without one. Times and memory exclude it.
        all_labels_accuracy: reference, in round 0 alone: accuracy of the student that is fitted with every label of the
            pool. None unless requested, as the other two; times and memory exclude them.
        probe_accuracy: reference: accuracy of a linear probe of the teacher's features, fitted on the labels of the
            round; None without a teacher, or without its features of the test split.
        clap_accuracy: reference: accuracy of CLAP on these features and labels; None likewise.
    """

    index: int
    n_labeled: int
    picked: tuple[int, ...]
    accuracy: float
    teacher_accuracy: float | None
    teacher_seconds: float
    train_seconds: float
    predict_seconds: float
    select_seconds: float
    peak_rss_bytes: int
    diagnostics: Diagnostics | None = None
    macro_accuracy: float | None = None
    worst_class_accuracy: float | None = None
    wasted_labels: int | None = None
    forward_passes: int | None = None
    transfer_accuracy: float | None = None
    all_labels_accuracy: float | None = None
    probe_accuracy: float | None = None
    clap_accuracy: float | None = None


@dataclass(frozen=True)
class Member:
    """What tells a trial from the others of its cohort.

    Attributes:
        selector: the query strategy.
        seed: names every random stream of the trial, together with its purpose and round.
        picked: the rows of the queries of finished rounds, from round 0; the trial resumes at the next round.
        references: whether its rounds measure the reference lines; no other number depends on it.
    """

    selector: Selector
    seed: int
    picked: Sequence[Sequence[int]] = ()
    references: bool = False


@dataclass(frozen=True)
class Outcome:
    """A round of a member, or the exception with which it left the cohort.

    Attributes:
        member: position among the members.
        result: the round, or the exception of the member's fit, predictions or selector.
    """

    member: int
    result: Round | Exception


@dataclass(frozen=True)
class FirstFit:
    """The fit of round 0, which trials that differ in the selector alone share.

    Attributes:
        state: weights and statistics of the fitted student, by name, on the CPU.
        classifier: of the fitted teacher, on the CPU; None without a teacher.
        teacher_seconds: time to fit the teacher.
        train_seconds: time to build and fit the student.
    """

    state: Mapping[str, Tensor]
    classifier: Classifier | None
    teacher_seconds: float
    train_seconds: float


@runtime_checkable
class FirstFits(Protocol):
    """Keeps the fits of round 0 of one configuration, by seed."""

    def read(self, seed: int) -> FirstFit | None:
        """The fit of that seed; None if none is kept."""
        ...

    def write(self, seed: int, fit: FirstFit) -> None:
        """Keep the fit of that seed."""
        ...
