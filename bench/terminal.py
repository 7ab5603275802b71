"""The terminal: errors as one message with an exit code, and the progress of a grid."""

import importlib.metadata
import io
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, RLock, Thread, Timer
from time import monotonic
from types import FrameType, TracebackType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from activekd.errors import InputError
from bench.spec import Trial

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

LINE_SECONDS = 10.0
"""Seconds between progress lines when the output is not a terminal."""

NAMED_SECONDS = 2.0
"""Seconds after which a step before the trials is named."""

WIDE = 10_000
"""Columns of an output that is not a terminal: nothing in it is wrapped or shortened."""

console = Console(markup=False, emoji=False, highlight=False)
"""Where commands print: names and paths as they are, without markup, emoji codes or highlighting."""

if not console.is_terminal:
    console.width = WIDE


def say(text: str, out: Console = console) -> None:
    """Print a line as it is: no markup, no line break of its own."""
    out.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


@contextmanager
def named(what: str, seconds: float = NAMED_SECONDS, out: Console = console) -> Iterator[None]:
    """Print what is being done if it takes longer than ``seconds``, while it is being done."""
    timer = Timer(seconds, say, [f"{what} ...", out])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
"""How every command line helps: at most so many columns, and nothing cut in fewer."""


def command_line(*, help_without_command: bool = False) -> typer.Typer:
    """A command line of the bench, without commands yet.

    Args:
        help_without_command: whether it shows its help where no command is given.
    """
    return typer.Typer(
        no_args_is_help=help_without_command,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )


def examples(*commands: str) -> str:
    """The end of a command's help: example calls, one a line."""
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {line}" for line in commands)])


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"activekd-bench {importlib.metadata.version('activekd-bench')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]
"""The option ``--version`` of a command line."""


@contextmanager
def user_errors(when_interrupted: str = "interrupted") -> Iterator[None]:
    """End the command with exit code 2 on an InputError and 130 on Ctrl-C or SIGTERM, each with one message.

    A character that the encoding of the standard output lacks is printed as its escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except InputError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise typer.Exit(EXIT_INPUT) from None
    except KeyboardInterrupt:
        print(when_interrupted, file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class DecodingLines:
    """Prints the progress of decoding a data set: a line every LINE_SECONDS."""

    def __init__(self, out: Console = console) -> None:
        self._out = out
        self._last_line = monotonic()

    def __call__(self, dataset: str, done: int, total: int) -> None:
        """``done`` of a data set's ``total`` images are decoded."""
        if monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = monotonic()
            say(f"{dataset}: {done:,} of {total:,} images decoded", self._out)


def print_notes(notes: Mapping[str, Sequence[str]], out: Console = console) -> None:
    """Print the notes on each data set, one line each."""
    for dataset, lines in notes.items():
        for line in lines:
            say(f"{dataset}: {line}", out)


