"""The trials of a grid under Ray Tune."""

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner
from ray.tune.stopper import CombinedStopper

from activekd.errors import InputError
from bench.cluster.address import LOGS
from bench.cluster.banking import Bank, arrays_of
from bench.cluster.filling import Filler
from bench.cluster.nodes import options_of, waiting_tasks
from bench.cluster.order import TRIAL_ID, AsReady, InOrder
from bench.cluster.processes import process_folder
from bench.cluster.storing import check_store
from bench.cluster.tracking import FOLDER, tracker
from bench.columns import Row, seconds_of
from bench.settings import Options
from bench.store.rows import StorageError
from bench.trials.resolved import ResolvedTrial
from bench.trials.run import Execution, RunTrial, run_stored, run_trial

MAX_DEATHS_IN_A_ROW = 100
"""Worker deaths in a row, over all trials and without a result between them, after which the grid stops."""

MAX_PASSES = 20
"""Runs of Tune in a row that finish no trial, each over the trials that the previous run left unfinished.

With ``reuse_actors``, a worker that dies while it is handed to its next trial ends that trial with an error that
``max_failures`` does not cover. We know of no Ray issue about this; the soak kills workers at random moments.
"""

MAX_WAITING_VARIABLE = "TUNE_MAX_PENDING_TRIALS_PG"
ROUND_SECONDS, FAILED, STOPPED = "seconds", "failed", "stopped"
"""Keys of a step's result: seconds of the round, whether the trial was given up, why the whole grid must stop."""

TRACKED = ("accuracy", "teacher_accuracy", "n_labeled", "round")
"""Columns of a row that trackers get."""


class Progress(Protocol):
    """Receives the progress of the trials."""

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        ...

    def round_done(self, trial_id: str, seconds: float) -> None:
        """A trial has stored a round that took ``seconds``."""
        ...

    def ended(self, trial_id: str, *, failed: bool) -> None:
        """A trial is complete or was given up."""
        ...


class _GivenUpError(Exception):
    """The trial was given up, and may not start again."""


class _TrialRunner(tune.Trainable):
    """One trial under Tune: a step is a round, and its row is on disk before the step ends.

    If the trial itself raises an error, the store counts it, and the trial resumes from its next missing round, unless
    the error cannot pass. If Ray loses a worker, a node or an object, Tune restarts the trial elsewhere.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        config: dict[str, Any],
        trials: Mapping[str, ResolvedTrial],
        shelf: Any,
        store: Any,
        execution: Execution,
        run: RunTrial,
        tracked: bool,
    ) -> None:
        self._trials, self._shelf, self._store = trials, shelf, store
        self._execution, self._run, self._tracked = execution, run, tracked
        self._begin(config[TRIAL_ID])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config[TRIAL_ID])
        return True

    def _begin(self, trial_id: str) -> None:
        self._id = trial_id
        self._rows: Iterator[Row] | None = None

    def _start(self) -> Iterator[Row]:
        """The missing rows of the trial, each stored before it is yielded."""
        trial = self._trials[self._id]
        # Kept until the next trial has its arrays: a process that releases all shared memory must map it again.
        self._banked, head = arrays_of(self._shelf, trial)
        banked = self._banked
        return run_stored(
            self._begin_stored,
            lambda done: self._run(trial, banked, head, done, self._execution),
            lambda row: ray.get(self._store.append.remote(row)),
        )

    def _begin_stored(self) -> list[Row]:
        done, may_start = ray.get(self._store.begin.remote(self._id))
        if not may_start:
            raise _GivenUpError
        return done

    def step(self) -> dict[str, Any]:
        try:
            if self._rows is None:
                self._rows = self._start()
            row = next(self._rows, None)
        except _GivenUpError:
            return {"done": True, FAILED: True}
        except Exception as fault:
            return self._after(fault)
        if row is None:
            return {"done": True}
        done = row["round"] + 1 == self._trials[self._id].trial.rounds
        seen = {key: row[key] for key in TRACKED if row.get(key) is not None} if self._tracked else {}
        return {"done": done, ROUND_SECONDS: seconds_of(row), **seen}

    def _after(self, fault: Exception) -> dict[str, Any]:
        """The result of a step that raised an error.

        Raises:
            RayError: Ray lost a worker, a node or an object; Tune then restarts the trial.
        """
        cause = fault.cause if isinstance(fault, RayTaskError) else fault
        if isinstance(cause, StorageError):
            return {"done": True, STOPPED: str(cause)}
        if isinstance(fault, RayError) and not isinstance(fault, RayTaskError):
            raise fault
        text = "".join(traceback.format_exception(fault))
        try_again = ray.get(self._store.fault.remote(self._id, text, may_pass=may_pass(fault)))
        self._rows = None
        return {"done": not try_again, FAILED: not try_again}


def may_pass(fault: Exception) -> bool:
    """Whether another attempt of a trial may end otherwise.

    Not so for an ``InputError`` of the trial itself, such as of a fit that diverges; that of a task of Ray may be of
    its node.
    """
    return isinstance(fault, RayTaskError) or not isinstance(fault, InputError)


class Watch(Callback, Stopper):
    """Updates the progress, and stops the grid when it cannot continue."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._deaths = 0
        self.reason: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks for a restore, which the grid never uses; a terminal cannot be pickled."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(trial.config[TRIAL_ID])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._deaths = 0
        if ROUND_SECONDS in result:
            self._progress.round_done(trial.config[TRIAL_ID], result[ROUND_SECONDS])
        self.reason = self.reason or result.get(STOPPED)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.ended(trial.config[TRIAL_ID], failed=bool((trial.last_result or {}).get(FAILED)))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS_IN_A_ROW:
            self.reason = f"{self._deaths} workers died in a row without a finished round; {LOGS}"

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.reason is not None


