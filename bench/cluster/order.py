"""The order of jobs under Ray Tune: the first of those that can start, as given."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

JOB_ID = "job_id"
"""The one entry of a Tune trial's configuration."""


class InOrder(Searcher):
    """Run jobs in the given order, but none before it is ready.

    A job that follows another is not ready before that one has given a result, has ended or was released.

    Args:
        job_ids: in the order in which they are to start.
        ready: whether a job can start without waiting.
        hand_out: called with each job that is handed to Tune.
        follows: the job that must be ahead, by the id of one that follows it.
    """

    def __init__(
        self,
        job_ids: Sequence[str],
        ready: Callable[[str], bool] = lambda job_id: True,
        hand_out: Callable[[str], object] = lambda job_id: None,
        follows: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._ready, self._hand_out = ready, hand_out
        self._behind: dict[str, list[str]] = {}
        for job_id, ahead in (follows or {}).items():
            self._behind.setdefault(ahead, []).append(job_id)
        self._left = OrderedDict.fromkeys(job_id for job_id in job_ids if job_id not in (follows or {}))
        self._job_of: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its search for a restore, which the grid never uses."""
        return {}

    def next_id(self) -> str | None:
        """The first job that is ready; None while none is."""
        return next((job_id for job_id in self._left if self._ready(job_id)), None)

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        chosen = self.next_id()
        if chosen is None:
            return None if self._left or self._behind else Searcher.FINISHED
        del self._left[chosen]
        self._hand_out(chosen)
        self._job_of[trial_id] = chosen
        return {JOB_ID: chosen}

    def release(self, job_id: str) -> None:
        """Let the jobs that follow this one start next."""
        for behind in reversed(self._behind.pop(job_id, [])):
            self._left[behind] = None
            self._left.move_to_end(behind, last=False)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Release what follows the job: its first round is stored, or has failed."""
        self.release(self._job_of[trial_id])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Release what follows the job, however it ended."""
        self.release(self._job_of[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the store knows the missing rounds, and the grid never reads Tune's snapshots."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing; see ``save``."""


class AsReady(SearchGenerator):
    """Tune's generator of trials, which counts as finished for as long as no job is ready.

    So an idle worker gives its resources back to the tasks that fill the bank, where Tune would keep one for the next
    job, and a run of Tune ends when nothing runs and nothing can start.

    Args:
        order: of the jobs.
        max_concurrent: jobs at a time; None for as many as fit.
    """

    def __init__(self, order: InOrder, max_concurrent: int | None = None) -> None:
        super().__init__(order if max_concurrent is None else ConcurrencyLimiter(order, max_concurrent))
        self._order = order

    def is_finished(self) -> bool:
        return super().is_finished() or self._order.next_id() is None


class StayWithWorker(FIFOScheduler):
    """Tune's scheduler, which leaves a job with the worker that starts for it.

    Otherwise the first job that waits moves to a worker that falls idle, and the worker that starts is killed. Where
    jobs are shorter than the start of a worker, a slot that the bank used for a while would stay empty from then on.
    The jobs that Tune has must be no more than the slots: an idle worker then finds a job for which none starts.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune starts the jobs that wait in their order."""


class ReleaseAtDeath(Callback):
    """Releases what follows a job whose worker died: Tune restarts that job, and nothing waits for it again."""

    def __init__(self, order: InOrder) -> None:
        self._order = order

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks for a restore, which the grid never uses."""
        return {}

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Release the jobs that follow."""
        self._order.release(trial.config[JOB_ID])
