"""Ray, and only it: the bank in the object store, the store as an actor, and the trials under Ray Tune."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Read by Ray when it is imported: no automatic loggers, no tables on the terminal, workers stay in the driver's folder,
# Ctrl-C reaches the driver, tasks without a GPU leave CUDA_VISIBLE_DEVICES alone, no worker stays idle
# (each holds a gigabyte).
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
os.environ.setdefault("RAY_num_workers_soft_limit", "0")

import numpy as np
import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.bank import Shard
from activekd.datasets import Dataset
from activekd.errors import InputError
from activekd.teachers import TextHead
from bench import trial as trials_module
from bench.spec import Trial
from bench.store import Row, Store
from bench.trial import Needs

MAX_FAILURES = 3
"""Restarts of a trial, each at its next missing round, before it is given up."""

OBJECT_STORE_FLOOR = 128 * 2**20
LOCAL = "local"


@dataclass(frozen=True)
class Work:
    """What the trials of a grid share.

    Attributes:
        trials: by id.
        needs: the banked arrays of each trial, by id.
        datasets: labels by name, with images only where a trial renders its inputs at every step.
        cache: folder of the caches, on shared storage where there are several nodes.
        device: where the networks run.
        gpus: share of a GPU that a trial takes, and a task that runs a network; 0 without one.
    """

    trials: Mapping[str, Trial]
    needs: Mapping[str, Needs]
    datasets: Mapping[str, Dataset]
    cache: Path
    device: str
    gpus: float


class Progress(Protocol):
    """Told as the grid goes on."""

    def banked(self, done: int, total: int) -> None:
        """So many of the bank's arrays are there."""
        ...

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        ...

    def round_done(self, trial_id: str) -> None:
        """A trial has stored a round."""
        ...

    def ended(self, trial_id: str) -> None:
        """A trial is complete or was given up."""
        ...


def connect(address: str, *, n_cpus: int | None, bank_bytes: int) -> None:
    """Start Ray on this machine, or join a running cluster.

    Args:
        address: ``local``, or the address of a cluster (``auto`` finds the one that runs here).
        n_cpus: CPUs that a local Ray may use; all without it.
        bank_bytes: size of the bank, for which a local object store has room twice.

    Raises:
        InputError: no cluster at that address.
    """
    if address == LOCAL:
        ray.init(
            address=LOCAL,
            num_cpus=n_cpus,
            object_store_memory=OBJECT_STORE_FLOOR + 2 * bank_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as fault:
        raise InputError(f"no Ray cluster at {address}: {fault}; allowed: local, auto, or HOST:PORT") from fault


def has_gpu() -> bool:
    """Whether the connected Ray has a GPU."""
    return ray.cluster_resources().get("GPU", 0) > 0


def disconnect() -> None:
    """Stop a local Ray, or leave the cluster."""
    ray.shutdown()


@ray.remote(num_cpus=1, max_retries=-1, num_returns=2)
def _shard(shard: Shard, encoder: str, cache: Path, device: str) -> tuple[np.ndarray, None]:
    """The array, and a second return by which the driver learns of a fault without fetching the array."""
    return np.asarray(trials_module.make_shard(shard, encoder, cache, device)), None


@ray.remote(num_cpus=1, max_retries=-1)
def _text_head(network: str, dataset: str, cache: Path, device: str) -> TextHead:
    return trials_module.make_text_head(network, dataset, cache, device)


def bank(
    shards: Mapping[Shard, str], heads: Sequence[tuple[str, str]], work: Work, progress: Progress
) -> tuple[dict[str, Any], dict[tuple[str, str], TextHead]]:
    """Fill the object store: one array a shard, by its key, and the text heads.

    Each array is made by a task that reads the disk cache first and is retried without limit, so that the loss of a
    node costs a read and not a run of the network.

    Returns:
        Object references by shard key, and text heads by (network, data set).

    Raises:
        InputError: what a task raised, such as a checkpoint that does not fit or a full disk.
    """
    cache, device, gpus = work.cache, work.device, work.gpus
    head_refs = {key: _text_head.options(num_gpus=gpus).remote(*key, cache, device) for key in heads}
    made: dict[str, Any] = {}
    for shard, encoder in shards.items():
        task = _shard.options(num_gpus=gpus if trials_module.runs_network(encoder) else 0)
        made[shard.key] = task.remote(shard, encoder, cache, device)
    waiting = [*(done for _, done in made.values()), *head_refs.values()]
    total = len(waiting)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=None)
            ray.get(done)
            progress.banked(total - len(waiting), total)
    except RayTaskError as fault:
        if isinstance(fault.cause, InputError):
            raise fault.cause from None
        raise
    return {key: array for key, (array, _) in made.items()}, {key: ray.get(ref) for key, ref in head_refs.items()}


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _StoreActor:
    """The one process that writes rows; a restarted one reads what is on disk."""

    def __init__(self, run: Path) -> None:
        self._store = Store(run)

    @ray.method
    def rows_of(self, trial_id: str) -> list[Row]:
        return self._store.rows_of(trial_id)

    @ray.method
    def append(self, row: Row) -> None:
        self._store.append(row)

    @ray.method
    def close(self) -> None:
        self._store.close()