def run_in_passes(
    trial_ids: Sequence[str],
    run: Callable[[Sequence[str]], object],
    still_open: Callable[[Sequence[str]], list[str]],
    stopped: Callable[[], bool],
) -> list[str]:
    """Run trials in passes, each over those that the one before left open, until MAX_PASSES in a row finish none.

    Args:
        trial_ids: in the order in which they are to start.
        run: one pass over trials.
        still_open: those of the trials that have a missing round and are not given up.
        stopped: whether the grid cannot go on.

    Returns:
        The trials that are open in the end.
    """
    left, idle = list(trial_ids), 0
    while left and idle < MAX_PASSES:
        before = len(left)
        run(left)
        left = still_open(left)
        idle = 0 if len(left) < before else idle + 1
        if stopped():
            break
    return left


def run_trials(
    trials: Sequence[ResolvedTrial],
    bank: Bank,
    store: Any,
    results: Path,
    progress: Progress,
    execution: Execution,
    options: Options,
    *,
    run: RunTrial = run_trial,
    callbacks: Sequence[Callback] = (),
) -> dict[str, str]:
    """Run the trials under Tune until each is complete or given up.

    Args:
        trials: each with a missing round, in the order in which they start.
        bank: of these trials; each starts when its arrays are there.
        store: handle from ``start_store``; the actor is stopped at the end.
        results: the results folder.
        progress: updated as trials start, finish rounds and end.
        execution: where and how each trial runs.
        options: of the command.
        run: computes the rows of a trial; see ``bench.trials.run.run_trial``.
        callbacks: further callbacks of Tune.

    Returns:
        Why trials were given up, by id.

    Raises:
        InputError: the grid cannot continue: the results folder cannot be written, the bank cannot be filled, no
            worker stays alive, or Tune leaves trials unfinished. The rows so far are stored.
    """
    check_store(store)
    by_id = {t.id: t for t in trials}
    runner = tune.with_parameters(
        _TrialRunner,
        trials=by_id,
        shelf=bank.shelf,
        store=store,
        execution=execution,
        run=run,
        tracked=options.track is not None,
    )
    takes = options_of(options.trial, execution.device)
    resources = {"cpu": takes["num_cpus"], "gpu": takes["num_gpus"], **takes["resources"]}
    os.environ[MAX_WAITING_VARIABLE] = str(waiting_tasks(options.trial, execution.device))
    watch, filler = Watch(progress), Filler(bank)
    followers = [watch, filler, *callbacks, *([tracker(options.track, results)] if options.track else [])]
    scratch_root = Path(tempfile.gettempdir()) / f"activekd-tune-{os.getuid()}"

    def run_pass(trial_ids: Sequence[str]) -> None:
        order = InOrder(trial_ids, bank.ready, lambda trial_id: bank.hand_out(trial_id, trial_id))
        bank.wait(lambda: order.next_id() is not None)
        if bank.fault:
            return
        with process_folder(scratch_root) as scratch:
            Tuner(
                tune.with_resources(runner, resources),
                tune_config=TuneConfig(
                    search_alg=AsReady(order, options.max_concurrent),
                    num_samples=len(trial_ids),
                    reuse_actors=True,
                ),
                run_config=RunConfig(
                    name="grid",
                    storage_path=str(results / FOLDER if options.track else scratch),
                    verbose=0,
                    stop=CombinedStopper(watch, filler),
                    callbacks=followers,
                    failure_config=FailureConfig(max_failures=-1),
                    checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()

    def still_open(trial_ids: Sequence[str]) -> list[str]:
        failures, done = ray.get([store.failures.remote(), store.rounds_done.remote()])
        return [t for t in trial_ids if t not in failures and done.get(t, 0) < by_id[t].trial.rounds]

    left = run_in_passes(list(by_id), run_pass, still_open, lambda: watch.stop_all() or filler.stop_all())
    failures: dict[str, str] = ray.get(store.failures.remote())
    ray.get(store.close.remote())
    ray.kill(store)  # pyright: ignore[reportArgumentType]
    if bank.fault:
        raise bank.fault
    if watch.reason or left:
        raise InputError(watch.reason or f"{MAX_PASSES} runs of Ray Tune in a row finished none of {len(left)} trials")
    return {trial_id: failures[trial_id] for trial_id in by_id if trial_id in failures}
