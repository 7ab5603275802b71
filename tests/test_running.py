"""What Ray Tune's driver does besides running jobs: when it stops, what it repeats, what waits, who follows."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ray.tune import Trainable
from ray.tune.experiment import Experiment

from bench.cluster.nodes import LEAST_WAITING, waiting_jobs
from bench.cluster.order import JOB_ID, AsReady, InOrder
from bench.cluster.running import MAX_PASSES, run_in_passes
from bench.cluster.tracking import FOLDER, tracker
from bench.cluster.watching import ENDED, ROUNDS, STOPPED, Watch


class Followed:
    """A progress that keeps what it gets."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, trial_id: str) -> None:
        self.events.append(("started", trial_id))

    def round_done(self, trial_id: str, seconds: float) -> None:
        self.events.append(("round", trial_id, seconds))

    def ended(self, trial_id: str, *, failed: bool) -> None:
        self.events.append(("ended", trial_id, failed))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trial(job_id: str = "j") -> Any:
    return SimpleNamespace(config={JOB_ID: job_id})


def watching(clock: Clock, deaths: list[Any] | None = None) -> tuple[Watch, Followed, list[str]]:
    progress, passed = Followed(), list[str]()
    lost = [] if deaths is None else deaths
    trials_of = {"j": ["a", "b"], "k": ["c"]}
    watch = Watch(trials_of, progress, lambda ids, seconds: lost.append((ids, seconds)), passed.append, clock)
    return watch, progress, passed


def test_the_progress_follows_tune() -> None:
    watch, progress, passed = watching(Clock())
    watch.on_trial_start(0, [], trial())
    watch.on_trial_result(0, [], trial(), {ROUNDS: (("a", 2.0), ("b", 3.0)), ENDED: ()})
    watch.on_trial_result(0, [], trial(), {"done": True, ROUNDS: (), ENDED: (("b", True), ("a", False))})
    watch.on_trial_complete(0, [], trial())
    assert progress.events == [
        ("started", "a"),
        ("started", "b"),
        ("round", "a", 2.0),
        ("round", "b", 3.0),
        ("ended", "b", True),
        ("ended", "a", False),
    ]
    assert passed == ["a", "b", "b", "a"]
    assert not watch.stop_all()


def test_the_store_hears_how_long_a_dead_worker_had_run() -> None:
    clock, deaths = Clock(), list[Any]()
    watch, _, _ = watching(clock, deaths)
    watch.on_trial_start(0, [], trial())
    clock.now = 90.0
    watch.on_trial_recover(0, [], trial())
    assert deaths == [(["a", "b"], 90.0)]


def die(watch: Watch, clock: Clock, times: int, every: float, job_id: str = "j") -> None:
    for _ in range(times):
        watch.on_trial_start(0, [], trial(job_id))
        clock.now += every
        watch.on_trial_recover(0, [], trial(job_id))


def test_the_grid_stops_when_workers_die_for_half_an_hour_and_none_lives_so_long() -> None:
    clock = Clock()
    watch, _, _ = watching(clock)
    die(watch, clock, 30, 60.0)
    assert not watch.stop_all()
    watch.on_trial_result(0, [], trial(), {ROUNDS: (("a", 1.0),), ENDED: ()})
    die(watch, clock, 30, 60.0)
    assert not watch.stop_all()
    die(watch, clock, 1, 60.0)
    assert watch.stop_all()
    assert str(watch.reason).startswith("workers died 31 times in 0:30:00 without a finished round; ")


def test_many_deaths_at_once_and_rounds_of_hours_are_no_reason_to_stop() -> None:
    """A zone goes twice, each time with all workers, before the first round of five hours is finished."""
    clock = Clock()
    watch, _, _ = watching(clock)
    for _ in range(2):
        for job_id in ("j", "k"):
            watch.on_trial_start(0, [], trial(job_id))
        clock.now += 7200.0
        for job_id in ("j", "k"):
            watch.on_trial_recover(0, [], trial(job_id))
    die(watch, clock, 200, 1.0)
    assert not watch.stop_all()


def test_one_job_whose_worker_dies_does_not_stop_the_rounds_of_others() -> None:
    clock = Clock()
    watch, _, _ = watching(clock)
    watch.on_trial_start(0, [], trial("k"))
    die(watch, clock, 100, 60.0)
    assert not watch.stop_all()
    watch.on_trial_complete(0, [], trial("k"))
    die(watch, clock, 31, 60.0)
    assert watch.stop_all()


def test_a_step_may_say_why_the_grid_must_stop() -> None:
    watch, _, _ = watching(Clock())
    watch.on_trial_result(0, [], trial(), {"done": True, STOPPED: "the disk is full"})
    assert watch.reason == "the disk is full"
    assert watch.stop_all()


def test_the_first_trial_that_is_ready_comes_next() -> None:
    ready, handed_out = {"c"}, list[str]()
    order = InOrder("abc", ready.__contains__, handed_out.append)
    assert order.suggest("x") == {"job_id": "c"}
    assert order.suggest("y") is None
    ready |= {"a", "b"}
    assert [order.suggest(tune_id) for tune_id in "pqr"] == [{"job_id": "a"}, {"job_id": "b"}, InOrder.FINISHED]
    assert handed_out == ["c", "a", "b"]


def test_tune_has_nothing_to_wait_for_while_no_trial_is_ready() -> None:
    ready = set[str]()
    generator = AsReady(InOrder("ab", ready.__contains__))
    generator.add_configurations(Experiment("grid", Trainable, num_samples=2))
    assert generator.is_finished()
    ready.add("b")
    assert not generator.is_finished()
    generator.set_finished()
    assert generator.is_finished()


