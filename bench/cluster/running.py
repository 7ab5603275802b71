"""The trials of a grid under Ray Tune."""

import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner

from activekd.errors import InputError
from activekd.teachers.text_heads import TextHead
from bench.cluster.nodes import options_of, process_folder, slots
from bench.cluster.order import TRIAL_ID, InOrder
from bench.cluster.storing import check_store
from bench.cluster.tracking import FOLDER, tracker
from bench.columns import Row, seconds_of
from bench.settings import Options
from bench.spec import Share
from bench.store.rows import StorageError
from bench.trials.resolved import ResolvedTrial
from bench.trials.run import Execution, RunTrial, run_trial

MAX_DEATHS_IN_A_ROW = 100
"""Workers that may die one after the other, of any trials, without one result from another before the grid stops."""

MAX_PASSES = 20
"""Runs of Tune, each over the trials that the one before left open.

With ``reuse_actors``, a worker that dies while it is handed to its next trial ends that trial with an error that
``max_failures`` does not cover. No report of this to Ray is known to us; a test kills workers at such a moment.
"""

MAX_WAITING_VARIABLE = "TUNE_MAX_PENDING_TRIALS_PG"
LEAST_WAITING = 16
"""Trials that ask a cluster of several nodes for room, by which an autoscaler learns of the demand."""

SECONDS, FAILED, STOPPED = "seconds", "failed", "stopped"
"""Keys of a step's result: of the round, whether the trial was given up, and why the whole grid must stop."""

TRACKED = ("accuracy", "teacher_accuracy", "n_labeled", "round")
"""Columns of a row that trackers see."""


class Progress(Protocol):
    """Follows the trials as the grid goes on."""

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        ...

    def round_done(self, trial_id: str, seconds: float) -> None:
        """A trial has stored a round that took so long."""
        ...

    def ended(self, trial_id: str, *, failed: bool) -> None:
        """A trial is complete or was given up."""
        ...


class _TrialRunner(tune.Trainable):
    """One trial under Tune: a step is a round, and its row is on disk before the step ends.

    The store counts what the trial itself raises, and the trial begins again at its next missing round. What Ray
    raises, since a worker, a node or an object was lost, is left to Tune, which restarts the trial elsewhere.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        config: dict[str, Any],
        trials: Mapping[str, ResolvedTrial],
        refs: Mapping[str, Any],
        heads: Mapping[tuple[str, str], TextHead],
        store: Any,
        execution: Execution,
        run: RunTrial,
        tracked: bool,
    ) -> None:
        self._trials, self._refs, self._heads, self._store = trials, refs, heads, store
        self._execution, self._run, self._tracked = execution, run, tracked
        self._begin(config[TRIAL_ID])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config[TRIAL_ID])
        return True

    def _begin(self, trial_id: str) -> None:
        self._id = trial_id
        self._rows: Iterator[Row] | None = None

    def _prepare(self) -> Iterator[Row] | None:
        """The rows of the trial that are missing; None where it may not start."""
        trial = self._trials[self._id]
        done, may_start = ray.get(self._store.begin.remote(self._id))
        if not may_start:
            return None
        self._left = trial.trial.rounds - len(done)
        keys = [shard.key for shard in trial.shards]
        # Held until the next trial has its own: a process that lets go of all of the shared memory maps it anew.
        self._banked = banked = dict(zip(keys, ray.get([self._refs[key] for key in keys]), strict=True))
        head = self._heads[trial.head_key] if trial.head_key is not None else None
        return self._run(trial, banked, head, done, self._execution)

    def step(self) -> dict[str, Any]:
        try:
            if self._rows is None:
                self._rows = self._prepare()
                if self._rows is None:
                    return {"done": True, FAILED: True}
            if self._left <= 0:
                return {"done": True}
            row = next(self._rows)
            ray.get(self._store.append.remote(row))
        except Exception as fault:
            return self._after(fault)
        self._left -= 1
        seen = {key: row[key] for key in TRACKED if row.get(key) is not None} if self._tracked else {}
        return {"done": self._left <= 0, SECONDS: seconds_of(row), **seen}

    def _after(self, fault: Exception) -> dict[str, Any]:
        """The result of a step in which something was raised.

        Raises:
            RayError: Ray lost something: Tune is to restart the trial.
        """
        cause = fault.cause if isinstance(fault, RayTaskError) else fault
        if isinstance(cause, StorageError):
            return {"done": True, STOPPED: str(cause)}
        if isinstance(fault, RayError) and not isinstance(fault, RayTaskError):
            raise fault
        text = "".join(traceback.format_exception(fault))
        try_again = ray.get(self._store.fault.remote(self._id, text))
        self._rows = None
        return {"done": not try_again, FAILED: not try_again}


class _Watch(Callback, Stopper):
    """Updates the progress, and stops the grid where it cannot go on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._deaths = 0
        self.reason: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore, which is never used, and a terminal cannot be pickled."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(trial.config[TRIAL_ID])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._deaths = 0
        if SECONDS in result:
            self._progress.round_done(trial.config[TRIAL_ID], result[SECONDS])
        self.reason = self.reason or result.get(STOPPED)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.ended(trial.config[TRIAL_ID], failed=bool((trial.last_result or {}).get(FAILED)))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS_IN_A_ROW:
            self.reason = (
                f"{self._deaths} workers died one after the other, and no trial went on; see Ray's logs under /tmp/ray"
            )

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.reason is not None