class GridProgress:
    """Shows trials done and running, rounds, the rate, and the time left, estimated from measured rounds.

    A live bar on a terminal, else a line every few seconds. Both go by the clock, from a thread of their own, and
    depend on no result: also while the bank is filled and before the first round ends.

    Args:
        kinds: kind of each trial, by id; rounds of one kind take about the same time.
        rounds: number of rounds of each trial, by id.
        rounds_done: number of rounds of each trial that were stored before, by id.
        every: seconds between lines when the output is not a terminal.
        out: where to write.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        rounds: Mapping[str, int],
        rounds_done: Mapping[str, int],
        *,
        every: float = LINE_SECONDS,
        out: Console = console,
    ) -> None:
        self._kinds = kinds
        self._trials, self._rounds = len(kinds), sum(rounds.values())
        self._trials_done = sum(rounds_done.get(t, 0) >= n for t, n in rounds.items())
        self._rounds_done = self._rounds_before = sum(rounds_done.values())
        self._left_of = {trial_id: n - rounds_done.get(trial_id, 0) for trial_id, n in rounds.items()}
        self._seconds: dict[str, tuple[float, int]] = {}
        self._failed = 0
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._began: float | None = None
        self._last_round: float | None = None
        self._bank: tuple[int, int] = (0, 0)
        self._bank_now = ""
        self._bank_began: tuple[float, int] | None = None
        self._every, self._last_line = every, monotonic()
        self._out = out
        self._lock, self._stopping = RLock(), Event()
        self._clock = Thread(target=self._run_clock, name="progress", daemon=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[state]}"),
            console=out,
            disable=not out.is_terminal,
            transient=True,
        )
        self._bank_task = self._bar.add_task("features", total=None, state="", visible=False)
        self._round_task = self._bar.add_task("rounds", total=self._rounds, completed=self._rounds_done, state="")

    @classmethod
    def of_trials(cls, trials: Sequence[Trial], rounds_done: Mapping[str, int], *, every: float) -> "GridProgress":
        """The progress of these trials; those with the same data set, teacher, student and recipe are one kind."""
        kinds = {t.id: f"{t.dataset} {t.teacher} {t.student} {t.recipe_name}" for t in trials}
        stored = {t.id: min(rounds_done.get(t.id, 0), t.rounds) for t in trials}
        return cls(kinds, {t.id: t.rounds for t in trials}, stored, every=every)

    def __enter__(self) -> "GridProgress":
        self._bar.start()
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._clock.join()
        self._bar.stop()
        if not self._out.is_terminal:
            self._line()

    def _run_clock(self) -> None:
        while not self._stopping.wait(min(1.0, self._every)):
            self.tick()

    def tick(self) -> None:
        """Show the state, if a line is due or the output is a terminal."""
        with self._lock:
            if self._out.is_terminal:
                done, total = self._bank
                self._bar.update(
                    self._bank_task, completed=done, total=total, state=self._bank_state(), visible=done < total
                )
                self._bar.update(self._round_task, completed=self._rounds_done, state=self.state())
            elif monotonic() - self._last_line >= self._every:
                self._line()

    def banked(self, done: int, total: int, now: str = "") -> None:
        """``done`` of the bank's ``total`` arrays are ready; ``now`` names those in work."""
        with self._lock:
            news = (done, total) != self._bank
            self._bank, self._bank_now = (done, total), now
            self._bank_began = self._bank_began or (monotonic(), done)
            if news and done == total and not self._out.is_terminal:
                say(f"features {done}/{total}: complete", self._out)
        self.tick()

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        with self._lock:
            self._began = self._began or monotonic()
            if trial_id not in self._ended:
                self._running.add(trial_id)
        self.tick()

    def round_done(self, trial_id: str, seconds: float) -> None:
        """A trial has stored a round that took ``seconds``."""
        with self._lock:
            kind = self._kinds[trial_id]
            total, n = self._seconds.get(kind, (0.0, 0))
            self._seconds[kind] = total + seconds, n + 1
            self._left_of[trial_id] -= 1
            self._rounds_done = min(self._rounds_done + 1, self._rounds)
            self._last_round = monotonic()
        self.tick()

    def ended(self, trial_id: str, *, failed: bool = False) -> None:
        """A trial is complete or was given up; told again, it changes nothing."""
        with self._lock:
            if trial_id in self._ended:
                return
            self._ended.add(trial_id)
            self._running.discard(trial_id)
            self._trials_done += not failed
            self._failed += failed
            if not failed and self._left_of[trial_id] > 0:
                # Rounds that a worker stored before it died without reporting them.
                self._rounds_done = min(self._rounds_done + self._left_of[trial_id], self._rounds)
                self._last_round = monotonic()
            self._left_of[trial_id] = 0
        self.tick()

    def seconds_left(self) -> float | None:
        """Seconds until the missing rounds are done; None before the first is measured.

        A missing round counts the mean seconds of its kind, or of all kinds if its kind is not measured. The sum is
        scaled by elapsed time over measured seconds, since trials run concurrently, both at the last finished round;
        the time since then is taken off.
        """
        n_new = self._rounds_done - self._rounds_before
        if self._began is None or self._last_round is None or n_new == 0:
            return None
        remaining = Counter[str]()
        for trial_id, n in self._left_of.items():
            remaining[self._kinds[trial_id]] += max(0, n)
        elapsed, since = self._last_round - self._began, monotonic() - self._last_round
        measured = sum(total for total, _ in self._seconds.values())
        if measured == 0:
            return max(0.0, remaining.total() * elapsed / n_new - since)
        mean = measured / n_new
        left = 0.0
        for kind, n in remaining.items():
            total, k = self._seconds.get(kind, (mean, 1))
            left += n * total / k
        return max(0.0, left * elapsed / measured - since)

    def state(self) -> str:
        """One line: trials done, failed and running, the rate of the rounds, time left."""
        text = f"{self._trials_done} of {self._trials} trials done, {len(self._running)} running"
        text += f", {self._failed} failed" if self._failed else ""
        if self._began is None:
            done, total = self._bank
            return f"{text}, workers are starting" if done == total > 0 else text
        elapsed, left = monotonic() - self._began, self.seconds_left()
        if left is None:
            return f"{text}, no round finished in {shown_time(elapsed)}" if self._running else text
        rate = _rate(self._rounds_done - self._rounds_before, elapsed, "rounds")
        return f"{text}, {rate}, {shown_time(left)} left"

    def _bank_state(self) -> str:
        """The rate of the bank, its time left, and what of it is in work; last what a narrow terminal may cut."""
        if self._bank_began is None:
            return ""
        (done, total), (began, before), now = self._bank, self._bank_began, monotonic()
        work = f"; {self._bank_now}" if self._bank_now else ""
        if done == before or now == began:
            return f"{shown_time(now - began)} so far{work}"
        rate = _rate(done - before, now - began, "arrays")
        return f"{rate}, {shown_time((total - done) * (now - began) / (done - before))} left{work}"

    def _line(self) -> None:
        self._last_line = monotonic()
        done, total = self._bank
        if done < total:
            say(f"features {done}/{total}: {self._bank_state()}", self._out)
        if done == total or self._began is not None:
            say(f"{self._rounds_done} of {self._rounds} rounds: {self.state()}", self._out)