class _TrialRunner(tune.Trainable):
    """One trial under Tune: a step is a round, and its row is on disk before the step ends."""

    def setup(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        config: dict[str, Any],
        work: Work,
        refs: Mapping[str, Any],
        heads: Mapping[tuple[str, str], TextHead],
        store: Any,
    ) -> None:
        self._work, self._refs, self._heads, self._store = work, refs, heads, store
        self._begin(config["trial_id"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config["trial_id"])
        return True

    def _begin(self, trial_id: str) -> None:
        trial, needs = self._work.trials[trial_id], self._work.needs[trial_id]
        done = ray.get(self._store.rows_of.remote(trial_id))
        keys = [shard.key for shard in needs.shards]
        banked = dict(zip(keys, ray.get([self._refs[key] for key in keys]), strict=True))
        dataset = self._work.datasets[trial.dataset]
        self._rows: Iterator[Row] = trials_module.run_trial(
            trial, dataset, needs, banked, self._heads, done, self._work.device
        )
        self._left = trial.rounds - len(done)

    def step(self) -> dict[str, Any]:
        if self._left > 0:
            ray.get(self._store.append.remote(next(self._rows)))
            self._left -= 1
        return {"done": self._left <= 0}


class _Reporter(Callback):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for a restore, which is never used, and a terminal cannot be pickled."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.started(trial.config["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._progress.round_done(trial.config["trial_id"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.ended(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._progress.ended(trial.config["trial_id"])


def run(
    work: Work,
    unfinished: Sequence[str],
    refs: Mapping[str, Any],
    heads: Mapping[tuple[str, str], TextHead],
    results: Path,
    progress: Progress,
    *,
    max_concurrent: int | None,
) -> dict[str, str]:
    """Run the unfinished trials under Tune until each is complete or given up.

    Args:
        unfinished: ids of the trials with a missing round.
        refs: what ``bank`` returned.
        max_concurrent: trials at a time; as many as there are CPUs without it.

    Returns:
        The traceback of each trial that was given up, by id.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    store = _StoreActor.options(scheduling_strategy=here).remote(results)
    ray.get(store.rows_of.remote(unfinished[0]))
    runner = tune.with_parameters(_TrialRunner, work=work, refs=refs, heads=heads, store=store)
    with tempfile.TemporaryDirectory(prefix="activekd-tune-") as scratch:
        tuner = Tuner(
            tune.with_resources(runner, {"cpu": 1, "gpu": work.gpus}),
            param_space={"trial_id": tune.grid_search(list(unfinished))},
            tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=max_concurrent),
            run_config=RunConfig(
                name="grid",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Reporter(progress)],
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        outcome = tuner.fit()
    ray.get(store.close.remote())
    ray.kill(store)  # pyright: ignore[reportArgumentType]
    failures = {}
    for result in outcome:
        if result.error is not None:
            config = result.config or {}
            failures[config["trial_id"]] = str(result.error)
    return failures
