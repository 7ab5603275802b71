"""The trials of a grid under Ray Tune."""

import os
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from activekd.memory import without_collection

with without_collection():
    import ray
    from ray import tune
    from ray.exceptions import RayError, RayTaskError
    from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, Stopper, TuneConfig, Tuner

    from activekd.datasets import Dataset
    from activekd.errors import InputError
    from activekd.teachers.text_heads import TextHead
    from bench.cluster.banking import options
    from bench.cluster.nodes import process_folder, slots
    from bench.cluster.order import TRIAL_ID, FirstWaiting, InOrder
    from bench.cluster.storing import check_store
    from bench.cluster.tracking import FOLDER, tracker
    from bench.columns import Row, seconds_of
    from bench.spec import Share, Trial
    from bench.store.rows import StorageError
    from bench.trial import Inputs, Needs, Running, RunTrial, run_trial

MAX_DEATHS_IN_A_ROW = 100
"""Workers that may die one after the other, of whatever trials, without one word from another before the grid stops."""

MAX_PASSES = 20
"""Runs of Tune, each over the trials that the one before left open: Tune gives up a trial whose worker dies while it is
handed to the next trial, whatever it may try otherwise."""

TELL_SECONDS = 1.0
"""Rounds shorter than this are told to the driver together: a message each would keep trials waiting for it."""

MAX_WAITING_VARIABLE = "TUNE_MAX_PENDING_TRIALS_PG"
LEAST_WAITING = 16
"""Trials that ask a cluster of several nodes for room, by which an autoscaler learns of the demand."""

SECONDS, FAILED, STOPPED = "seconds", "failed", "stopped"
"""Keys of a step's result: of the round, whether the trial was given up, and why the whole grid must stop."""

TRACKED = ("accuracy", "teacher_accuracy", "n_labeled", "round")
"""Columns of a row that trackers see."""


@dataclass(frozen=True)
class Work:
    """What the trials of a grid share.

    Attributes:
        trials: by id.
        needs: the banked arrays of each trial, by id.
        datasets: labels by name, with images only where a trial renders its inputs at every step.
        device: where the networks run.
        diagnostics: whether the rows have them.
        run_trial: makes the rows of a trial, as ``bench.trial.run_trial`` does.
    """

    trials: Mapping[str, Trial]
    needs: Mapping[str, Needs]
    datasets: Mapping[str, Dataset]
    device: str
    diagnostics: bool = True
    run_trial: RunTrial = run_trial


class Progress(Protocol):
    """Told as the grid goes on."""

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

    What the trial itself raises is counted by the store, and the trial begins again at its next missing round. What
    Ray raises, since a worker, a node or an object was lost, is left to Tune, which restarts the trial elsewhere.
    """

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        config: dict[str, Any],
        work: Work,
        refs: Mapping[str, Any],
        heads: Mapping[tuple[str, str], TextHead],
        store: Any,
        threads: int,
        tracked: bool,
    ) -> None:
        self._work, self._refs, self._heads, self._store = work, refs, heads, store
        self._threads, self._tracked = threads, tracked
        self._begin(config[TRIAL_ID])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config[TRIAL_ID])
        return True

    def _begin(self, trial_id: str) -> None:
        self._id = trial_id
        self._rows: Iterator[Row] | None = None

    def _prepare(self) -> Iterator[Row] | None:
        """The rows of the trial that are missing; None where it may not start."""
        trial, needs = self._work.trials[self._id], self._work.needs[self._id]
        done, may_start = ray.get(self._store.begin.remote(self._id))
        if not may_start:
            return None
        self._left = trial.rounds - len(done)
        keys = [shard.key for shard in needs.shards]
        # Held until the next trial has its own: a process that lets go of all of the shared memory maps it anew.
        self._banked = banked = dict(zip(keys, ray.get([self._refs[key] for key in keys]), strict=True))
        dataset = self._work.datasets[trial.dataset]
        work, running = self._work, Running(self._work.device, self._threads, self._work.diagnostics)
        return work.run_trial(trial, Inputs(dataset, needs, banked, self._heads), done, running)

    def train_buffered(self, buffer_time_s: float, max_buffer_length: int = 1) -> list[dict[str, Any]]:
        """The results of the rounds of the next TELL_SECONDS, at least one; each row is on disk before the next begins.

        Args:
            buffer_time_s: Tune's own bound, not used: Ray 2.58 to 2.60 hand both over in the wrong order.
            max_buffer_length: likewise.
        """
        out, start = [], monotonic()
        while not out or (not out[-1]["done"] and monotonic() - start < TELL_SECONDS):
            out.append(self.train())
        return out

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
        """What a step tells after something was raised.

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
    """Tells the progress, and stops the grid where going on is of no use."""

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
        # Tune keeps running means of every metric of every trial, half of what a finished one takes of the driver.
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}

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
    work: Work,
    unfinished: Sequence[str],
    refs: Mapping[str, Any],
    heads: Mapping[tuple[str, str], TextHead],
    store: Any,
    results: Path,
    progress: Progress,
    *,
    share: Share,
    max_concurrent: int | None,
    track: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, str]:
    """Run the unfinished trials under Tune until each is complete or given up.

    Args:
        unfinished: ids of the trials with a missing round, in the order in which they are to start.
        refs: what ``bank`` returned.
        heads: what ``bank`` returned.
        store: what ``start_store`` returned; it is stopped in the end.
        results: its folder.
        share: what a trial takes.
        max_concurrent: trials at a time; as many as the share allows without it.
        track: a tracker that sees every round too.
        callbacks: Tune's, told beside the progress.

    Returns:
        Why trials were given up, by id.

    Raises:
        InputError: the grid cannot go on, since the results folder cannot be written or no worker stays alive; the
            rows so far are stored.
    """
    check_store(store)
    runner = tune.with_parameters(
        _TrialRunner, work=work, refs=refs, heads=heads, store=store, threads=share.cpus, tracked=track is not None
    )
    takes = options(share, work.device)
    os.environ[MAX_WAITING_VARIABLE] = str(_waiting(share, work.device))
    watch = _Watch(progress)
    own = Path(tempfile.gettempdir()) / f"activekd-tune-{os.getuid()}"
    left, failures = list(unfinished), {}
    for _ in range(MAX_PASSES):
        with tempfile.TemporaryDirectory(dir=process_folder(own)) as scratch:
            tuner = Tuner(
                tune.with_resources(runner, {"cpu": takes["num_cpus"], "gpu": takes["num_gpus"], **takes["resources"]}),
                tune_config=TuneConfig(
                    search_alg=InOrder(left),
                    scheduler=FirstWaiting(),
                    num_samples=len(left),
                    reuse_actors=True,
                    max_concurrent_trials=max_concurrent,
                ),
                run_config=RunConfig(
                    name="grid",
                    storage_path=str(results / FOLDER) if track else scratch,
                    verbose=0,
                    stop=watch,
                    callbacks=[watch, *callbacks, *([tracker(track, results)] if track else [])],
                    failure_config=FailureConfig(max_failures=-1),
                    checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            )
            tuner.fit()
        failures, done = ray.get([store.failures.remote(), store.rounds_done.remote()])
        left = [t for t in left if t not in failures and done.get(t, 0) < work.trials[t].rounds]
        if not left or watch.reason:
            break
    ray.get(store.close.remote())
    ray.kill(store)  # pyright: ignore[reportArgumentType]
    if watch.reason or left:
        raise InputError(watch.reason or f"{len(left)} trials were left open by {MAX_PASSES} runs of Ray Tune")
    return {trial_id: failures[trial_id] for trial_id in unfinished if trial_id in failures}
