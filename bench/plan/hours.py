"""Hours of a grid at given rates: of one slot, of the slots together, and what they do not cover."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from bench.plan.rates import Rates, rate_of
from bench.plan.work import Estimate, Part, Task


@dataclass(frozen=True)
class Hours:
    """The time that a grid takes.

    Attributes:
        parts: hours of one slot by part.
        students: hours of one slot by student, with the teachers and queries of its trials.
        longest: hours of the longest job.
        slots: jobs at a time.
        unknown: tasks without a rate, which no hours cover, with their amounts.
    """

    parts: Mapping[Part, float]
    students: Mapping[str, float]
    longest: float
    slots: int
    unknown: Mapping[Task, int]

    @property
    def total(self) -> float:
        """Hours of one slot that does all."""
        return sum(self.parts.values())

    @property
    def wall(self) -> float:
        """Hours of all slots at a time: an equal share of the total, and no less than the longest job."""
        return max(self.total / self.slots, self.longest)


def hours(estimated: Estimate, rates: Rates, slots: int) -> Hours:
    """The hours of a grid.

    Args:
        estimated: its work.
        rates: of one slot.
        slots: jobs at a time.
    """
    known = {task: rate for task in estimated.work if (rate := rate_of(task, rates, estimated)) is not None}
    parts: defaultdict[Part, float] = defaultdict(float)
    for task, rate in known.items():
        parts[task.part] += estimated.work[task] / rate / 3600
    students: defaultdict[str, float] = defaultdict(float)
    longest = 0.0
    for job in estimated.jobs:
        spent = sum(amount / known[task] for task, amount in job.work.items() if task in known) / 3600
        students[job.trial.student] += spent
        longest = max(longest, spent)
    unknown = {task: amount for task, amount in estimated.work.items() if task not in known}
    return Hours(parts, students, longest, slots, unknown)