def _waiting(share: Share, device: str) -> int:
    """How many trials ask for resources at a time: the slots of a cluster as it is, and more where it may grow.

    Tune takes any of those that wait, so few keep the order.
    """
    at_a_time = slots(share, device)
    nodes = sum(node["Alive"] for node in ray.nodes())
    return at_a_time if nodes == 1 and at_a_time else max(LEAST_WAITING, at_a_time)


def run_trials(
    trials: Sequence[ResolvedTrial],
    refs: Mapping[str, Any],
    heads: Mapping[tuple[str, str], TextHead],
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
        trials: with a missing round, in the order in which they are to start.
        refs: object references of the banked arrays, by shard key.
        heads: text heads by (network, data set).
        store: what ``start_store`` returned; it is stopped in the end.
        results: its folder.
        progress: updated as the grid goes on.
        execution: where and how each trial runs.
        options: of the command.
        run: computes the rows of a trial, as ``bench.trials.run.run_trial`` does.
        callbacks: Tune's, besides the progress.

    Returns:
        Why trials were given up, by id.

    Raises:
        InputError: the grid cannot go on, since the results folder cannot be written or no worker stays alive; the
            rows so far are stored.
    """
    check_store(store)
    by_id = {t.id: t for t in trials}
    runner = tune.with_parameters(
        _TrialRunner,
        trials=by_id,
        refs=refs,
        heads=heads,
        store=store,
        execution=execution,
        run=run,
        tracked=options.track is not None,
    )
    takes = options_of(options.trial, execution.device)
    resources = {"cpu": takes["num_cpus"], "gpu": takes["num_gpus"], **takes["resources"]}
    os.environ[MAX_WAITING_VARIABLE] = str(_waiting(options.trial, execution.device))
    watch = _Watch(progress)
    followers = [watch, *callbacks, *([tracker(options.track, results)] if options.track else [])]
    own = Path(tempfile.gettempdir()) / f"activekd-tune-{os.getuid()}"
    left, failures = list(by_id), {}
    for _ in range(MAX_PASSES):
        with tempfile.TemporaryDirectory(dir=process_folder(own)) as scratch:
            Tuner(
                tune.with_resources(runner, resources),
                tune_config=TuneConfig(
                    search_alg=InOrder(left),
                    num_samples=len(left),
                    reuse_actors=True,
                    max_concurrent_trials=options.max_concurrent,
                ),
                run_config=RunConfig(
                    name="grid",
                    storage_path=str(results / FOLDER) if options.track else scratch,
                    verbose=0,
                    stop=watch,
                    callbacks=followers,
                    failure_config=FailureConfig(max_failures=-1),
                    checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()
        failures, done = ray.get([store.failures.remote(), store.rounds_done.remote()])
        left = [t for t in left if t not in failures and done.get(t, 0) < by_id[t].trial.rounds]
        if not left or watch.reason:
            break
    ray.get(store.close.remote())
    ray.kill(store)  # pyright: ignore[reportArgumentType]
    if watch.reason or left:
        raise InputError(watch.reason or f"{len(left)} trials were left open by {MAX_PASSES} runs of Ray Tune")
    return {trial_id: failures[trial_id] for trial_id in by_id if trial_id in failures}
