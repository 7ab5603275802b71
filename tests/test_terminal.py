"""The terminal: the progress of a grid and the time left, failures, signals."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pytest
import typer
from rich.console import Console
from rich.table import Table

from bench import terminal
from bench.spec import read_spec
from bench.terminal import EXIT_INTERRUPTED, GridProgress, console, named, print_failures, say, user_errors

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
    # Two rounds of 3 s and two of 7 s took 10 s: 20 s of rounds in 10 s of the clock, two at a time.
    # Left: 6 small ones of 3 s and 2 large ones of 7 s, 32 s of rounds, 16 s of the clock.
    made = progress(io.StringIO())
    made.started("a")
    made.started("c")
    clock.now += 10
    for trial, seconds in (("a", 3.0), ("c", 7.0), ("a", 3.0), ("c", 7.0)):
        made.round_done(trial, seconds)
    assert made.seconds_left() == pytest.approx(16.0)
    assert made.state() == "0 of 3 trials done, 2 running, 24 rounds/min, 0:00:16 left"


def test_nothing_is_foretold_before_a_round_is_measured_and_stored_rounds_are_not_left(clock: Clock) -> None:
    made = progress(io.StringIO(), {"a": 4, "b": 4})
    made.started("c")
    assert made.seconds_left() is None
    assert made.state() == "2 of 3 trials done, 1 running, no round finished in 0:00:00"
    clock.now += 5
    made.round_done("c", 5.0)
    assert made.seconds_left() == pytest.approx(15.0)
    made.ended("c", failed=True)
    assert made.state() == "2 of 3 trials done, 0 running, 1 failed, 12 rounds/min, 0:00:00 left"


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


def test_lines_appear_by_the_clock_without_any_result(clock: Clock) -> None:
    """While the bank is filled, while no round has ended, and while one lasts long."""
    out = io.StringIO()
    made = progress(out)
    clock.now += 10
    made.tick()
    made.banked(0, 8)
    clock.now += 5
    made.banked(2, 8, "teacher clip on birds, train, view 2 and 1 more")
    clock.now += 5
    made.tick()
    made.tick()
    made.banked(8, 8)
    clock.now += 10
    made.tick()
    clock.now += 10
    made.started("a")
    clock.now += 3600
    made.tick()
    made.round_done("a", 3600.0)
    clock.now += 1800
    made.tick()
    clock.now += 5
    made.tick()
    assert out.getvalue().splitlines() == [
        "0 of 12 rounds: 0 of 3 trials done, 0 running",
        "features 2/8: 12 arrays/min, 0:00:30 left; teacher clip on birds, train, view 2 and 1 more",
        "features 8/8: complete",
        "0 of 12 rounds: 0 of 3 trials done, 0 running, workers are starting",
        "0 of 12 rounds: 0 of 3 trials done, 1 running, no round finished in 0:00:00",
        "0 of 12 rounds: 0 of 3 trials done, 1 running, no round finished in 1:00:00",
        "1 of 12 rounds: 0 of 3 trials done, 1 running, 0.7 rounds/h, 10:30:00 left",
    ]


class Heard(io.StringIO):
    """Output that knows of its first line."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Event()

    def write(self, text: str, /) -> int:
        self.line.set()
        return super().write(text)


def test_the_clock_runs_while_the_grid_is_busy() -> None:
    out = Heard()
    with GridProgress(KINDS, {"a": 1, "b": 1, "c": 1}, {}, every=0.01, out=Console(file=out, width=200)):
        assert out.line.wait(timeout=60)
    assert out.getvalue().startswith("0 of 3 rounds")


def test_an_end_that_is_told_twice_counts_once(clock: Clock) -> None:
    made = progress(io.StringIO())
    made.started("a")
    clock.now += 60
    for _ in range(2):
        made.ended("a")
    made.started("a")
    assert made.state() == "1 of 3 trials done, 0 running, 4 rounds/min, 0:02:00 left"


def test_the_progress_of_trials_counts_what_is_stored(tiny_spec: Path, clock: Clock) -> None:
    trials = read_spec(str(tiny_spec)).trials
    made = GridProgress.of_trials(trials, {trials[0].id: 3, trials[1].id: 1}, every=10.0)
    assert made.state() == "1 of 4 trials done, 0 running"


def test_failures_name_the_trial_the_error_and_the_file(
    tiny_spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = read_spec(str(tiny_spec)).trials
    traceback = "Traceback (most recent call last):\n  File x\nmine.OddError: it is odd\nround 2\n"
    print_failures({trials[0].id: traceback, trials[1].id: ""}, trials, tmp_path)
    head, first, second = capsys.readouterr().err.splitlines()
    assert head == "2 of 4 trials failed; the same command with --retry-failed tries them again:"
    assert first.endswith(f"random seed 0: mine.OddError: it is odd ({tmp_path / trials[0].id}.txt)")
    assert "failed before" in second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_with_one_message(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(typer.Exit) as end, user_errors("stopped; all is kept"):
            os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert end.value.exit_code == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "stopped; all is kept\n"
    assert signal.getsignal(signal.SIGTERM) == before[1]


NAME = "/tmp/out [old]/run :smile: [red]x[/red] " + "long " * 60


def test_lines_and_tables_show_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say(NAME)
    table = Table("[b]head[/b]", title="[i]title[/i]")
    table.add_row(NAME)
    console.print(table)
    say(NAME, Console(file=sys.stdout, width=20))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] == NAME
    assert any(NAME.rstrip() in line for line in lines[1:-1])
    assert "[b]head[/b]" in "\n".join(lines)
    assert "[i]title[/i]" in "\n".join(lines)


def test_an_encoding_without_a_character_gets_its_escape() -> None:
    code = "from bench.terminal import say, user_errors\nwith user_errors():\n    say('\\u9e1f\\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\\u9e1f\\udcff\n"


def test_a_step_that_takes_long_is_named_while_it_runs() -> None:
    text = io.StringIO()
    out = Console(file=text, width=100)
    with named("caltech101: reading its files", 60.0, out):
        pass
    assert text.getvalue() == ""
    with named("caltech101: reading its files", 0.0, out):
        deadline = monotonic() + 30
        while not text.getvalue() and monotonic() < deadline:
            sleep(0.01)
    assert text.getvalue() == "caltech101: reading its files ...\n"
