"""The cohorts of a grid under Ray Tune, a job each."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.stopper import CombinedStopper

from activekd.errors import InputError
from bench.cluster.address import LOCAL
from bench.cluster.attempts import Attempts, Ended, cause_of
from bench.cluster.banking import Bank
from bench.cluster.filling import Filler
from bench.cluster.nodes import options_of, slots, waiting_tasks
from bench.cluster.order import JOB_ID, AsReady, InOrder, ReleaseAtDeath, StayWithWorker
from bench.cluster.processes import process_folder
from bench.cluster.shelf import arrays_of
from bench.cluster.storing import check_store
from bench.cluster.tracking import FOLDER, tracker
from bench.cluster.watching import ENDED, ROUNDS, STOPPED, Progress, Watch
from bench.columns import Row, seconds_of
from bench.settings import Options
from bench.store.rows import StorageError
from bench.trials.cohorts import Cohort
from bench.trials.first_fits import FitFolders
from bench.trials.run import Execution, Fault, RunCohort, run_cohort_rows

MAX_PASSES = 20
"""Runs of Tune in a row that finish no job, each over the jobs that the previous run left unfinished.

With ``reuse_actors``, a worker that dies while it is handed to its next job ends that job with an error that
``max_failures`` does not cover. We know of no Ray issue about this; the soak kills workers at random moments.
"""

MAX_WAITING_VARIABLE = "TUNE_MAX_PENDING_TRIALS_PG"
STEP_SECONDS = 1.0
"""A step of a job returns at the first event after so many seconds: Tune spends milliseconds on each."""

TRACKED = ("accuracy", "teacher_accuracy", "n_labeled", "round")
"""Columns of a row that trackers get."""


class _StoreActor:
    """The store as a worker sees it, through the handle of its actor; see ``bench.cluster.attempts.Trials``."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def begin(self, trial_ids: Sequence[str]) -> Sequence[tuple[list[Row], bool]]:
        return ray.get([self._store.begin.remote(trial_id) for trial_id in trial_ids])

    def append(self, row: Row) -> Row:
        return ray.get(self._store.append.remote(row))

    def fault(self, trial_id: str, text: str, *, may_pass: bool) -> bool:
        return ray.get(self._store.fault.remote(trial_id, text, may_pass=may_pass))

    def deaths(self, trial_ids: Sequence[str]) -> Mapping[str, int]:
        return ray.get(self._store.deaths.remote(trial_ids))


