"""The store as an actor: the one process that writes the rows of a grid, without torch and Ray Tune to start fast."""

import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.errors import InputError
from bench.columns import Row
from bench.store.rows import Store

MAX_DEATHS = 10
"""Deaths of a trial's worker in one round that are tolerated; after one more, the trial is given up."""


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
        self._begun = Counter((event["trial_id"], event["round"]) for event in seen if event["event"] == "begins")

    def begin(self, trial_id: str) -> tuple[list[Row], bool]:
        """The rows of a trial that is about to start, and whether it may start."""
        if self._store.has_failed(trial_id):
            return [], False
        rows = self._store.begin(trial_id)
        at = trial_id, len(rows)
        self._begun[at] += 1
        deaths = self._begun[at] - 1 - self._faults[at]
        if deaths > MAX_DEATHS:
            reason = f"the worker died {deaths} times in round {len(rows)}, each time without a traceback"
            self._store.give_up(trial_id, f"{reason} (killed from outside, or out of memory)\n")
            return rows, False
        return rows, True

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
        at = trial_id, self._store.rounds_done().get(trial_id, 0)
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
