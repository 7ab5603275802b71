"""The work of the trials, job by job: fits of teachers and students, crops, predictions, queries."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, expm1, log1p

import numpy as np

from activekd.datasets import Dataset, Split, drawn_for
from activekd.datasets.sizes import Sizes
from activekd.recipes import NO_TEACHER, ViewGeometry
from activekd.teachers.fixed import fit_steps
from bench.plan.names import Names
from bench.plan.work import DIAGNOSTICS, PHOTOGRAPH, PICTURE, Example, Job, Task
from bench.spec import Trial
from bench.trials.cohorts import Cohort, cohorts
from bench.trials.resolved import ResolvedTrial


@dataclass(frozen=True)
class _Crops:
    """The crops that some trials trained end to end read; a worker on a CPU keeps them while its memo has room.

    Attributes:
        pool: the data set with its draw, and the shorter side of its images.
        source: what they are rendered from, PHOTOGRAPH or PICTURE.
        size: side in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        views: geometry of the crops.
        n: crops of all views of the pool and of view 0 of the test split.
    """

    pool: str
    source: str
    size: int
    interpolation: str
    views: ViewGeometry
    n: int

    def rendered(self, read: Sequence[int], workers: int) -> int:
        """Crops that are rendered, on average, where trials read so many at random.

        Args:
            read: crops that each trial reads.
            workers: that run the trials.
        """
        from activekd.bank.held import HOST_BYTES

        kept = min(1.0, HOST_BYTES / (self.n * 3 * self.size**2))
        workers, total = min(workers, len(read)), sum(read)
        return round((1 - kept) * total + kept * workers * distinct(self.n, total / workers))


def distinct(n: int, draws: float) -> float:
    """Expected number of distinct items among draws with replacement from n: n (1 - (1 - 1/n)^draws)."""
    return 1.0 if n == 1 else -n * expm1(draws * log1p(-1 / n))


@dataclass
class _Mean:
    """The sums behind an Example, weighted by amounts; of the members the harmonic mean counts."""

    trial: Trial
    amount: int = 0
    members: float = 0.0
    sums: "Counter[str]" = field(default_factory=Counter)

    def add(self, amount: int, members: float, sizes: Mapping[str, int]) -> None:
        self.amount += amount
        self.members += amount / members
        for name, value in sizes.items():
            self.sums[name] += amount * value

    def example(self) -> Example:
        means = {name: max(1, round(total / self.amount)) for name, total in self.sums.items()}
        return Example(self.trial, members=round(self.amount / self.members), **means)


class TrialWork:
    """The jobs of a grid, with the amounts of their tasks.

    Attributes:
        jobs: cohorts, the largest first.
        n_steps: optimiser steps of all students.
        n_shared: fits of round 0 that are not done, since a trial that differs in the selector alone has the same.
    """

    def __init__(self, trials: Sequence[Trial], names: Names, slots: int, device: str, *, diagnostics: bool) -> None:
        self._names, self._slots, self._device, self._diagnostics = names, slots, device, diagnostics
        self._means: dict[Task, _Mean] = {}
        self._crops: defaultdict[_Crops, list[int]] = defaultdict(list)
        self._first_fits: set[Trial] = set()
        self.n_steps = self.n_shared = 0
        self.jobs = [self._job(cohort) for cohort in cohorts(_stand_ins(trials, names), slots, {})]

    @property
    def examples(self) -> dict[Task, Example]:
        """What each task is measured on."""
        return {task: mean.example() for task, mean in self._means.items()}

    @property
    def rendering(self) -> Mapping[Task, int]:
        """Crops that the workers render on a CPU for students trained end to end."""
        out: Counter[Task] = Counter()
        for crops, read in self._crops.items():
            out[Task("render", crops.source, crops.size)] += crops.rendered(read, self._slots)
        return out

    def _job(self, cohort: Cohort) -> Job:
        trials, work = [each.trial for each in cohort.trials], Counter[Task]()
        first = trials[0]
        size, student = self._names.sizes[first.dataset], self._names.students[first.student]
        together = self._add_fits(work, trials, size)
        self._add_predictions(work, trials, size)
        if first.rounds > 1:
            per_query = first.labels_per_query(size.n_classes)
            sizes = {"n_classes": size.n_classes, "n_pool": size.n_pool, "query_size": per_query}
            for trial in trials:
                amount = (first.rounds - 1) * size.n_pool * size.n_classes * per_query
                self._add(work, Task("select", trial.selector), trial, amount, sizes)
        if not student.frozen and self._device == "cpu":
            crops = _Crops(
                pool=f"{drawn_for(first.dataset, first.seed)} at {self._names.sides[first.student, first.teacher]} px",
                source=PHOTOGRAPH if size.from_files else PICTURE,
                size=student.size,
                interpolation=student.backbone.interpolation,
                views=first.views,
                n=size.n_pool * first.views.count + size.n_test,
            )
            self._crops[crops].append(sum(n for t, n in work.items() if t.part in {"student", "predict", "diagnose"}))
        return Job(first, len(trials), together, work)

    def _add(
        self, work: "Counter[Task]", task: Task, trial: Trial, amount: int, sizes: Mapping[str, int], members: float = 1
    ) -> None:
        work[task] += amount
        mean = self._means.setdefault(task, _Mean(trial))
        mean.add(amount, members, sizes)
        if mean.trial.teacher == NO_TEACHER:
            mean.trial = trial

    def _add_fits(self, work: "Counter[Task]", trials: Sequence[Trial], size: Sizes) -> int:
        """Add the fits of all rounds; returns the most that are computed together."""
        first = trials[0]
        student, guide, recipe = (
            self._names.students[first.student],
            self._names.teachers.get(first.teacher),
            first.recipe,
        )
        on_unlabeled = first.distillation in {"unlabeled", "both"}
        images = recipe.batch_labeled + (recipe.batch_unlabeled if on_unlabeled else 0)
        per_query, largest = first.labels_per_query(size.n_classes), 1
        for index in range(first.rounds):
            labeled = first.initial.n_labels(size.n_classes) + index * per_query
            steps = recipe.n_steps(labeled, max(0, size.n_pool - labeled))
            if not (fits := self._n_fits(trials, index, frozen=student.frozen)):
                continue
            self.n_steps += fits * steps
            most = self._together(first, size, steps) if student.frozen else 1
            products = ceil(fits / most)
            # On a GPU a product has the same width for any number of fits.
            fits = fits if self._device == "cpu" else products * most
            members = fits / products
            largest = max(largest, ceil(members))
            sizes = {"n_classes": size.n_classes, "n_labeled": labeled, "n_pool": size.n_pool, "steps": steps}
            amount = fits * steps * (1 if student.frozen else images)
            self._add(work, Task("student", first.student, images), first, amount, sizes, members)
            of_teacher = 0 if guide is None else fit_steps(guide.adaptation, labeled, recipe.clap)
            if of_teacher:
                self._add(work, Task("teacher", first.teacher), first, fits * of_teacher, sizes, members)
        return largest

    def _n_fits(self, trials: Sequence[Trial], index: int, *, frozen: bool) -> int:
        """Fits of a round of a cohort: in round 0, one a seed, and none where another job has the same."""
        if index > 0:
            return len(trials)
        fits = {replace(trial, selector="") for trial in trials}
        new = fits if frozen else fits - self._first_fits
        self._first_fits |= new
        self.n_shared += len(trials) - len(new)
        return len(new)

    def _together(self, trial: Trial, size: Sizes, steps: int) -> int:
        from activekd.students.cohort import together

        trunk, width = self._names.students[trial.student].trunk, self._names.widths[trial.student]
        return together(width, size.n_classes, trial.recipe, trunk=trunk, steps=steps)

    def _add_predictions(self, work: "Counter[Task]", trials: Sequence[Trial], size: Sizes) -> None:
        """Add the predictions of all rounds; trials of a cohort that share a fit share its predictions."""
        first = trials[0]
        per_query, queries = first.labels_per_query(size.n_classes), first.rounds - 1
        asking = [self._asks(trial) for trial in trials]
        seeds = {trial.seed: False for trial in trials}
        for trial, asks in zip(trials, asking, strict=True):
            seeds[trial.seed] |= asks and queries > 0
        tested = len(seeds) + queries * len(trials)
        asked = sum(seeds.values()) + max(0, queries - 1) * sum(asking)
        sizes = {"n_classes": size.n_classes, "n_pool": size.n_pool}
        self._add(work, Task("predict", first.student), first, tested * size.n_test + asked * size.n_pool, sizes)
        if self._diagnostics:
            # The diversity of the picks, and of equally many images drawn at random.
            compared = len(trials) * queries * 2 * per_query if per_query > 1 else 0
            amount = (tested - asked) * size.n_pool + compared
            self._add(work, Task("diagnose", first.student), first, amount, sizes)
            amount = len(trials) * first.rounds * size.n_pool * size.n_classes
            self._add(work, Task("measure", DIAGNOSTICS), first, amount, {**sizes, "query_size": per_query})

    def _asks(self, trial: Trial) -> bool:
        """Whether the selector of a trial needs predictions of the pool."""
        return bool(self._names.selectors[trial.selector].needs & {"student_probabilities", "features"})


def _stand_ins(trials: Sequence[Trial], names: Names) -> list[ResolvedTrial]:
    """The trials on data sets that have the sizes alone."""
    datasets: dict[tuple[str, int], Dataset] = {}
    out = []
    for trial in trials:
        size, key = (
            names.sizes[trial.dataset],
            (drawn_for(trial.dataset, trial.seed), names.sides[trial.student, trial.teacher]),
        )
        if key not in datasets:
            train, val, test = (
                Split(None, np.zeros(n, dtype=np.int64)) for n in (size.n_pool, size.n_val, size.n_test)
            )
            datasets[key] = Dataset(key[0], ("",) * size.n_classes, (), train, val, test, short_side=key[1])
        student, guide = names.students[trial.student], names.teachers.get(trial.teacher)
        out.append(ResolvedTrial(trial, datasets[key], student, guide, names.selectors[trial.selector]))
    return out
