"""The driver of a grid while Tune runs its jobs: it follows their progress, and stops a grid that cannot go on."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any, Protocol

from ray.tune import Callback, Stopper

from bench.cluster.address import LOGS
from bench.cluster.order import JOB_ID
from bench.cluster.storing import SHORT_LIFE_SECONDS

ROUNDS, ENDED, STOPPED = "rounds", "ended", "stopped"
"""Keys of a step's result: (trial id, seconds) of each round, (trial id, whether it was given up) of each trial that
ended, and why the whole grid must stop."""


class Progress(Protocol):
    """Receives the progress of the trials."""

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        ...

    def round_done(self, trial_id: str, seconds: float) -> None:
        """A trial has stored a round that took ``seconds``."""
        ...

    def ended(self, trial_id: str, *, failed: bool) -> None:
        """A trial is complete or was given up; told again, it changes nothing."""
        ...


class Watch(Callback, Stopper):
    """Updates the progress, tells the store of dead workers, and stops the grid when it cannot continue.

    A grid cannot continue if workers die for SHORT_LIFE_SECONDS without an end, while no round is finished and no
    worker lives as long. A round may last hours, and a zone of a cluster may go several times within one: workers that
    ran longer died of their nodes.

    Args:
        trials_of: ids of the trials of each job.
        progress: updated as trials start, finish rounds and end.
        died: called with the trials of a job whose worker died, and the seconds that it ran.
        passed: called with each trial that has finished a round or ended.
        clock: seconds from any start.
    """

    def __init__(
        self,
        trials_of: Mapping[str, Sequence[str]],
        progress: Progress,
        died: Callable[[Sequence[str], float], object],
        passed: Callable[[str], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._trials_of, self._progress, self._died, self._passed = trials_of, progress, died, passed
        self._clock = clock
        self._began: dict[str, float] = {}
        self._first_death: float | None = None
        self._deaths = 0
        self.reason: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks for a restore, which the grid never uses; a terminal cannot be pickled."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job_id = trial.config[JOB_ID]
        self._began[job_id] = self._clock()
        for trial_id in self._trials_of[job_id]:
            self._progress.started(trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        for trial_id, seconds in result.get(ROUNDS, ()):
            self._progress.round_done(trial_id, seconds)
            self._passed(trial_id)
        for trial_id, failed in result.get(ENDED, ()):
            self._progress.ended(trial_id, failed=failed)
            self._passed(trial_id)
        if result.get(ROUNDS) or result.get(ENDED):
            self._first_death, self._deaths = None, 0
        self.reason = self.reason or result.get(STOPPED)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began.pop(trial.config[JOB_ID], None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._began.pop(trial.config[JOB_ID], None)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        now, job_id = self._clock(), trial.config[JOB_ID]
        longest = now - min(self._began.values(), default=now)
        self._died(self._trials_of[job_id], now - self._began.pop(job_id, now))
        if longest >= SHORT_LIFE_SECONDS:
            self._first_death, self._deaths = None, 0
            return
        self._deaths += 1
        self._first_death = now if self._first_death is None else self._first_death
        if now - self._first_death >= SHORT_LIFE_SECONDS:
            waited = timedelta(seconds=round(now - self._first_death))
            self.reason = f"workers died {self._deaths} times in {waited} without a finished round; {LOGS}"

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.reason is not None
