"""Ray Tune with nothing of this project in it, and what measurements need of Ray."""

import tempfile
from time import perf_counter
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from bench.speed.memory import RESIDENT, memory_bytes


class Probe(Callback):
    """When each trial completed, and the driver's memory at that moment."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self.seconds: list[float] = []
        """From the start to each completion."""
        self.resident: list[int] = []
        """Resident bytes of this process at each completion."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note one more completion."""
        self.seconds.append(perf_counter() - self._start)
        self.resident.append(memory_bytes(RESIDENT))


def bare_tune(n_trials: int, n_rounds: int) -> float:
    """Seconds of a function trainable that only reports: actors reused, no checkpoints, nothing stored."""

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
                failure_config=FailureConfig(max_failures=-1),
                checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        start = perf_counter()
        tuner.fit()
        return perf_counter() - start


@ray.remote(num_cpus=1)
def synthetic_array(megabytes: int) -> np.ndarray:
    """An array for the object store, with every page written."""
    return np.ones(megabytes * 2**20 // 8)
