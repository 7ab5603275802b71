"""What Ray Tune's driver does besides running trials: when it stops, what it repeats, what waits, who follows."""

import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bench.cluster.nodes import LEAST_WAITING, waiting_trials
from bench.cluster.running import (
    MAX_DEATHS_IN_A_ROW,
    MAX_PASSES,
    ROUND_SECONDS,
    STOPPED,
    Watch,
    run_in_passes,
)
from bench.cluster.tracking import FOLDER, tracker


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


def trial(**last_result: Any) -> Any:
    return SimpleNamespace(config={"trial_id": "a"}, last_result=last_result or None)


def test_the_progress_follows_tune() -> None:
    progress = Followed()
    watch = Watch(progress)
    watch.on_trial_start(0, [], trial())
    watch.on_trial_result(0, [], trial(), {ROUND_SECONDS: 2.0})
    watch.on_trial_result(0, [], trial(), {"done": True})
    watch.on_trial_complete(0, [], trial(failed=True))
    watch.on_trial_complete(0, [], trial())
    assert progress.events == [
        ("started", "a"),
        ("round", "a", 2.0),
        ("ended", "a", True),
        ("ended", "a", False),
    ]
    assert not watch.stop_all()


def test_the_grid_stops_when_only_workers_die_or_a_trial_says_why() -> None:
    watch = Watch(Followed())
    for _ in range(MAX_DEATHS_IN_A_ROW):
        watch.on_trial_recover(0, [], trial())
    watch.on_trial_result(0, [], trial(), {ROUND_SECONDS: 1.0})
    for _ in range(MAX_DEATHS_IN_A_ROW):
        watch.on_trial_recover(0, [], trial())
    assert not watch.stop_all()
    watch.on_trial_recover(0, [], trial())
    assert watch.stop_all()
    assert str(watch.reason).startswith(f"{MAX_DEATHS_IN_A_ROW + 1} workers died")
    full = Watch(Followed())
    full.on_trial_result(0, [], trial(), {"done": True, STOPPED: "the disk is full"})
    assert full.reason == "the disk is full"


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


def test_few_trials_wait_on_one_node_and_enough_for_an_autoscaler_on_several() -> None:
    assert waiting_trials(2, 1) == 2
    assert waiting_trials(0, 1) == LEAST_WAITING
    assert waiting_trials(2, 3) == LEAST_WAITING
    assert waiting_trials(64, 3) == 64


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
