"""What trials hold on a device: steps and micro-batches, cohorts and their features, decoded images or their stream."""

from dataclasses import dataclass

from activekd.errors import InputError
from activekd.given import split_teacher
from bench.plan.bank import BYTES, row_bytes
from bench.plan.work import Estimate, Job

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
        images: of the step, labeled and unlabeled.
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

    largest: dict[str, tuple[int, int]] = {}
    for job in estimated.jobs:
        if not estimated.students[job.trial.student].frozen:
            largest[job.trial.student] = max(largest.get(job.trial.student, (0, 0)), _batch(job), key=sum)
    out = {}
    for name, batch in largest.items():
        memory = step_memory(estimated.students[name])
        assert memory is not None
        parts, fault = None, ""
        try:
            parts = n_micro_batches(memory, *batch, int(STEP_SHARE * card.of_trial))
        except InputError as error:
            fault = str(error)
        out[name] = StepNeeds(sum(batch), memory.of(sum(batch)), parts, fault)
    return out


def _batch(job: Job) -> tuple[int, int]:
    """Labeled and unlabeled images of a step of a job."""
    recipe, on_unlabeled = job.trial.recipe, job.trial.distillation in {"unlabeled", "both"}
    return recipe.batch_labeled, recipe.batch_unlabeled if on_unlabeled else 0


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
    size, trial = estimated.sizes[job.trial.dataset], job.trial
    network, _ = split_teacher(trial.teacher)
    of_student = row_bytes(estimated.students[trial.student], estimated.widths[trial.student])
    of_teacher = BYTES * estimated.widths[network] if network else 0
    return (of_student + of_teacher) * (size.n_pool * trial.views.count + size.n_test)


def streams(estimated: Estimate, card: Card) -> dict[str, bool]:
    """Whether the decoded images of each pool stream to the card, since a worker does not hold so many there."""
    from activekd.bank.held import HELD_SHARE

    return {name: held.n_bytes > HELD_SHARE * card.of_trial for name, held in estimated.images.items()}
