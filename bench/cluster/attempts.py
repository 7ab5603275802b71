"""One cohort under a worker: who runs with whom, which errors count against whom, and what is tried again."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from ray.exceptions import RayError, RayTaskError

from activekd.errors import InputError
from bench.columns import Row
from bench.store.rows import StorageError
from bench.trials.cohorts import Cohort
from bench.trials.run import Fault, run_stored

WARY_DEATHS = 2
"""Deaths of a trial's worker in one round after which the trial runs that round alone, to spare the others."""


class Trials(Protocol):
    """The store of a grid as a worker sees it; see ``bench.cluster.storing.GridStore``."""

    def begin(self, trial_ids: Sequence[str]) -> Sequence[tuple[list[Row], bool]]:
        """The rows of each trial that is about to start, and whether it may start."""
        ...

    def append(self, row: Row) -> Row:
        """Store a row; the row that is stored for its round."""
        ...

    def fault(self, trial_id: str, text: str, *, may_pass: bool) -> bool:
        """Note that a trial raised an error; whether to try it again."""
        ...

    def deaths(self, trial_ids: Sequence[str]) -> Mapping[str, int]:
        """How often the worker of each trial died in its next missing round."""
        ...


@dataclass(frozen=True)
class Ended:
    """A trial that is complete or was given up."""

    trial_id: str
    failed: bool


Run = Callable[[Mapping[str, Sequence[Row]]], Iterator[Row | Fault]]
"""Computes the missing rounds of a cohort from its stored rows on; see ``bench.trials.run.run_cohort_rows``."""


class Attempts:
    """Runs the trials of a cohort until each is complete or given up.

    A trial that raises an error fails alone; it is tried again from its next missing round when the others have ended,
    unless the error cannot pass. An error of the work that the trials share counts for each that is open. If Ray loses
    a worker, a node or an object, Tune restarts the cohort elsewhere; a trial whose worker died WARY_DEATHS times in
    one round then runs this round alone, those with the fewest deaths first. A worker whose device fails is replaced as
    if it had died; the error counts against a trial that ran alone.
    """

    def __init__(self, cohort: Cohort, trials: Trials, run: Run) -> None:
        self._rounds = {t.id: t.trial.rounds for t in cohort.trials}
        self._trials, self._run = trials, run
        self._left: dict[str, None] = dict.fromkeys(self._rounds)
        self._later: dict[str, None] = {}
        self._open: dict[str, None] = {}
        self._ended: list[Ended] = []

    def events(self) -> Iterator[Row | Fault | Ended]:
        """Each stored row, each error after which a trial is tried again, and each trial that ended.

        Raises:
            RayError: Ray lost a worker, a node or an object.
            AcceleratorError: of torch; the device fails in this process from now on.
            StorageError: the results folder cannot be written; as the cause of a RayTaskError from an actor.
        """
        while self._left or self._later:
            if not self._left:
                self._left, self._later = self._later, {}
            deaths = self._trials.deaths(list(self._left))
            wary = [trial_id for trial_id in self._left if deaths[trial_id] >= WARY_DEATHS]
            if wary:
                yield from self._events_of([min(wary, key=lambda trial_id: deaths[trial_id])], one_round=True)
            else:
                yield from self._events_of(list(self._left), one_round=False)

    def _events_of(self, group: Sequence[str], *, one_round: bool) -> Iterator[Row | Fault | Ended]:
        self._open = dict.fromkeys(group)
        try:
            for outcome in run_stored(self._begin, self._run, self._trials.append):
                yield from self._drained()
                if isinstance(outcome, Fault):
                    if spoils_process(outcome.error):
                        raise outcome.error
                    yield self._after(outcome)
                    continue
                yield outcome
                if outcome["round"] + 1 == self._rounds[outcome["trial_id"]]:
                    self._end(outcome["trial_id"], failed=False)
                if one_round:
                    break
            else:
                for trial_id in self._open:
                    self._left.pop(trial_id, None)
        except Exception as error:
            if is_of_ray(error) or isinstance(cause_of(error), StorageError):
                raise
            if spoils_process(error):
                if len(group) == 1:
                    yield self._after(Fault(group[0], error))
                raise
            for trial_id in list(self._open):
                yield self._after(Fault(trial_id, error))
        yield from self._drained()

    def _begin(self) -> dict[str, list[Row]]:
        """The rows of the open trials; those that have ended are noted."""
        rows = {}
        trial_ids = list(self._open)
        for trial_id, (done, may_start) in zip(trial_ids, self._trials.begin(trial_ids), strict=True):
            if may_start and len(done) < self._rounds[trial_id]:
                rows[trial_id] = done
            else:
                self._end(trial_id, failed=not may_start)
        return rows

    def _end(self, trial_id: str, *, failed: bool) -> None:
        self._open.pop(trial_id)
        self._left.pop(trial_id)
        self._ended.append(Ended(trial_id, failed))

    def _drained(self) -> Iterator[Ended]:
        while self._ended:
            yield self._ended.pop(0)

    def _after(self, fault: Fault) -> Fault | Ended:
        """Note an error: the fault of a trial that is tried again, or its end."""
        text = "".join(traceback.format_exception(fault.error))
        again = self._trials.fault(fault.trial_id, text, may_pass=may_pass(fault.error))
        self._open.pop(fault.trial_id)
        self._left.pop(fault.trial_id)
        if not again:
            return Ended(fault.trial_id, failed=True)
        self._later[fault.trial_id] = None
        return fault


def spoils_process(error: Exception) -> bool:
    """Whether every later call of the device fails in this process too, as after an assertion in a kernel."""
    return isinstance(error, torch.AcceleratorError)


def cause_of(error: Exception) -> BaseException:
    """The exception that a task or an actor of Ray raised; any other exception itself."""
    return error.cause if isinstance(error, RayTaskError) else error


def is_of_ray(error: Exception) -> bool:
    """Whether Ray lost a worker, a node or an object."""
    return isinstance(error, RayError) and not isinstance(error, RayTaskError)


def may_pass(error: Exception) -> bool:
    """Whether another attempt of a trial may end otherwise.

    Not so for an ``InputError`` of the trial itself, such as of a fit that diverges; that of a task of Ray may be of
    its node.
    """
    return isinstance(error, RayTaskError) or not isinstance(error, InputError)
