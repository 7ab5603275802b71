"""A bare run of Ray Tune and made-up arrays, against which the grid's own cost is measured."""

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

STATM = Path("/proc/self/statm")
STATUS = Path("/proc/self/status")
PAGE = 4096


class Probe(Callback):
    """Seconds and the driver's resident memory at every so many completed trials."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._done = 0
        self.start = perf_counter()
        self.points: list[tuple[int, float, int]] = []
        """(trials done, seconds since the start, resident bytes)."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._done += 1
        if self._done % self._every == 0:
            self.points.append((self._done, perf_counter() - self.start, resident_bytes()))


def resident_bytes() -> int:
    """Resident memory of this process now (Linux)."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * PAGE


def private_and_shared_bytes() -> tuple[int, int]:
    """Resident memory that is this process's own, and resident pages of shared memory (Linux)."""
    lines = [line.split() for line in STATUS.read_text(encoding="ascii").splitlines()]
    kilobytes = {words[0]: int(words[1]) for words in lines if words[0] in {"RssAnon:", "RssShmem:"}}
    return kilobytes["RssAnon:"] * 1024, kilobytes["RssShmem:"] * 1024


def bare_tune(n_trials: int, n_rounds: int, probe: Probe) -> float:
    """Seconds of a function trainable that only reports: actors reused, automatic loggers off, nothing stored."""

    def nothing(config: dict[str, Any]) -> None:
        for index in range(n_rounds):
            tune.report({"round": index, "accuracy": 0.5})

    with tempfile.TemporaryDirectory(prefix="activekd-tune-") as scratch:
        tuner = Tuner(
            tune.with_resources(nothing, {"cpu": 1}),
            param_space={"trial_id": tune.grid_search([f"{k:016x}" for k in range(n_trials)])},
            tune_config=TuneConfig(reuse_actors=True),
            run_config=RunConfig(
                name="bare",
                storage_path=scratch,
                verbose=0,
                callbacks=[probe],
                failure_config=FailureConfig(max_failures=-1),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        probe.start = perf_counter()
        tuner.fit()
        return perf_counter() - probe.start


@ray.remote(num_cpus=1, max_retries=-1)
def made_up_array(megabytes: int) -> np.ndarray:
    """An array for the object store, every page of it written."""
    return np.ones((megabytes * 2**20 // 8,))