def shown_time(seconds: float) -> timedelta:
    """A time in whole seconds."""
    return timedelta(seconds=round(seconds))


def _rate(n: int, seconds: float, what: str) -> str:
    """So many things a minute; an hour where they are fewer than one a minute."""
    a_minute = 60 * n / max(seconds, 1e-9)
    return f"{a_minute:.0f} {what}/min" if a_minute >= 1 else f"{60 * a_minute:.1f} {what}/h"


def print_failures(reasons: Mapping[str, str], trials: Sequence[Trial], folder: Path) -> None:
    """Print the trials that were given up to standard error, one line each.

    Args:
        reasons: traceback by trial id; empty if the trial failed in an earlier run.
        trials: of the grid.
        folder: with the files of the tracebacks.
    """
    by_id = {t.id: t for t in trials}
    head = f"{len(reasons)} of {len(trials)} trials failed"
    print(f"{head}; the same command with --retry-failed tries them again:", file=sys.stderr)
    for trial_id, reason in reasons.items():
        print(f"  {failure_line(by_id[trial_id].identity, reason, folder / f'{trial_id}.txt')}", file=sys.stderr)


def failure_line(identity: Mapping[Any, Any], reason: str, file: Path) -> str:
    """One line on a trial that was given up: its names, the error, and the file of the traceback."""
    names = " ".join(str(identity[key]) for key in ("dataset", "teacher", "student", "selector"))
    return f"{names} seed {identity['seed']}: {gist(reason)} ({file})"


def gist(reason: str) -> str:
    """The line of a traceback that names the exception, without the notes after it; else the last line."""
    lines = reason.rstrip().splitlines() or ["failed before"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines)[-1]
