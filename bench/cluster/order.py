"""The order of trials under Tune: as given, in constant time a trial, where Tune's own looks through all of them."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

TRIAL_ID = "trial_id"
"""The one entry of a Tune trial's configuration."""


class InOrder(Searcher):
    """Hands out configurations in a given order; learns nothing."""

    def __init__(self, trial_ids: Sequence[str]) -> None:
        super().__init__()
        self._left = deque(trial_ids)

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str:
        return {TRIAL_ID: self._left.popleft()} if self._left else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing."""

    def save(self, checkpoint_path: str) -> None:
        """An empty file: what is left to do is known from the store, and Tune's snapshots are never read."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing; see ``save``."""


class FirstWaiting(FIFOScheduler):
    """First come, first served, restarted trials behind those that wait; without a look at those that are done.

    A free worker is handed to the first trial for which no other worker is starting. Tune would hand it to the first
    of all and stop the worker that was starting for it: trials shorter than the start of a worker would then all run
    on one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[Trial, None] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._waiting[trial] = None

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        controller = tune_controller._tune_controller
        first = None
        for trial in list(self._waiting):
            if trial.status != Trial.PENDING:
                del self._waiting[trial]
                continue
            actor = controller._trial_to_actor.get(trial)
            if actor is None or not controller._actor_manager.is_actor_started(actor):
                return trial
            first = first or trial
        return first
