"""The progress of a grid, what is left by what rounds were measured to take; signals while Ray starts."""

import io
import os
import signal

import pytest
import typer
from rich.console import Console

from bench import terminal
from bench.cluster.nodes import _interrupts_at_the_end, ray_utils
from bench.terminal import EXIT_INTERRUPTED, GridProgress, user_errors

KINDS = {"a": "small", "b": "small", "c": "large"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(terminal, "monotonic", made)
    return made


def progress(out: io.StringIO, done: dict[str, int] | None = None) -> GridProgress:
    rounds = {"a": 4, "b": 4, "c": 4}
    return GridProgress(KINDS, rounds, done or {}, every=10.0, out=Console(file=out, width=200))


def test_time_left_by_kind_and_by_how_many_run_at_a_time(clock: Clock) -> None:
    # Two rounds of 3 s and two of 7 s were made in 10 s: 20 s of rounds in 10 s of the clock, two at a time.
    # Left: 6 small ones of 3 s and 2 large ones of 7 s, 32 s of rounds, 16 s of the clock.
    made = progress(io.StringIO())
    made.started("a")
    made.started("c")
    clock.now += 10
    for trial, seconds in (("a", 3.0), ("c", 7.0), ("a", 3.0), ("c", 7.0)):
        made.round_done(trial, seconds)
    assert made.seconds_left() == pytest.approx(16.0)
    assert made.state() == "0 of 3 trials done, 2 running, 24 rounds/min, ETA 0:00:16"


def test_nothing_is_foretold_before_a_round_is_measured_and_stored_rounds_are_not_left(clock: Clock) -> None:
    made = progress(io.StringIO(), {"a": 4, "b": 4})
    made.started("c")
    assert made.seconds_left() is None
    assert made.state() == "2 of 3 trials done, 1 running"
    clock.now += 5
    made.round_done("c", 5.0)
    assert made.seconds_left() == pytest.approx(15.0)
    made.ended("c", failed=True)
    assert made.state() == "2 of 3 trials done, 0 running, 1 failed, 12 rounds/min, ETA 0:00:00"


def test_rounds_that_a_dead_worker_did_not_tell_of_count_when_their_trial_ends(clock: Clock) -> None:
    out = io.StringIO()
    made = progress(out)
    with made:
        made.started("a")
        clock.now += 5
        made.round_done("a", 5.0)
        made.ended("a")
    assert "4 of 12 rounds: 1 of 3 trials done" in out.getvalue()


def test_a_line_every_so_many_seconds_where_there_is_no_terminal(clock: Clock) -> None:
    out = io.StringIO()
    made = progress(out)
    made.started("a")
    for _ in range(8):
        clock.now += 4
        made.round_done("a", 4.0)
    assert out.getvalue().count("rounds:") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_ray_starts_ends_the_command_once_it_has_started(number: signal.Signals) -> None:
    def of_ray(number: int, frame: object) -> None:
        raise SystemExit(number)

    steps = []

    def command() -> None:
        with user_errors():
            handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
            try:
                with _interrupts_at_the_end():
                    ray_utils.set_sigterm_handler(of_ray)
                    os.kill(os.getpid(), number)
                    steps.append("started")
                steps.append("went on")
            finally:
                assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(typer.Exit) as end:
            command()
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.exit_code == EXIT_INTERRUPTED
    assert steps == ["started"]
