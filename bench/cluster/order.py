"""The order of trials under Ray Tune: the first of those that can start, as given."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

TRIAL_ID = "trial_id"
"""The one entry of a Tune trial's configuration."""


class InOrder(Searcher):
    """Run trials in the given order, but none before it is ready.

    Args:
        trial_ids: in the order in which they are to start.
        ready: whether a trial can start without waiting.
        hand_out: called with each trial that is handed to Tune.
    """

    def __init__(
        self,
        trial_ids: Sequence[str],
        ready: Callable[[str], bool] = lambda trial_id: True,
        hand_out: Callable[[str], object] = lambda trial_id: None,
    ) -> None:
        super().__init__()
        self._left = OrderedDict.fromkeys(trial_ids)
        self._ready, self._hand_out = ready, hand_out

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its search for a restore, which the grid never uses."""
        return {}

    def next_id(self) -> str | None:
        """The first trial that is ready; None while none is."""
        return next((trial_id for trial_id in self._left if self._ready(trial_id)), None)

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str | None:
        chosen = self.next_id()
        if chosen is None:
            return None if self._left else Searcher.FINISHED
        del self._left[chosen]
        self._hand_out(chosen)
        return {TRIAL_ID: chosen}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ignore the result: the order is fixed."""

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: the store knows the missing rounds, and the grid never reads Tune's snapshots."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing; see ``save``."""


class AsReady(SearchGenerator):
    """Tune's generator of trials, which counts as finished for as long as no trial is ready.

    So an idle worker gives its resources back to the tasks that fill the bank, where Tune would keep one for the next
    trial, and a run of Tune ends when nothing runs and nothing can start.

    Args:
        order: of the trials.
        max_concurrent: trials at a time; None for as many as fit.
    """

    def __init__(self, order: InOrder, max_concurrent: int | None = None) -> None:
        super().__init__(order if max_concurrent is None else ConcurrencyLimiter(order, max_concurrent))
        self._order = order

    def is_finished(self) -> bool:
        return super().is_finished() or self._order.next_id() is None
