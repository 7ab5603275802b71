"""The work of the trials, job by job: fits of teachers and students, crops, predictions, queries."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, expm1, log1p

import numpy as np

from activekd.datasets import Dataset, Split, banked_name, drawn_for
from activekd.datasets.sizes import Sizes
from activekd.given import split_teacher
from activekd.recipes import NO_TEACHER, ViewGeometry
from activekd.teachers.fixed import fit_numbers, fit_steps
from bench.plan.names import Names
from bench.plan.work import DIAGNOSTICS, PHOTOGRAPH, PICTURE, Example, Job, Task
from bench.spec import Trial
from bench.trials.cohorts import Cohort, cohorts
from bench.trials.resolved import ResolvedTrial

CLAP = "clap"
"""The adaptation that a reference line has."""


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
        n_all_labels: fits of reference lines with all labels, one a configuration and seed.
        n_probes: linear probes of reference lines, one a round, which no rate covers.
    """

    def __init__(self, trials: Sequence[Trial], names: Names, slots: int, device: str, *, diagnostics: bool) -> None:
        self._names, self._slots, self._device, self._diagnostics = names, slots, device, diagnostics
        self._means: dict[Task, _Mean] = {}
        self._crops: defaultdict[_Crops, list[int]] = defaultdict(list)
        self._first_fits: set[Trial] = set()
        self.n_steps = self.n_shared = self.n_all_labels = self.n_probes = 0
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
        size = self._names.sizes[first.dataset]
        together = self._add_fits(work, trials, size)
        self._add_references(work, [trial for trial in trials if trial.measures_references], size)
        self._add_predictions(work, trials, size)
        if first.rounds > 1:
            per_query = first.labels_per_query(size.n_classes)
            sizes = {"n_classes": size.n_classes, "n_pool": size.n_pool, "query_size": per_query}
            for trial in trials:
                amount = (first.rounds - 1) * size.n_pool * size.n_classes * per_query
                self._add(work, Task("select", trial.selector), trial, amount, sizes)
        self._add_crops(work, first, size)
        if (other := first.of_transfer) is not None:
            transferred = self._transfer(other, len({trial.seed for trial in trials}), len(trials), size)
            self._add_crops(transferred, other, size)
            work.update(transferred)
        return Job(first, len(trials), together, work)

    def _add_crops(self, work: "Counter[Task]", trial: Trial, size: Sizes) -> None:
        """Note the crops that the student of a trial reads for this work, if a worker renders them on a CPU."""
        student = self._names.students[trial.student]
        if student.frozen or self._device != "cpu":
            return
        pool, shown = banked_name(drawn_for(trial.dataset, trial.seed)), size.banked
        crops = _Crops(
            pool=f"{pool} at {self._names.sides[trial.student, trial.teacher]} px",
            source=PHOTOGRAPH if size.from_files else PICTURE,
            size=student.size,
            interpolation=student.backbone.interpolation,
            views=trial.views,
            n=shown.n_pool * trial.views.count + shown.n_test,
        )
        self._crops[crops].append(sum(n for t, n in work.items() if t.part in {"student", "predict", "diagnose"}))

    def _transfer(self, other: Trial, n_seeds: int, n_trials: int, size: Sizes) -> "Counter[Task]":
        """The fits of the student that the trials of a cohort transfer to, and its predictions of the test split.

        Args:
            other: a trial of that student.
            n_seeds: seeds of the cohort, whose trials share the fit of round 0.
            n_trials: trials of the cohort.
            size: of the data set.
        """
        work = Counter[Task]()
        for index in range(other.rounds):
            self._add_student_fits(work, other, n_trials if index else n_seeds, index, size)
        tested = (n_seeds + (other.rounds - 1) * n_trials) * size.n_test
        sizes = {"n_classes": size.n_classes, "n_pool": size.n_pool}
        self._add(work, Task("predict", other.student), other, tested, sizes)
        return work

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
        guide, largest = self._names.teachers.get(first.teacher), 1
        for index in range(first.rounds):
            if not (fits := self._n_fits(trials, index, frozen=self._names.students[first.student].frozen)):
                continue
            fits, members, sizes = self._add_student_fits(work, first, fits, index, size)
            largest = max(largest, ceil(members))
            of_teacher = 0 if guide is None else fit_steps(guide.adaptation, sizes["n_labeled"], first.recipe.clap)
            if of_teacher:
                self._add(work, Task("teacher", first.teacher), first, fits * of_teacher, sizes, members)
        return largest

    def _add_student_fits(
        self, work: "Counter[Task]", trial: Trial, fits: int, index: int, size: Sizes
    ) -> tuple[int, float, dict[str, int]]:
        """Add fits of the student of a trial in a round; returns their number with padding, members and sizes."""
        student, recipe = self._names.students[trial.student], trial.recipe
        images = recipe.images_a_step(trial.distillation)
        labeled = trial.initial.n_labels(size.n_classes) + index * trial.labels_per_query(size.n_classes)
        steps = recipe.n_steps(labeled, max(0, size.n_pool - labeled), trial.distillation)
        self.n_steps += fits * steps
        most = self._together(trial, size, labeled, steps) if student.frozen else 1
        products = ceil(fits / most)
        # On a GPU a product has the same width for any number of fits.
        fits = fits if self._device == "cpu" else products * most
        members = fits / products
        sizes = {"n_classes": size.n_classes, "n_labeled": labeled, "n_pool": size.n_pool, "steps": steps}
        amount = fits * steps * (1 if student.frozen else images)
        self._add(work, Task("student", trial.student, images), trial, amount, sizes, members)
        return fits, members, sizes

    def _n_fits(self, trials: Sequence[Trial], index: int, *, frozen: bool) -> int:
        """Fits of a round of a cohort: in round 0, one a seed, and none where another job has the same."""
        if index > 0:
            return len(trials)
        nothing = {"selector": "", "group": "", "recipe_name": "", "rounds": 1, "query_size": 1, "references": False}
        fits = {replace(trial, **nothing) for trial in trials}
        new = fits if frozen else fits - self._first_fits
        self._first_fits |= new
        self.n_shared += len(trials) - len(new)
        return len(new)

    def _add_references(self, work: "Counter[Task]", trials: Sequence[Trial], size: Sizes) -> None:
        """Add the reference lines: fits with all labels, each alone, and CLAP in each round; probes are counted."""
        for trial in trials:
            recipe, guide = trial.recipe, self._names.teachers.get(trial.teacher)
            student = self._names.students[trial.student]
            images = recipe.images_a_step(trial.distillation)
            steps = recipe.n_steps(size.n_pool, size.n_pool, trial.distillation)
            sizes = {"n_classes": size.n_classes, "n_labeled": size.n_pool, "n_pool": size.n_pool}
            self.n_all_labels += 1
            self.n_steps += steps
            amount = steps * (1 if student.frozen else images)
            self._add(work, Task("student", trial.student, images), trial, amount, {**sizes, "steps": steps})
            self._add(work, Task("predict", trial.student), trial, size.n_test, sizes)
            if guide is None:
                continue
            self.n_probes += trial.rounds
            self._add_teacher(work, trial, guide.adaptation, size, size.n_pool)
            if guide.adaptation != CLAP:
                adapted = replace(trial, teacher=f"{guide.network.name}+{CLAP}")
                for index in range(trial.rounds):
                    query_size = trial.labels_per_query(size.n_classes)
                    self._add_teacher(
                        work, adapted, CLAP, size, trial.initial.n_labels(size.n_classes) + index * query_size
                    )

    def _add_teacher(self, work: "Counter[Task]", trial: Trial, adaptation: str, size: Sizes, n_labeled: int) -> None:
        """Add a fit of a trial's teacher on so many labels."""
        sizes = {"n_classes": size.n_classes, "n_labeled": n_labeled, "n_pool": size.n_pool, "steps": 1}
        if steps := fit_steps(adaptation, n_labeled, trial.recipe.clap):
            self._add(work, Task("teacher", trial.teacher), trial, steps, sizes)

    def _together(self, trial: Trial, size: Sizes, labeled: int, steps: int) -> int:
        from activekd.students.cohort import together

        trunk, widths = self._names.students[trial.student].trunk, self._names.widths
        network, adaptation = split_teacher(trial.teacher)
        taught = widths[network] if trial.teacher != NO_TEACHER else 0
        return together(
            widths[trial.student],
            size.n_classes,
            trial.recipe,
            trunk=trunk,
            steps=steps,
            teacher_width=taught,
            teacher_numbers=fit_numbers(adaptation, labeled, taught),
        )

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
