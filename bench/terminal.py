"""The terminal: errors as one message with an exit code, and the progress of a grid."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from types import FrameType, TracebackType
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from activekd.errors import InputError

EXIT_FAILED = 1
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

LINE_SECONDS = 10.0
"""Seconds between plain progress lines where the output is no terminal."""

console = Console()


@contextmanager
def user_errors(when_interrupted: str = "interrupted") -> Iterator[None]:
    """End the command with exit code 2 on an InputError and 130 on Ctrl-C or SIGTERM, each with one message."""
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
    """How far the decoding of a data set is: a line every ten seconds, for what takes longer than that."""

    def __init__(self, out: Console = console) -> None:
        self._out = out
        self._last_line = monotonic()

    def __call__(self, dataset: str, done: int, total: int) -> None:
        """So many of a data set's images are decoded."""
        if monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = monotonic()
            self._out.print(f"{dataset}: {done:,} of {total:,} images decoded", highlight=False, soft_wrap=True)


class GridProgress:
    """Trials done and running, rounds, rounds a minute and time left: a live bar, or a line every ten seconds.

    Args:
        trials: trials of the grid.
        trials_done: those that were complete before.
        rounds: (trial, round)s of the grid.
        rounds_done: those that were stored before.
        out: where to write.
    """

    def __init__(self, trials: int, trials_done: int, rounds: int, rounds_done: int, out: Console = console) -> None:
        self._trials, self._trials_done = trials, trials_done
        self._rounds, self._rounds_done, self._rounds_before = rounds, rounds_done, rounds_done
        self._running: set[str] = set()
        self._began: float | None = None
        self._last_line = monotonic()
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
        self._round_task = self._bar.add_task("rounds", total=rounds, completed=rounds_done, state="")

    def __enter__(self) -> "GridProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if not self._out.is_terminal:
            self._line()

    def banked(self, done: int, total: int) -> None:
        """So many of the bank's arrays are there."""
        self._bar.update(self._bank_task, completed=done, total=total, visible=True)
        if not self._out.is_terminal and (done == total or self._due()):
            self._out.print(f"bank: {done} of {total} arrays", highlight=False)

    def started(self, trial_id: str) -> None:
        """A trial has begun."""
        self._began = self._began or monotonic()
        self._running.add(trial_id)
        self._show()

    def round_done(self, trial_id: str) -> None:
        """A trial has stored a round."""
        self._rounds_done = min(self._rounds_done + 1, self._rounds)
        self._show()

    def ended(self, trial_id: str) -> None:
        """A trial is complete or was given up."""
        self._running.discard(trial_id)
        self._trials_done += 1
        self._show()

    def state(self) -> str:
        """One line: trials done and running, rounds a minute, time left."""
        text = f"{self._trials_done} of {self._trials} trials done, {len(self._running)} running"
        made = self._rounds_done - self._rounds_before
        if self._began is None or made == 0:
            return text
        per_second = made / max(monotonic() - self._began, 1e-9)
        left = timedelta(seconds=round((self._rounds - self._rounds_done) / per_second))
        return f"{text}, {60 * per_second:.0f} rounds/min, ETA {left}"

    def _show(self) -> None:
        self._bar.update(self._round_task, completed=self._rounds_done, state=self.state())
        if not self._out.is_terminal and self._due():
            self._line()

    def _due(self) -> bool:
        if monotonic() - self._last_line < LINE_SECONDS:
            return False
        self._last_line = monotonic()
        return True

    def _line(self) -> None:
        self._out.print(
            f"{self._rounds_done} of {self._rounds} rounds: {self.state()}", highlight=False, soft_wrap=True
        )
