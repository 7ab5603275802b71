"""The order of a round: fit the teacher, fit the student, measure, query; for one trial or a cohort of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

import numpy as np
from jaxtyping import Int64

from activekd.accuracies import accuracy, recalls
from activekd.asking import PREDICTED, ask
from activekd.datasets import Dataset, buy, reveal
from activekd.devices import check_device
from activekd.diagnostics import Diagnostics, Measured, diagnose
from activekd.errors import InputError
from activekd.fitted import Fitted, Taught
from activekd.fitting import Fitter, Wanted
from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import Pool
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.references import References
from activekd.rounds import FirstFits, Member, Outcome, Round, StudentViews, TeacherViews, Transfer
from activekd.selectors.selector import Selector
from activekd.starts import BALANCED, Start
from activekd.starts.checks import train_labels
from activekd.starts.rows import initial_rows
from activekd.streams import stream
from activekd.transfer import Transferred


def run_rounds(
    dataset: Dataset,
    student: StudentViews,
    teacher: TeacherViews | None,
    selector: Selector,
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    rounds: int,
    start: Start,
    query_size: int,
    distillation: Distillation,
    seed: int,
    picked: Sequence[Sequence[int]] = (),
    device: str = "cpu",
    diagnostics: bool = False,
) -> Iterator[Round]:
    """Active learning with distillation (ActiveKD; Kang et al. 2025, Algorithm 1), one Round at a time.

    A cohort of one; see ``run_cohort`` for the arguments, and ``Member`` for ``selector``, ``seed`` and ``picked``.

    Yields:
        The rounds after those of ``picked``, in order.

    Raises:
        InputError: as ``run_cohort``; or a fit or prediction of the teacher or the student is not finite. Messages give
            the round.
        ValueError: ``distillation`` does not fit the teacher, or the selector broke its contract.
    """
    for outcome in run_cohort(
        dataset,
        student,
        teacher,
        [Member(selector, seed, picked)],
        recipe,
        geometry,
        rounds=rounds,
        start=start,
        query_size=query_size,
        distillation=distillation,
        device=device,
        diagnostics=diagnostics,
    ):
        if isinstance(outcome.result, Exception):
            raise outcome.result
        yield outcome.result


def run_cohort(
    dataset: Dataset,
    student: StudentViews,
    teacher: TeacherViews | None,
    members: Sequence[Member],
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    rounds: int,
    start: Start,
    query_size: int,
    distillation: Distillation,
    device: str = "cpu",
    diagnostics: bool = False,
    first_fits: FirstFits | None = None,
    transfer: Transfer | None = None,
) -> Iterator[Outcome]:
    """The rounds of trials that differ in selector and seed alone.

    The streams of the initial labels, the student's initialisation and its batches are named by seed and round,
    independently of the selector. Trials that differ in the selector alone therefore share round 0, and a trial resumes
    from its labeled rows without any other state. Equal fits, of one seed on the same labels, are computed once; those
    of students on a frozen backbone are computed together. A trial has the same numbers alone, in any cohort and in
    any order, on one kind of device.

    A member whose fit, prediction or selector raises an exception leaves the cohort; the others go on. Members whose
    next round is lowest come first, so that all are soon in the same round.

    Args:
        dataset: class names and labels; its images are not read.
        student: network and inputs.
        teacher: teacher and its features; None trains without distillation.
        members: selector, seed and finished rounds of each trial.
        recipe: hyperparameters of every fit.
        geometry: geometry of the views.
        rounds: number of rounds; each but the last ends with a query.
        start: strategy and number of the initial labels; the times of rounds exclude it.
        query_size: labels per query.
        distillation: images that the student distils on; ``none`` exactly without a teacher.
        device: ``cpu``, ``cuda`` or ``mps``: where networks are fitted and selectors find their arrays, which are on
            the CPU for ``mps``, as it lacks float64.
        diagnostics: whether to compute diagnostics, for which the student predicts the train split in every round; no
            other number depends on it.
        first_fits: fits of round 0 of students that are trained end to end, kept from trial to trial.
        transfer: another student to fit on the same labels in each round; no number but its accuracy depends on it.

    Yields:
        An outcome for each missing round, and one for each member that leaves.

    Raises:
        InputError: a class has fewer train images than its initial labels, or a query is larger than the unlabeled
            pool; or this machine lacks the device.
        ValueError: ``distillation`` does not fit the teacher.
    """
    check_device(device)
    single = teacher is not None and len(teacher.train) == 1
    teacher_geometry = replace(geometry, count=1) if single else geometry

    def fitter_of(views: StudentViews, numbers: Recipe, kept: FirstFits | None) -> Fitter:
        seen = teacher_geometry if single and numbers.single_view == "inputs" else geometry
        return Fitter(dataset.n_classes, views, teacher, numbers, seen, teacher_geometry, distillation, device, kept)

    fitter = fitter_of(student, recipe, first_fits)
    transferred = None
    if transfer is not None:
        transferred = Transferred(fitter_of(transfer.student, transfer.recipe, None), dataset.test.labels)
    measure = _Measuring(dataset, rounds, query_size, References(dataset, fitter), diagnostics=diagnostics)
    initial = {s: initial_rows(dataset, start, s, student, teacher, device) for s in {m.seed: None for m in members}}
    trials: dict[int, _Trial] = {}
    for position, member in enumerate(members):
        pool = buy(dataset, Pool(len(dataset.train)), initial[member.seed])
        for bought in member.picked:
            pool = buy(dataset, pool, bought)
        if pool.labeled:
            trials[position] = _Trial(member.selector, member.seed, len(member.picked), pool, member.references)
        else:
            fault = f"all {pool.n_bought} initial labels of seed {member.seed} are wasted on images of no class"
            yield Outcome(
                position, InputError(f"{dataset.name}: {fault}; expected: start '{BALANCED}', or more labels")
            )
    while open_trials := {position: trial for position, trial in trials.items() if trial.index < rounds}:
        index = min(trial.index for trial in open_trials.values())
        before = [(position, trial) for position, trial in open_trials.items() if trial.index == index]
        for position, result in _rounds(fitter, measure, transferred, before):
            if isinstance(result, Round):
                trials[position] = trials[position].after(result, dataset)
            else:
                del trials[position]
            yield Outcome(position, result)


@dataclass(frozen=True)
class _Trial:
    """A trial before its round ``index``."""

    selector: Selector
    seed: int
    index: int
    pool: Pool
    references: bool

    def after(self, done: Round, dataset: Dataset) -> "_Trial":
        return replace(self, index=self.index + 1, pool=buy(dataset, self.pool, done.picked))


_Readers = tuple[Wanted, Sequence[tuple[int, _Trial]]]
"""A fit, and the trials that read it with their positions."""

_Done = tuple[int, Round | Exception, tuple[Wanted, Taught | None] | None]
"""Position and round of a trial, and what it was fitted on; None where that failed."""


def _rounds(
    fitter: Fitter, measuring: "_Measuring", transferred: Transferred | None, trials: Sequence[tuple[int, _Trial]]
) -> Iterator[tuple[int, Round | Exception]]:
    """The round of each of these trials, which are all before the same one, with their positions."""
    readers: dict[tuple[int, Pool], list[tuple[int, _Trial]]] = {}
    for position, trial in trials:
        readers.setdefault((trial.seed, trial.pool), []).append((position, trial))
    # Fits that are computed together have equally many labels, which trials that have wasted some do not.
    alike: dict[int, list[tuple[Wanted, list[tuple[int, _Trial]]]]] = {}
    for some in readers.values():
        _, first = some[0]
        labeled = reveal(measuring.dataset, first.pool)
        features = any("features" in trial.selector.needs for _, trial in some)
        want = Wanted(first.index, first.seed, first.pool, labeled, features)
        alike.setdefault(len(labeled.rows), []).append((want, some))
    for wanted in alike.values():
        width = fitter.together(wanted[0][0])
        waiting = iter(wanted)
        while block := list(islice(waiting, width)):
            done = _block(fitter, measuring, block, width)
            yield from (one[:2] for one in done) if transferred is None else _with_transfer(transferred, done)


def _block(fitter: Fitter, measuring: "_Measuring", block: Sequence[_Readers], width: int) -> Iterator[_Done]:
    """The round of each trial of fits that are computed together; reference lines last, so that costs exclude them."""
    forget_peak()
    fits = fitter.fit([want for want, _ in block], width)
    referring: list[tuple[int, Round, Wanted, Fitted]] = []
    for (want, some), fitted in zip(block, fits, strict=True):
        for position, trial in some:
            if isinstance(fitted, InputError):
                yield position, fitted, None
                continue
            result = measuring.round_of(want, fitted, trial, read_again=trial is not some[-1][1])
            if trial.references and isinstance(result, Round):
                referring.append((position, result, want, fitted))
            else:
                yield position, result, (want, fitted.taught)
    for position, done, want, fitted in referring:
        yield position, measuring.referred(done, want, fitted), (want, fitted.taught)


def _with_transfer(transferred: Transferred, done: Iterator[_Done]) -> Iterator[tuple[int, Round | Exception]]:
    """The rounds of a block with the accuracy of another student, once all are measured, so that costs exclude it.

    Trials that share a fit share its transfer; a fit that all its trials have left has none.
    """
    rounds = [*done]
    bases = {id(base[0]): base for _, result, base in rounds if base is not None and isinstance(result, Round)}
    found = dict(zip(bases, transferred.accuracies([*bases.values()]), strict=True))
    for position, result, base in rounds:
        if base is None or not isinstance(result, Round):
            yield position, result
            continue
        reached = found[id(base[0])]
        yield position, reached if isinstance(reached, InputError) else replace(result, transfer_accuracy=reached)


@dataclass(frozen=True)
class _Measuring:
    """Measures the fits of a cohort and asks its selectors."""

    dataset: Dataset
    rounds: int
    query_size: int
    references: References
    diagnostics: bool

    def round_of(self, want: Wanted, fitted: Fitted, trial: _Trial, *, read_again: bool) -> Round | Exception:
        """The round of a trial from its fit, or the exception that it raised.

        Args:
            want: the fit.
            fitted: its networks.
            trial: before the round.
            read_again: whether another trial will read the predictions; the selector then gets copies.
        """
        try:
            return self._measured(want, fitted, trial, read_again)
        except Exception as fault:  # Whatever a user's selector raises is that trial's own.
            return fault

    def _measured(self, want: Wanted, fitted: Fitted, trial: _Trial, read_again: bool) -> Round:
        index, labels = want.index, self.dataset.test.labels
        last = index + 1 == self.rounds
        test, taught_test = fitted.test, fitted.taught_test
        asks = not last and bool(trial.selector.needs & PREDICTED)
        if asks:
            _ = fitted.pool
        predict_seconds = fitted.test_seconds + asks * fitted.pool_seconds
        start = perf_counter()
        rows: tuple[int, ...] = ()
        if not last:
            copied, n_classes = read_again or self.diagnostics, self.dataset.n_classes
            rows = tuple(
                ask(
                    trial.selector,
                    want,
                    fitted,
                    trial.pool,
                    n_classes,
                    self.query_size,
                    copied=copied,
                    truth=self._truth,
                )
            )
        select_seconds = perf_counter() - start
        peak = peak_rss_bytes()
        of_classes = recalls(test.probabilities, labels)
        return Round(
            index=index,
            n_labeled=want.pool.n_bought,
            picked=rows,
            accuracy=accuracy(test.probabilities, labels),
            teacher_accuracy=None if taught_test is None else accuracy(taught_test, labels),
            teacher_seconds=fitted.teacher_seconds,
            train_seconds=fitted.train_seconds,
            predict_seconds=predict_seconds,
            select_seconds=select_seconds,
            peak_rss_bytes=peak,
            diagnostics=self._diagnosed(want, fitted, trial, rows) if self.diagnostics else None,
            macro_accuracy=float(of_classes.mean()),
            worst_class_accuracy=float(of_classes.min()),
            wasted_labels=len(want.pool.wasted),
            forward_passes=fitted.forward_passes,
        )

    def referred(self, done: Round, want: Wanted, fitted: Fitted) -> Round | Exception:
        """A round with its reference lines, or the exception that one raised."""
        try:
            return replace(done, **self.references.of(want, fitted))
        except Exception as fault:  # That of one trial leaves the others alone.
            return fault

    def _truth(self) -> Int64[np.ndarray, " n"]:
        return train_labels(self.dataset)

    def _diagnosed(self, want: Wanted, fitted: Fitted, trial: _Trial, rows: Sequence[int]) -> Diagnostics:
        measured = Measured(
            fitted.pool.probabilities,
            fitted.features,
            fitted.test.probabilities,
            fitted.opinion,
            fitted.taught_test,
            fitted.test.heads,
        )
        rng = stream(trial.seed, "diagnostics", want.index)
        return diagnose(self.dataset, trial.pool, np.array(rows, dtype=np.int64), measured, rng=rng)
