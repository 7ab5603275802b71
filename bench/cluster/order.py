"""The order of trials under Ray Tune: a search algorithm that suggests them as given."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

TRIAL_ID = "trial_id"
"""The one entry of a Tune trial's configuration."""


class InOrder(Searcher):
    """Run trials in the given order, in O(1) per trial."""

    def __init__(self, trial_ids: Sequence[str]) -> None:
        super().__init__()
        self._left = deque(trial_ids)

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str:
        return {TRIAL_ID: self._left.popleft()} if self._left else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ignore the result: the order is fixed."""

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the store knows the missing rounds, and the grid never reads Tune's snapshots."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing; see ``save``."""
