"""The order of jobs under Ray Tune: a search algorithm that suggests them as given, or once others are ready."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher

JOB_ID = "job_id"
"""The one entry of a Tune trial's configuration."""


class InOrder(Searcher):
    """Run jobs in the given order, in O(1) per job.

    A job that follows another waits until that one has given a result, has ended or was released; then it is next.
    Meanwhile Tune gets None, which it takes as "nothing yet": it asks again after each event, or after a tenth of a
    second without one.

    Args:
        job_ids: in the order in which they start.
        follows: the job that must be ahead, by the id of one that follows it.
    """

    def __init__(self, job_ids: Sequence[str], follows: Mapping[str, str] | None = None) -> None:
        super().__init__()
        behind = follows or {}
        self._ready = deque(job_id for job_id in job_ids if job_id not in behind)
        self._waiting: dict[str, list[str]] = {}
        for job_id in job_ids:
            if job_id in behind:
                self._waiting.setdefault(behind[job_id], []).append(job_id)
        self._job_of: dict[str, str] = {}

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        if self._ready:
            self._job_of[trial_id] = job_id = self._ready.popleft()
            return {JOB_ID: job_id}
        return None if self._waiting else Searcher.FINISHED

    def release(self, job_id: str) -> None:
        """Let the jobs that follow this one start."""
        self._ready.extendleft(reversed(self._waiting.pop(job_id, [])))

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
