"""The store as an actor: the one process that writes the rows of a grid, without torch and Ray Tune to start fast."""

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.errors import InputError
from bench.columns import PICKED, Row
from bench.store.rows import Store

SHORT_LIFE_SECONDS = 1800.0
"""A worker that dies after a shorter life may have died of its trial; after a longer one, rather with its node."""

MAX_DEATHS, MAX_LONG_LIVES = 10, 50
"""Deaths of a trial's worker in one round that are tolerated, after a short life and after a longer one; after one
more, the trial is given up."""


class GridStore:
    """The store of a grid, and the trials that may start: the one process that writes.

    After a restart, it reads the rows and the log from disk.

    Args:
        run: the results folder.
        attempts: for a round that raises an error which may pass.
        grid: id of this grid start.
    """

    def __init__(self, run: Path, attempts: int, grid: str) -> None:
        self._store = Store(run, grid=grid)
        self._attempts = attempts
        seen = self._store.log_of_grid()
        self._faults = Counter((event["trial_id"], event["round"]) for event in seen if event["event"] == "raised")
        self._lives: dict[tuple[str, int], list[float]] = {}
        self._running: set[str] = set()
        for event in seen:
            if event["event"] == "begins":
                self._running.add(event["trial_id"])
            elif event["event"] in {"raised", "died"}:
                self._running.discard(event["trial_id"])
            if event["event"] == "died":
                self._lives.setdefault((event["trial_id"], event["round"]), []).append(event["seconds"])

    def _at(self, trial_id: str) -> tuple[str, int]:
        return trial_id, self._store.rounds_done().get(trial_id, 0)

    def begin(self, trial_id: str) -> tuple[list[Row], bool]:
        """The rows of a trial that is about to start, and whether it may start."""
        if self._store.has_failed(trial_id):
            return [], False
        self._running.add(trial_id)
        return self._store.begin(trial_id), True

    def died(self, trial_ids: Sequence[str], seconds: float) -> None:
        """Note that a worker died, which counts against those of its trials that it was running.

        Args:
            trial_ids: of its job.
            seconds: how long it had run.
        """
        for trial_id in trial_ids:
            if trial_id not in self._running or self._is_complete(trial_id):
                continue
            self._running.discard(trial_id)
            at = self._at(trial_id)
            lives = self._lives.setdefault(at, [])
            lives.append(seconds)
            self._store.note("died", trial_id, round=at[1], seconds=round(seconds, 3))
            short = sum(life < SHORT_LIFE_SECONDS for life in lives)
            if short > MAX_DEATHS or len(lives) - short > MAX_LONG_LIVES:
                reason = f"the worker died {len(lives)} times in round {at[1]}, each time without a traceback"
                self._store.give_up(trial_id, f"{reason} (killed from outside, or out of memory)\n")

    def _is_complete(self, trial_id: str) -> bool:
        rows = self._store.rows_of(trial_id)
        return bool(rows) and not rows[-1][PICKED]

    def deaths(self, trial_ids: Sequence[str]) -> dict[str, int]:
        """How often the worker of each of these trials died in its next missing round, by id."""
        return {trial_id: len(self._lives.get(self._at(trial_id), ())) for trial_id in trial_ids}

    def append(self, row: Row) -> Row:
        """Store a row; the row that is stored for its round, which another worker of the trial may have computed."""
        return self._store.append(row)

    def fault(self, trial_id: str, text: str, *, may_pass: bool = True) -> bool:
        """Note that a trial raised an error; return whether to try it again. Each round has its own attempts.

        Args:
            trial_id: of the trial.
            text: traceback of the error.
            may_pass: whether another attempt can end otherwise.
        """
        if self._store.has_failed(trial_id):
            return False
        self._running.discard(trial_id)
        at = self._at(trial_id)
        self._faults[at] += 1
        self._store.note("raised", trial_id, round=at[1], attempt=self._faults[at], of=self._attempts)
        if may_pass and self._faults[at] < self._attempts:
            return True
        self._store.give_up(trial_id, text)
        return False

    def failures(self) -> dict[str, str]:
        """Why trials were given up, by id."""
        return self._store.failures()

    def rounds_done(self) -> dict[str, int]:
        """How many rounds of each trial are stored, by id."""
        return self._store.rounds_done()

    def close(self) -> None:
        """Release the folder to another writer."""
        self._store.close()


_StoreActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(GridStore)


def start_store(results: Path, attempts: int) -> Any:
    """Start the one process that writes into a results folder, on this node; return its handle without waiting.

    Args:
        results: the results folder.
        attempts: for a round that raises an error; deaths of workers do not count.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return _StoreActor.options(scheduling_strategy=here).remote(results, attempts, uuid.uuid4().hex)


def check_store(store: Any) -> None:
    """Wait until the store has opened its folder.

    Raises:
        InputError: the folder cannot be written, another grid writes to it, or its rows are damaged.
    """
    try:
        ray.get(store.failures.remote())
    except (RayTaskError, ActorDiedError) as fault:
        raise _reason(fault) from fault


def _reason(fault: Exception) -> Exception:
    """The error to show for a store that could not open its folder."""
    cause = fault.cause if isinstance(fault, RayTaskError) else fault
    if isinstance(cause, InputError):
        return cause
    lines = [line for line in str(fault).splitlines() if "InputError: " in line or "StorageError: " in line]
    return InputError(lines[-1].partition("Error: ")[2]) if lines else fault
