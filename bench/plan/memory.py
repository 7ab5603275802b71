"""What trials hold on a device: steps and micro-batches, cohorts and their features, decoded images or their stream."""

from dataclasses import dataclass

from activekd.errors import InputError
from activekd.given import split_teacher
from bench.plan.bank import BYTES, row_bytes
from bench.plan.work import Estimate, Job
from bench.spec import Trial, with_transfers

GB = 1e9


@dataclass(frozen=True)
class Card:
    """A card, and what a trial has of it.

    Attributes:
        n_bytes: memory of the card.
        share: of the card for one trial.
    """

    n_bytes: float
    share: float = 1.0

    @property
    def of_trial(self) -> float:
        """Bytes that a trial has, less those of its process."""
        from activekd.devices import CONTEXT_BYTES

        return self.n_bytes * min(1.0, self.share) - CONTEXT_BYTES


@dataclass(frozen=True)
class StepNeeds:
    """The memory of the largest step of a student that is trained end to end.

    Attributes:
        images: of the step, labeled and unlabeled, and strong views of these where the objective has them.
        n_bytes: of the step in one piece.
        micro_batches: into which it is cut on the card; None where none fits.
        fault: why no micro-batch fits.
    """

    images: int
    n_bytes: int
    micro_batches: int | None
    fault: str = ""


@dataclass(frozen=True)
class CohortNeeds:
    """What the cohorts of a student on a frozen backbone hold.

    Attributes:
        cohorts: number of them.
        members: trials of the largest.
        together: the most students that are fitted at a time.
        fit_bytes: of such a fit, at most.
        feature_bytes: of the student's and the teacher's features of its data set, at most.
    """

    cohorts: int
    members: int
    together: int
    fit_bytes: int
    feature_bytes: int


def step_needs(estimated: Estimate, card: Card) -> dict[str, StepNeeds]:
    """The largest step of each student that is trained end to end, by name.

    Args:
        estimated: of the grid.
        card: that it is to fit.
    """
    from activekd.students.step_memory import STEP_SHARE, n_micro_batches, step_memory

    largest: dict[str, tuple[int, int, int]] = {}
    for trial in with_transfers(job.trial for job in estimated.jobs):
        if not estimated.students[trial.student].frozen:
            largest[trial.student] = max(largest.get(trial.student, (0, 0, 1)), _batch(trial), key=_images)
    out = {}
    for name, batch in largest.items():
        memory = step_memory(estimated.students[name])
        assert memory is not None
        parts, fault = None, ""
        try:
            labeled, unlabeled, views = batch
            parts = n_micro_batches(memory, labeled, unlabeled, int(STEP_SHARE * card.of_trial), views=views)
        except InputError as error:
            fault = str(error)
        out[name] = StepNeeds(_images(batch), memory.of(_images(batch)), parts, fault)
    return out


def _batch(trial: Trial) -> tuple[int, int, int]:
    """Labeled and unlabeled images of a step of a trial, and views of an unlabeled one."""
    recipe = trial.recipe
    return recipe.batch_labeled, recipe.unlabeled_a_step(trial.distillation), 1 + recipe.has_strong_views


def _images(batch: tuple[int, int, int]) -> int:
    """Images of a step."""
    labeled, unlabeled, views = batch
    return labeled + views * unlabeled


def cohort_needs(estimated: Estimate) -> dict[str, CohortNeeds]:
    """What the cohorts of each student on a frozen backbone hold, by name."""
    from activekd.students.cohort import COHORT_BYTES

    jobs: dict[str, list[Job]] = {}
    for job in estimated.jobs:
        if estimated.students[job.trial.student].frozen:
            jobs.setdefault(job.trial.student, []).append(job)
    return {
        name: CohortNeeds(
            len(of_student),
            max(job.members for job in of_student),
            max(job.together for job in of_student),
            COHORT_BYTES,
            max(_feature_bytes(job, estimated) for job in of_student),
        )
        for name, of_student in jobs.items()
    }


def _feature_bytes(job: Job, estimated: Estimate) -> int:
    """Bytes of the features that a cohort reads: of every view of the pool and view 0 of the test split."""
    size, trial = estimated.sizes[job.trial.dataset].banked, job.trial
    network, _ = split_teacher(trial.teacher)
    students = {name: estimated.students[name] for name in (one.student for one in with_transfers([trial]))}
    of_students = sum(row_bytes(s, estimated.widths[name]) for name, s in students.items() if s.frozen)
    of_teacher = BYTES * estimated.widths[network] if network else 0
    return (of_students + of_teacher) * (size.n_pool * trial.views.count + size.n_test)


def streams(estimated: Estimate, card: Card) -> dict[str, bool]:
    """Whether the decoded images of each pool stream to the card, since a worker does not hold so many there."""
    from activekd.bank.held import HELD_SHARE

    return {name: held.n_bytes > HELD_SHARE * card.of_trial for name, held in estimated.images.items()}
