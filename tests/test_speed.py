"""Measurements of speed: bars and their limits, steady rates, and idle rows that a results folder accepts."""

import math
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench.plan.count import estimate
from bench.plan.work import Task
from bench.spec import read_spec
from bench.speed import throughput
from bench.speed.bars import Bar, apart, print_bars
from bench.speed.grid import IdleRun, flat_bar, idle_rounds, idle_spec, idle_trials, tune_bar, write_idle_plan
from bench.speed.throughput import MOST_TRIES, measured_rates, steady_rate
from bench.store.rows import Store
from bench.store.table import read_run
from bench.trials.run import Execution


@pytest.mark.parametrize(
    ("value", "limit", "passes"), [(1.0, 1.0, True), (1.01, 1.0, False), (math.inf, 1.0, False), (math.nan, 1.0, False)]
)
def test_a_value_passes_up_to_its_limit(value: float, limit: float, passes: bool) -> None:
    assert Bar("it", value, limit).passes is passes


def test_the_table_names_each_miss() -> None:
    shown = StringIO()
    print_bars([Bar("fast", 0.5, 1.0, "0.5 s"), Bar("slow", 2.0, 1.0, "2 s")], Console(file=shown))
    lines = shown.getvalue().splitlines()
    assert "pass" in next(line for line in lines if "fast" in line)
    assert "MISS" in next(line for line in lines if "slow" in line)


def test_a_function_runs_apart() -> None:
    assert apart(math.sqrt, 4.0) == 2.0
    with pytest.raises(ValueError, match="invalid literal"):
        apart(int, "two")


def _clock_and_action(seconds: Iterator[float]) -> tuple[Callable[[], float], Callable[[], None]]:
    """A clock that an action sets forward by the next of these."""
    now = 0.0

    def action() -> None:
        nonlocal now
        now += next(seconds)

    return lambda: now, action


def test_a_rate_is_measured_until_two_in_a_row_agree() -> None:
    calls = iter([9.0, 4.0, 1.0, 0.5, 0.48, 7.0])
    clock, action = _clock_and_action(calls)
    rate = steady_rate(action, 10, clock)
    assert rate.steady
    assert rate.value == pytest.approx((10 / 0.5 + 10 / 0.48) / 2)
    assert next(calls) == 7.0


def test_short_calls_are_measured_together() -> None:
    clock, action = _clock_and_action(iter([0.06] * 100))
    rate = steady_rate(action, 1, clock)
    assert rate.value == pytest.approx(1 / 0.06)


def test_a_rate_that_never_agrees_is_not_steady() -> None:
    calls = iter([1.0, 2.0] * 20)
    clock, action = _clock_and_action(calls)
    assert not steady_rate(action, 1, clock).steady
    assert len(list(calls)) == 40 - 1 - MOST_TRIES


def test_each_task_of_a_plan_has_its_rate(tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "LEAST_SECONDS", 0.001)
    text = tiny_spec.read_text(encoding="utf-8")
    text = text.replace('["resnet6_mini@16"]', '["resnet6_mini@16", "adapter:efficientnet_lite0@32"]')
    tiny_spec.write_text(text, encoding="utf-8")
    plan = estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    rates = measured_rates(plan, "cpu", Console(quiet=True))
    assert rates.keys() == {task for task in plan.work if task.part != "diagnose"}
    assert rates.keys() >= {Task("student", "adapter:efficientnet_lite0@32", 16), Task("teacher", "glyphclip+clap")}
    assert min(rates.values()) > 0


def test_flat_compares_the_ends_without_the_start() -> None:
    completed = [10.0, *(10.0 + k for k in range(1, 9)), 20.0]
    bar = flat_bar(IdleRun(3, 21.0, completed, [10**6] * 10))
    assert bar.value == pytest.approx((20.0 - 17.0) / 2)
    assert not bar.passes


def test_idle_trials_are_held_against_bare_tune() -> None:
    idle = IdleRun(3, 15.0, [1.0] * 10, [1] * 10)
    assert tune_bar(idle, 10.0).passes
    assert not tune_bar(idle, 9.9).passes


def test_idle_rows_are_rows_of_their_plan(tmp_path: Path) -> None:
    spec = read_spec(str(idle_spec(2, 3, tmp_path)))
    write_idle_plan(tmp_path / "run", spec)
    store = Store(tmp_path / "run")
    for trial in idle_trials(spec):
        for row in idle_rounds(trial, {}, None, [], Execution()):
            store.append(row)
    store.close()
    run = read_run(tmp_path / "run")
    assert len(run.rows) == 6
    assert run.holes.empty
