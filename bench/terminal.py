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
from threading import Timer
from time import monotonic
from types import FrameType, TracebackType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

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


HELP_NAMES = {"help_option_names": ["-h", "--help"]}
"""Settings of every command line."""


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
    """Shows trials done and running, rounds, and the time left, estimated from measured rounds.

    A live bar on a terminal, else a line every few seconds.

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
        self._bank = ""
        self._running: set[str] = set()
        self._began: float | None = None
        self._every, self._last_line = every, monotonic()
        self._out = out
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=out,
            disable=not out.is_terminal,
            transient=True,
        )
        self._bank_task = self._bar.add_task("bank", total=None, state="", visible=False)
        self._round_task = self._bar.add_task("rounds", total=self._rounds, completed=self._rounds_done, state="")

    @classmethod
    def of_trials(cls, trials: Sequence[Trial], rounds_done: Mapping[str, int], *, every: float) -> "GridProgress":
        """The progress of these trials; those with the same data set, teacher, student and recipe are one kind."""
        kinds = {t.id: f"{t.dataset} {t.teacher} {t.student} {t.recipe_name}" for t in trials}
        stored = {t.id: min(rounds_done.get(t.id, 0), t.rounds) for t in trials}
        return cls(kinds, {t.id: t.rounds for t in trials}, stored, every=every)

    def __enter__(self) -> "GridProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if not self._out.is_terminal:
            self._line()

    def banked(self, done: int, total: int, now: str = "") -> None:
        """``done`` of the bank's ``total`` arrays are ready; ``now`` names those in work."""
        self._bank = f"bank: {done} of {total} arrays" + (f", now {now}" if now else "")
        if self._out.is_terminal:
            self._bar.update(self._bank_task, completed=done, total=total, state=now, visible=done < total)
        elif done == total:
            say(self._bank, self._out)
        elif self._due():
            self._line()
        if done == total:
            self._bank = ""

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        self._began = self._began or monotonic()
        self._running.add(trial_id)
        self._show()

    def round_done(self, trial_id: str, seconds: float) -> None:
        """A trial has stored a round that took ``seconds``."""
        kind = self._kinds[trial_id]
        total, n = self._seconds.get(kind, (0.0, 0))
        self._seconds[kind] = total + seconds, n + 1
        self._left_of[trial_id] -= 1
        self._rounds_done = min(self._rounds_done + 1, self._rounds)
        self._show()

    def ended(self, trial_id: str, *, failed: bool = False) -> None:
        """A trial is complete or was given up."""
        self._running.discard(trial_id)
        self._trials_done += not failed
        self._failed += failed
        if not failed:
            # Rounds that a worker stored before it died without reporting them.
            self._rounds_done = min(self._rounds_done + self._left_of[trial_id], self._rounds)
        self._left_of[trial_id] = 0
        self._show()

    def seconds_left(self) -> float | None:
        """Seconds until the missing rounds are done; None before the first is measured.

        A missing round counts the mean seconds of its kind, or of all kinds if its kind is not measured. The sum is
        scaled by elapsed time over measured seconds, since trials run concurrently.
        """
        n_new = self._rounds_done - self._rounds_before
        if self._began is None or n_new == 0:
            return None
        remaining = Counter[str]()
        for trial_id, n in self._left_of.items():
            remaining[self._kinds[trial_id]] += max(0, n)
        measured = sum(total for total, _ in self._seconds.values())
        if measured == 0:
            return remaining.total() * (monotonic() - self._began) / n_new
        mean = measured / n_new
        left = 0.0
        for kind, n in remaining.items():
            total, k = self._seconds.get(kind, (mean, 1))
            left += n * total / k
        return left * (monotonic() - self._began) / measured

    def state(self) -> str:
        """One line: trials done, failed and running, rounds a minute, time left."""
        text = f"{self._trials_done} of {self._trials} trials done, {len(self._running)} running"
        text += f", {self._failed} failed" if self._failed else ""
        left = self.seconds_left()
        if left is None or self._began is None:
            return text
        rate = 60 * (self._rounds_done - self._rounds_before) / max(monotonic() - self._began, 1e-9)
        return f"{text}, {rate:.0f} rounds/min, ETA {timedelta(seconds=round(left))}"

    def _show(self) -> None:
        if self._out.is_terminal:
            self._bar.update(self._round_task, completed=self._rounds_done, state=self.state())
        elif self._due():
            self._line()

    def _due(self) -> bool:
        if monotonic() - self._last_line < self._every:
            return False
        self._last_line = monotonic()
        return True

    def _line(self) -> None:
        bank = f"; {self._bank}" if self._bank else ""
        say(f"{self._rounds_done} of {self._rounds} rounds: {self.state()}{bank}", self._out)


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
        trial = by_id[trial_id]
        print(
            f"  {trial.dataset} {trial.teacher} {trial.student} {trial.selector} seed {trial.seed}: {gist(reason)} "
            f"({folder / trial_id}.txt)",
            file=sys.stderr,
        )


def gist(reason: str) -> str:
    """The line of a traceback that names the exception, without the notes after it; else the last line."""
    lines = reason.rstrip().splitlines() or ["failed before"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines)[-1]
