"""The fits of a round of a cohort: teachers first, then students; those on a frozen backbone together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.fitted import Fitted, Taught, naming
from activekd.given import split_teacher
from activekd.pool import Pool
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.rounds import FirstFit, FirstFits, StudentViews, TeacherViews
from activekd.streams import stream
from activekd.students.cohort import MemberFit, fit_cohort, together
from activekd.students.fit import fit_student
from activekd.students.heads import Student, build_student
from activekd.teachers.fixed import fit_numbers

_T = TypeVar("_T")


@dataclass(frozen=True)
class Wanted:
    """A fit of a round: what it depends on within a cohort.

    Attributes:
        index: of the round.
        seed: names its random streams.
        pool: at the start of the round.
        labeled: its labeled rows and their labels.
        features: whether a selector needs the student's features.
        all_labels: whether every row of the pool is labeled, as for the reference line of all labels.
    """

    index: int
    seed: int
    pool: Pool
    labeled: Labeled
    features: bool
    all_labels: bool = False

    @property
    def stream_key(self) -> int | str:
        """The last part of the names of its random streams."""
        return "all labels" if self.all_labels else self.index

    @property
    def unlabeled(self) -> Int64[np.ndarray, " unlabeled"]:
        """The rows of its unlabeled batches: the unlabeled rows; with ``all_labels`` the whole pool."""
        return np.arange(self.pool.n) if self.all_labels else self.pool.unlabeled


@dataclass(frozen=True)
class Fitter:
    """Fits teachers and students for the trials of a cohort.

    Attributes:
        n_classes: number of classes.
        student: network and inputs.
        teacher: teacher and its features; None for training without distillation.
        recipe: hyperparameters of every fit.
        geometry: geometry of the student's views.
        teacher_geometry: geometry of the teacher's views.
        distillation: images that the student distils on.
        device: where teacher and student are fitted.
        first_fits: fits of round 0 of students that are trained end to end, kept from trial to trial.
    """

    n_classes: int
    student: StudentViews
    teacher: TeacherViews | None
    recipe: Recipe
    geometry: ViewGeometry
    teacher_geometry: ViewGeometry
    distillation: Distillation
    device: str
    first_fits: FirstFits | None

    def together(self, want: Wanted) -> int:
        """The number of fits that are computed together, which depends on shapes alone."""
        network = self.student.network
        if not network.frozen:
            return 1
        (dim,) = self.student.train.shape
        steps = self.recipe.n_steps(len(want.labeled.rows), len(want.unlabeled), self.distillation)
        width = held = 0
        if self.teacher is not None:
            width = self.teacher.train.shape[0]
            held = fit_numbers(split_teacher(self.teacher.name)[1], len(want.labeled.rows), width)
        return together(
            dim,
            self.n_classes,
            self.recipe,
            trunk=network.trunk,
            steps=steps,
            teacher_width=width,
            teacher_numbers=held,
        )

    def fit(self, block: Sequence[Wanted], width: int) -> Iterator[Fitted | InputError]:
        """Each fit of a block, or why it is not finite."""
        shares = block[0].index == 0 and not block[0].all_labels and not self.student.network.frozen
        keeper = self.first_fits if shares else None
        if keeper is not None and (kept := keeper.read(block[0].seed)) is not None:
            yield self._restored(block[0], kept)
            return
        start = perf_counter()
        teachers = self._teachers(block, width)
        now = perf_counter()
        teacher_seconds, start = (now - start) / len(block), now
        able = [(want, one) for want, one in zip(block, teachers, strict=True) if not isinstance(one, InputError)]
        students = self._students(able, width) if able else []
        train_seconds = (perf_counter() - start) / max(1, len(able))
        fits = iter(students)
        for want, one in zip(block, teachers, strict=True):
            if isinstance(one, InputError):
                yield one
                continue
            fitted = next(fits)
            if isinstance(fitted, InputError):
                yield fitted
                continue
            if keeper is not None:
                state = {name: value.cpu() for name, value in fitted.state_dict().items()}
                classifier = None if one is None else one.classifier.to("cpu")
                keeper.write(want.seed, FirstFit(state, classifier, teacher_seconds, train_seconds))
            yield self._fitted(want, fitted, one, teacher_seconds, train_seconds)

    def fit_students(self, taught: Sequence[tuple[Wanted, Taught | None]], width: int) -> Iterator[Fitted | InputError]:
        """The fit of the student alone beside each teacher, which is fitted already, or why it is not finite."""
        start = perf_counter()
        students = self._students(taught, width)
        train_seconds = (perf_counter() - start) / len(taught)
        for (want, one), student in zip(taught, students, strict=True):
            failed = isinstance(student, InputError)
            yield student if failed else self._fitted(want, student, one, 0.0, train_seconds)

    def taught(self, want: Wanted) -> Taught:
        """The fitted teacher of a fit, alone.

        Raises:
            InputError: its prototypes are not finite.
            ValueError: there is no teacher.
        """
        (taught,) = self._teachers([want], width=1)
        if taught is None:
            raise ValueError("a teacher's fit without a teacher; expected: a teacher")
        if isinstance(taught, InputError):
            raise taught
        return taught

    def _teachers(self, block: Sequence[Wanted], width: int) -> list[Taught | InputError | None]:
        """The fitted teacher of each fit, or why it is not finite; None without a teacher."""
        teacher, index = self.teacher, block[0].index
        if teacher is None:
            return [None] * len(block)
        padded = self._padded(block, width)
        with naming(index, teacher.who):
            fitted = teacher.adapt(
                teacher.head,
                teacher.train,
                self.teacher_geometry,
                [want.labeled for want in padded],
                self.recipe.clap,
                [stream(want.seed, "teacher", want.stream_key) for want in padded],
                self.device,
            )
        out: list[Taught | InputError | None] = []
        for want, classifier in zip(block, fitted.members(), strict=False):
            try:
                with naming(index, teacher.who):
                    out.append(Taught.checked(teacher, classifier.to(self.device), len(want.labeled.rows), self.recipe))
            except InputError as fault:
                out.append(fault)
        return out

    def _students(self, able: Sequence[tuple[Wanted, Taught | None]], width: int) -> list[Student | InputError]:
        """The fitted student of each fit whose teacher is fitted, or why it is not finite."""
        index = able[0][0].index
        starts = [self._start(want, taught) for want, taught in self._padded(able, width)]
        faults: Sequence[InputError | None]
        with naming(index, self.student.who):
            if self.student.network.frozen:
                arguments = self.student.train, self.distillation, self.recipe, self.geometry
                faults = fit_cohort(starts, *arguments, device=self.device)
            else:
                faults = [self._fit_alone(start) for start in starts]
        out: list[Student | InputError] = []
        for start, fault in zip(starts[: len(able)], faults, strict=False):
            out.append(start.student if fault is None else InputError(f"round {index}, {self.student.who}: {fault}"))
        return out

    def _start(self, want: Wanted, taught: Taught | None) -> MemberFit:
        """A student before its fit."""
        guide = None if taught is None else taught.guide(self.device)
        rng = stream(want.seed, "batches", want.stream_key)
        return MemberFit(self._new_student(want), want.labeled, want.unlabeled, guide, rng)

    def _new_student(self, want: Wanted) -> Student:
        return build_student(
            self.student.network,
            self.student.test.shape,
            self.n_classes,
            trunk_width=self.recipe.trunk_width,
            batch_norm=self.recipe.batch_norm,
            rng=stream(want.seed, "student", want.stream_key),
        )

    def _fit_alone(self, start: MemberFit) -> InputError | None:
        try:
            fit_student(
                start.student,
                self.student.train,
                start.labeled,
                start.unlabeled,
                start.guide,
                self.distillation,
                self.recipe,
                self.geometry,
                rng=start.rng,
                device=self.device,
            )
        except InputError as fault:
            return fault
        return None

    def _padded(self, block: Sequence[_T], width: int) -> list[_T]:
        """On a GPU, always ``width`` fits, since its kernels may round otherwise for another number; else the block."""
        return [*block, *([block[0]] * (width - len(block)) if self.device != "cpu" else [])]

    def _restored(self, want: Wanted, kept: FirstFit) -> Fitted:
        """A kept fit of round 0."""
        student = self._new_student(want)
        student.load_state_dict(dict(kept.state))
        taught = None
        if self.teacher is not None and kept.classifier is not None:
            taught = Taught(self.teacher, kept.classifier.to(self.device))
        return self._fitted(want, student.to(self.device), taught, kept.teacher_seconds, kept.train_seconds)

    def _fitted(
        self, want: Wanted, network: Student, taught: Taught | None, teacher_seconds: float, train_seconds: float
    ) -> Fitted:
        return Fitted(
            want.index,
            network.to(self.device),
            self.student,
            taught,
            self.recipe,
            self.distillation,
            self.device,
            features=want.features,
            forward_passes=self.recipe.forward_passes(len(want.labeled.rows), len(want.unlabeled), self.distillation),
            teacher_seconds=teacher_seconds,
            train_seconds=train_seconds,
        )