class _CohortRunner(tune.Trainable):
    """One cohort under Tune: a step returns what happened in a second or more; its rows are on disk before it ends."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        config: dict[str, Any],
        jobs: Mapping[str, Cohort],
        shelf: Any,
        store: Any,
        execution: Execution,
        run: RunCohort,
        tracked: bool,
    ) -> None:
        self._jobs, self._shelf, self._store = jobs, shelf, _StoreActor(store)
        self._execution, self._run, self._tracked = execution, run, tracked
        self._begin(config[JOB_ID])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config[JOB_ID])
        return True

    def _begin(self, job_id: str) -> None:
        self._cohort = self._jobs[job_id]
        self._events = Attempts(self._cohort, self._store, self._rows).events()
        self._n_open = len(self._cohort.trials)

    def _rows(self, done: Mapping[str, Sequence[Row]]) -> Iterator[Row | Fault]:
        # Kept until the next job has its arrays: a process that releases all shared memory must map it again.
        self._banked, head = arrays_of(self._shelf, self._cohort.trials[0])
        return self._run(self._cohort, self._banked, head, done, self._execution)

    def step(self) -> dict[str, Any]:
        until = monotonic() + STEP_SECONDS
        rounds: list[tuple[str, float]] = []
        ended: list[tuple[str, bool]] = []
        seen: dict[str, Any] = {}
        try:
            for event in self._events:
                if isinstance(event, Ended):
                    ended.append((event.trial_id, event.failed))
                elif not isinstance(event, Fault):
                    rounds.append((event["trial_id"], seconds_of(event)))
                    seen = {key: event[key] for key in TRACKED if event.get(key) is not None}
                if self._tracked or monotonic() >= until:
                    break
        except (StorageError, RayTaskError) as fault:
            # Ray raises the error of an actor as an instance of both classes; the text of its cause is for people.
            if not isinstance(cause_of(fault), StorageError):
                raise
            return {"done": True, STOPPED: str(cause_of(fault))}
        self._n_open -= len(ended)
        told = {ROUNDS: tuple(rounds), ENDED: tuple(ended)}
        return {"done": self._n_open == 0, **told, **(seen if self._tracked else {})}


def followers_of_first_fits(jobs: Sequence[Cohort], done: Mapping[str, int]) -> dict[str, str]:
    """The job that makes the fit of round 0, by the id of each job that waits for it.

    Args:
        jobs: in the order in which they start.
        done: stored rounds of each trial, by id.
    """
    first: dict[Path, str] = {}
    follows = {}
    for job in jobs:
        if job.first_fit is None or done.get(job.trials[0].id, 0):
            continue
        ahead = first.setdefault(job.first_fit, job.id)
        if ahead != job.id:
            follows[job.id] = ahead
    return follows


def run_in_passes(
    job_ids: Sequence[str],
    run: Callable[[Sequence[str]], object],
    still_open: Callable[[Sequence[str]], list[str]],
    stopped: Callable[[], bool],
) -> list[str]:
    """Run jobs in passes, each over those that the one before left open, until MAX_PASSES in a row finish none.

    Args:
        job_ids: in the order in which they are to start.
        run: one pass over jobs.
        still_open: those of the jobs with a trial that has a missing round and is not given up.
        stopped: whether the grid cannot go on.

    Returns:
        The jobs that are open in the end.
    """
    left, idle = list(job_ids), 0
    while left and idle < MAX_PASSES:
        before = len(left)
        run(left)
        left = still_open(left)
        idle = 0 if len(left) < before else idle + 1
        if stopped():
            break
    return left


def run_jobs(
    jobs: Sequence[Cohort],
    bank: Bank,
    store: Any,
    results: Path,
    progress: Progress,
    execution: Execution,
    options: Options,
    *,
    run: RunCohort = run_cohort_rows,
    callbacks: Sequence[Callback] = (),
) -> dict[str, str]:
    """Run cohorts under Tune until each of their trials is complete or given up.

    Args:
        jobs: trials with a missing round, in the order in which they start.
        bank: of their trials; a job starts when its arrays are there.
        store: handle from ``start_store``; the actor is stopped at the end.
        results: the results folder.
        progress: updated as trials start, finish rounds and end.
        execution: where and how each cohort runs.
        options: of the command.
        run: computes the rows of a cohort; see ``bench.trials.run.run_cohort_rows``.
        callbacks: further callbacks of Tune.

    Returns:
        Why trials were given up, by id.

    Raises:
        InputError: the grid cannot continue: the results folder cannot be written, the bank cannot be filled, no
            worker stays alive, or Tune leaves jobs unfinished. The rows so far are stored.
    """
    check_store(store)
    by_id = {job.id: job for job in jobs}
    rounds = {t.id: t.trial.rounds for job in jobs for t in job.trials}
    fits = FitFolders({job.trials[0].id: job.first_fit for job in jobs if job.first_fit is not None})
    runner = tune.with_parameters(
        _CohortRunner,
        jobs=by_id,
        shelf=bank.shelf,
        store=store,
        execution=execution,
        run=run,
        tracked=options.track is not None,
    )
    takes = options_of(options.trial, execution.device)
    resources = {"cpu": takes["num_cpus"], "gpu": takes["num_gpus"], **takes["resources"]}
    os.environ[MAX_WAITING_VARIABLE] = str(waiting_tasks(options.trial, execution.device))
    # On a cluster, jobs that wait are what an autoscaler adds nodes for.
    at_a_time = options.max_concurrent
    if options.address == LOCAL:
        at_a_time = min(slots(options.trial, execution.device), at_a_time or len(jobs))
    trials_of = {job.id: [t.id for t in job.trials] for job in jobs}
    watch, filler = Watch(trials_of, progress, store.died.remote, fits.passed), Filler(bank)
    followers = [watch, filler, *callbacks, *([tracker(options.track, results)] if options.track else [])]
    scratch_root = Path(tempfile.gettempdir()) / f"activekd-tune-{os.getuid()}"

    def run_pass(job_ids: Sequence[str]) -> None:
        done: dict[str, int] = ray.get(store.rounds_done.remote())
        order = InOrder(
            job_ids,
            lambda job_id: bank.ready(trials_of[job_id][0]),
            lambda job_id: bank.hand_out(job_id, trials_of[job_id][0]),
            followers_of_first_fits([by_id[job_id] for job_id in job_ids], done),
        )
        bank.wait(lambda: order.next_id() is not None)
        if bank.fault:
            return
        with process_folder(scratch_root) as scratch:
            Tuner(
                tune.with_resources(runner, resources),
                tune_config=TuneConfig(
                    search_alg=AsReady(order, at_a_time),
                    scheduler=StayWithWorker(),
                    num_samples=len(job_ids),
                    reuse_actors=True,
                ),
                run_config=RunConfig(
                    name="grid",
                    storage_path=str(results / FOLDER if options.track else scratch),
                    verbose=0,
                    stop=CombinedStopper(watch, filler),
                    callbacks=[*followers, ReleaseAtDeath(order)],
                    failure_config=FailureConfig(max_failures=-1),
                    checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                ),
            ).fit()

    def still_open(job_ids: Sequence[str]) -> list[str]:
        failures, done = ray.get([store.failures.remote(), store.rounds_done.remote()])
        open_ = {i for i, n in rounds.items() if i not in failures and done.get(i, 0) < n}
        return [job_id for job_id in job_ids if not open_.isdisjoint(trials_of[job_id])]

    left = run_in_passes(list(by_id), run_pass, still_open, lambda: watch.stop_all() or filler.stop_all())
    failures: dict[str, str] = ray.get(store.failures.remote())
    ray.get(store.close.remote())
    ray.kill(store)  # pyright: ignore[reportArgumentType]
    if bank.fault:
        raise bank.fault
    if watch.reason or left:
        raise InputError(watch.reason or f"{MAX_PASSES} runs of Ray Tune in a row finished none of {len(left)} jobs")
    return {trial_id: failures[trial_id] for trial_id in rounds if trial_id in failures}
