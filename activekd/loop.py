"""The order of a round: fit the teacher, fit the student, measure, query; for one trial or a cohort of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from activekd.asking import PREDICTED, ask
from activekd.datasets import Dataset, buy, reveal
from activekd.devices import check_device
from activekd.diagnostics import Diagnostics, Measured, diagnose
from activekd.errors import InputError
from activekd.fitted import Fitted
from activekd.fitting import Fitter, Wanted
from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import Pool
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.rounds import FirstFits, Member, Outcome, Round, StudentViews, TeacherViews
from activekd.selectors.selector import Selector
from activekd.starts import BALANCED, Start
from activekd.starts.checks import train_labels
from activekd.starts.rows import initial_rows
from activekd.streams import stream


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
    inputs_geometry = teacher_geometry if single and recipe.single_view == "inputs" else geometry
    fitter = Fitter(
        dataset.n_classes, student, teacher, recipe, inputs_geometry, teacher_geometry, distillation, device, first_fits
    )
    measure = _Measuring(dataset, rounds, query_size, diagnostics=diagnostics)
    initial = {s: initial_rows(dataset, start, s, student, teacher, device) for s in {m.seed: None for m in members}}
    trials: dict[int, _Trial] = {}
    for position, member in enumerate(members):
        pool = buy(dataset, Pool(len(dataset.train)), initial[member.seed])
        for bought in member.picked:
            pool = buy(dataset, pool, bought)
        if pool.labeled:
            trials[position] = _Trial(member.selector, member.seed, len(member.picked), pool)
        else:
            fault = f"all {pool.n_bought} initial labels of seed {member.seed} are wasted on images of no class"
            yield Outcome(
                position, InputError(f"{dataset.name}: {fault}; expected: start '{BALANCED}', or more labels")
            )
    while open_trials := {position: trial for position, trial in trials.items() if trial.index < rounds}:
        index = min(trial.index for trial in open_trials.values())
        for position, result in _rounds(fitter, measure, [(p, t) for p, t in open_trials.items() if t.index == index]):
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

    def after(self, done: Round, dataset: Dataset) -> "_Trial":
        return replace(self, index=self.index + 1, pool=buy(dataset, self.pool, done.picked))


def _rounds(
    fitter: Fitter, measuring: "_Measuring", trials: Sequence[tuple[int, _Trial]]
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
            forget_peak()
            fits = fitter.fit([want for want, _ in block], width)
            for (want, some), fitted in zip(block, fits, strict=True):
                for position, trial in some:
                    if isinstance(fitted, InputError):
                        yield position, fitted
                    else:
                        yield position, measuring.round_of(want, fitted, trial, read_again=trial is not some[-1][1])


@dataclass(frozen=True)
class _Measuring:
    """Measures the fits of a cohort and asks its selectors."""

    dataset: Dataset
    rounds: int
    query_size: int
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
        recalls = _recalls(test.probabilities, labels)
        return Round(
            index=index,
            n_labeled=want.pool.n_bought,
            picked=rows,
            accuracy=_accuracy(test.probabilities, labels),
            teacher_accuracy=None if taught_test is None else _accuracy(taught_test, labels),
            teacher_seconds=fitted.teacher_seconds,
            train_seconds=fitted.train_seconds,
            predict_seconds=predict_seconds,
            select_seconds=select_seconds,
            peak_rss_bytes=peak,
            diagnostics=self._diagnosed(want, fitted, trial, rows) if self.diagnostics else None,
            macro_accuracy=float(recalls.mean()),
            worst_class_accuracy=float(recalls.min()),
            wasted_labels=len(want.pool.wasted),
        )

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


def _accuracy(probabilities: Float32[Tensor, "n classes"], labels: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(dim=1).cpu().numpy() == labels))


def _recalls(
    probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " tested"]:
    """The accuracy on the images of each class that has some."""
    right = probabilities.argmax(dim=1).cpu().numpy() == labels
    counts = np.bincount(labels)
    return np.bincount(labels, weights=right)[counts > 0] / counts[counts > 0]