TUNE = """
import os, sys, time
from pathlib import Path

import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from bench.cluster.order import JOB_ID, AsReady, InOrder, ReleaseAtDeath

folder = Path(sys.argv[1])
asked = 0


class Counting(InOrder):
    def suggest(self, trial_id):
        global asked
        asked += 1
        return super().suggest(trial_id)


class Job(tune.Trainable):
    def setup(self, config, folder):
        self.folder, self.job = folder, config[JOB_ID]

    def step(self):
        if self.job == "slow":
            time.sleep(3)
        if self.job == "deadly" and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)
        while self.job == "deadly" and not (folder / "after deadly").exists():
            time.sleep(0.1)
        (folder / self.job).touch()
        (folder / f"{self.job} at {time.monotonic_ns()}").touch()
        return {"done": True}


ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
follows = {"after slow": "slow", "after deadly": "deadly"}
order = Counting(["slow", "after slow", "deadly", "after deadly"], follows=follows)
Tuner(
    tune.with_resources(tune.with_parameters(Job, folder=folder), {"cpu": 1}),
    tune_config=TuneConfig(search_alg=AsReady(order, 2), num_samples=4),
    run_config=RunConfig(
        storage_path=str(folder / "tune"),
        verbose=0,
        failure_config=FailureConfig(max_failures=-1),
        checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        callbacks=[ReleaseAtDeath(order)],
    ),
).fit()
print("asked", asked)
"""


def test_under_tune_a_job_that_follows_waits_without_a_busy_driver_and_not_for_the_dead(tmp_path: Path) -> None:
    """While the slow job runs alone, Tune asks about ten times a second; a busy loop would ask thousands of times."""
    done = subprocess.run(
        [sys.executable, "-c", TUNE, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    asked = int(done.stdout.split("asked ")[1])
    assert 4 <= asked < 2000
    ended = {path.name.partition(" at ")[0]: int(path.name.rpartition(" ")[2]) for path in tmp_path.glob("* at *")}
    assert ended.keys() == {"slow", "after slow", "deadly", "after deadly"}
    assert ended["slow"] < ended["after slow"]
    assert ended["after deadly"] < ended["deadly"]


SHORT = """
import os, sys, time
from pathlib import Path

import ray

from bench.cluster.banking import Bank
from bench.cluster.nodes import connected
from bench.cluster.running import run_jobs
from bench.cluster.storing import start_store
from bench.settings import Options
from bench.spec import read_spec
from bench.specs.file import Share
from bench.speed.grid import idle_rounds, idle_spec, idle_trials, write_idle_plan
from bench.terminal import GridProgress
from bench.trials.cohorts import Cohort
from bench.trials.run import Execution

HERE = Path(sys.argv[1])
half = os.cpu_count() // 2


def short_rounds(cohort, banked, head, done, execution):
    time.sleep(0.5)
    (HERE / f"worked {os.getpid()}").touch()
    yield from idle_rounds(cohort, banked, head, done, execution)


@ray.remote(num_cpus=half)
def fill_the_bank():
    time.sleep(4)


spec = read_spec(str(idle_spec(20, 1, HERE)))
write_idle_plan(HERE / "run", spec)
trials = idle_trials(spec)
options = Options(spill=HERE / "spill", trial=Share(cpus=half))
with connected(options), GridProgress.of_trials(spec.trials, {}, every=60.0) as progress:
    filling = fill_the_bank.remote()
    store = start_store(HERE / "run", attempts=1)
    bank = Bank(trials, HERE / "cache", "cpu", Share(), progress)
    jobs = [Cohort((trial,)) for trial in trials]
    print(run_jobs(jobs, bank, store, HERE / "run", progress, Execution("cpu"), options, run=short_rounds))
"""


@pytest.mark.skipif((os.cpu_count() or 1) % 2 == 1, reason="half of the cores is no whole number")
def test_under_tune_jobs_shorter_than_the_start_of_a_worker_use_a_slot_that_falls_free(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("worked *"))) == 2


def test_each_pass_runs_what_the_one_before_left_open() -> None:
    passes: list[list[str]] = []

    def run(trial_ids: Sequence[str]) -> None:
        passes.append(list(trial_ids))

    assert run_in_passes("abc", run, lambda ids: list(ids[1:]), lambda: False) == []
    assert passes == [["a", "b", "c"], ["b", "c"], ["c"]]
    passes.clear()
    assert run_in_passes("ab", run, list, lambda: False) == ["a", "b"]
    assert len(passes) == MAX_PASSES
    passes.clear()
    assert run_in_passes("ab", run, list, lambda: True) == ["a", "b"]
    assert len(passes) == 1


def test_few_jobs_wait_on_one_node_and_enough_for_an_autoscaler_on_several() -> None:
    assert waiting_jobs(2, 1) == 2
    assert waiting_jobs(0, 1) == LEAST_WAITING
    assert waiting_jobs(2, 3) == LEAST_WAITING
    assert waiting_jobs(64, 3) == 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlflow", {"tracking_uri": "sqlite:///{folder}/mlflow.db", "experiment_name": "paper"}),
        ("wandb", {"project": "activekd-bench", "group": "paper"}),
    ],
)
def test_trackers_know_the_run_and_its_folder(
    name: str, expected: dict[str, str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty module in the place of the tracker's own."""
    from ray.air.integrations import wandb

    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(wandb, "wandb", ModuleType(name))
    callback = tracker(name, tmp_path / "paper")
    folder = tmp_path / "paper" / FOLDER
    assert folder.is_dir()
    for attribute, value in expected.items():
        assert getattr(callback, attribute) == value.format(folder=folder)
