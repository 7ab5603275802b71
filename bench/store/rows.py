"""The rows of a results folder, one line per (trial, round) from a single writer, and the log of its trials."""

import errno
import gzip
import json
import os
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from activekd.errors import InputError, reason
from bench.columns import PICKED, Row
from bench.store.folder import failure_file, read_failures
from bench.store.history import SHOWN, History, histories
from bench.store.locks import lock

ROUNDS = Path("rounds") / "rounds.jsonl"
PACKED = ROUNDS.with_suffix(".jsonl.gz")
"""The same, compressed, as committed runs may be: it is read, and no grid writes to it."""

LOG = Path("rounds") / "log.jsonl"

OPENED = "opened"
"""Log event: a store has opened the folder to write."""

WRITER_WAIT_SECONDS = 30.0

_UNDISTURBED = "expected: a results folder that nothing else changes during a run; run the same command again"


class StorageError(InputError):
    """The results folder could not be written, or is not as this grid left it."""


class HistoryError(ValueError):
    """A row does not continue the stored rows of its trial."""


class Store:
    """The one writer of a results folder's rows; each row is on disk (fsync) before ``append`` returns.

    If a crash cut the last line short, opening the store drops it: its round is missing and runs again. Any other line
    that is not a row, or does not continue its trial, is an error. A log records each time that a trial begins, raises
    an error or is given up, and each row that arrives twice.

    Args:
        run: the results folder; created if absent.
        grid: id of this grid start; a restarted store replays the log from the first entry with this id. Random by
            default.
        wait_seconds: how long to wait for another writer of this folder to end.

    Raises:
        InputError: the folder cannot be written, another process writes to it, or its rows are damaged.
    """

    def __init__(self, run: Path, *, grid: str | None = None, wait_seconds: float = WRITER_WAIT_SECONDS) -> None:
        self._run = run
        self._path = path = run / ROUNDS
        if (run / PACKED).is_file():
            raise InputError(
                f"{run / PACKED} is only read; expected: unpack it first (gunzip), or another results folder (--out)"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._log = (run / LOG).open("ab", buffering=0)
            if not _ends_with_a_line(run / LOG):
                self._log.write(b"\n")
        except OSError as fault:
            raise InputError(f"results folder {run}: {reason(fault)}; expected: a writable folder (--out)") from fault
        try:
            lock(self._file.fileno(), run, wait_seconds)
            rows, whole_bytes = _parse(path)
            self._histories = dict(histories(rows, path))
            self._size = os.fstat(self._file.fileno()).st_size
            self._check_file()
            self._grid = grid or uuid.uuid4().hex
            self.note(OPENED, grid=self._grid)
            if self._size > whole_bytes:
                self._file.truncate(whole_bytes)
                self._size = whole_bytes
                self.note("torn line dropped")
        except InputError:
            self.close()
            raise

    def keys(self) -> set[tuple[str, int]]:
        """Every (trial_id, round) that is stored."""
        return {(trial, index) for trial, history in self._histories.items() for index in range(len(history.rows))}

    def begin(self, trial_id: str) -> list[Row]:
        """The stored rows of a trial that is about to start."""
        rows = list(self.rows_of(trial_id))
        self.note("begins", trial_id, round=len(rows))
        return rows

    def append(self, row: Row) -> Row:
        """Store a row, and answer with the row that is stored for its (trial_id, round).

        The first row of a (trial_id, round) stays. A worker that gets other picks than its own does not run the trial
        alone: it must resume from the stored rows.

        Raises:
            HistoryError: the row does not continue the stored rows of its trial.
            StorageError: the row could not be written, and the file ends with the row before it; or the file was
                deleted, replaced or changed by another process.
        """
        trial_id, index = row["trial_id"], row["round"]
        history = self._histories.get(trial_id) or History()
        if 0 <= index < len(history.rows):
            stored = history.rows[index]
            self.note("came twice", trial_id, round=index, same_picks=stored[PICKED] == row[PICKED])
            return stored
        if breach := history.breach(row):
            raise HistoryError(f"trial {trial_id}: {breach}")
        self._check_file()
        self._size += self._write(self._file, row)
        history.add(row)
        self._histories[trial_id] = history
        return row

    def rows_of(self, trial_id: str) -> list[Row]:
        """The stored rows of a trial."""
        history = self._histories.get(trial_id)
        return history.rows if history else []

    def _check_file(self) -> None:
        """Check that the file of the rows is still in its place, and that no other process has written to it.

        Raises:
            StorageError: it is not.
        """
        try:
            there, held = self._path.stat(), os.fstat(self._file.fileno())
        except OSError as fault:
            raise StorageError(f"{self._path}: {reason(fault)}; {_UNDISTURBED}") from fault
        if not os.path.samestat(there, held):
            raise StorageError(f"{self._path} was replaced while a grid wrote to it; {_UNDISTURBED}")
        if held.st_size != self._size:
            raise StorageError(
                f"{self._path} has {held.st_size} bytes where this grid left {self._size}: another process wrote to "
                f"it; {_UNDISTURBED}"
            )

    def note(self, event: str, trial_id: str | None = None, **more: Any) -> None:
        """Write a line to the log.

        Raises:
            StorageError: the line could not be written.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        about = {} if trial_id is None else {"trial_id": trial_id}
        self._write(self._log, {"time": now, "event": event, **about, **more}, sync=False)

    def _write(self, file: FileIO, content: Mapping[str, Any], *, sync: bool = True) -> int:
        line = json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        before = os.fstat(file.fileno()).st_size
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(file.fileno())
        except OSError as fault:
            # A line that cannot be cut off here is dropped by the next opening as torn.
            with suppress(OSError):
                file.truncate(before)
            raise StorageError(
                f"results folder {self._run}: {reason(fault)}; the rows so far are kept; expected: room on its disk, "
                f"then the same command again"
            ) from fault
        return len(line)

    def give_up(self, trial_id: str, why: str) -> None:
        """Give a trial up, and keep the reason in a file.

        Raises:
            StorageError: the reason could not be written.
        """
        self.note("given up", trial_id)
        path = failure_file(self._run, trial_id)
        unfinished = path.with_suffix(".part")
        try:
            path.parent.mkdir(exist_ok=True)
            unfinished.write_text(why, encoding="utf-8", errors="backslashreplace")
            unfinished.replace(path)
        except OSError as fault:
            raise StorageError(f"results folder {self._run}: {reason(fault)}; expected: room on its disk") from fault

    def has_failed(self, trial_id: str) -> bool:
        """Whether a trial was given up."""
        return failure_file(self._run, trial_id).is_file()

    def failures(self) -> dict[str, str]:
        """Why trials were given up, by id."""
        return read_failures(self._run)

    def rounds_done(self) -> dict[str, int]:
        """How many rounds of each trial are stored, by id."""
        return {trial: len(history.rows) for trial, history in self._histories.items()}

    def log_of_grid(self) -> list[dict[str, Any]]:
        """The log since a store was first opened with this grid's id."""
        events = logged(self._run)
        first = next((k for k, e in enumerate(events) if e["event"] == OPENED and e.get("grid") == self._grid), 0)
        return events[first:]

    def close(self) -> None:
        """Release the folder to another writer."""
        self._file.close()
        self._log.close()


@dataclass(frozen=True)
class Started:
    """The last start of a grid on a results folder, from its log.

    Attributes:
        at: when its first trial began; None before that.
        rounds: rounds that each trial had when it began, by id.
    """

    at: datetime | None
    rounds: Mapping[str, int]


def last_start(run: Path) -> Started:
    """The trials that have begun since the last start of a grid on the results folder."""
    events = logged(run)
    last = next((event.get("grid") for event in reversed(events) if event["event"] == OPENED), None)
    first = next((k for k, e in enumerate(events) if e["event"] == OPENED and e.get("grid") == last), 0)
    begun = [event for event in events[first:] if event["event"] == "begins"]
    rounds = {event["trial_id"]: event["round"] for event in reversed(begun)}
    return Started(datetime.fromisoformat(begun[0]["time"]) if begun else None, rounds)


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def logged(run: Path) -> list[dict[str, Any]]:
    """The log of a results folder, an event a line; a line that a crash cut short is left out."""
    path, events = run / LOG, []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            events.append(json.loads(line))
    return events


def _parse(path: Path) -> tuple[list[Row], int]:
    """The rows of a file, and the bytes of its whole lines."""
    try:
        content = path.read_bytes()
        lines = (gzip.decompress(content) if path.suffix == PACKED.suffix else content).splitlines(keepends=True)
    except (gzip.BadGzipFile, EOFError, zlib.error) as fault:
        raise InputError(f"{path}: {fault}; expected: a whole gzip file") from fault
    except OSError as fault:
        raise InputError(f"{path}: {reason(fault)}; expected: a readable file") from fault
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    rows, faults = [], []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not (isinstance(row["trial_id"], str) and isinstance(row[PICKED], list)):
                raise TypeError("trial_id is not a text, or picked is not a list")
            _ = row["round"], row["n_labeled"]
        except (ValueError, KeyError, TypeError) as fault:
            faults.append(f"line {number} is not a row ({fault})")
        else:
            rows.append(row)
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError(f"{path}, {'; '.join([*faults[:SHOWN], *more])}; expected: remove the line, then run again")
    return rows, sum(map(len, lines))


def rounds_done(run: Path) -> dict[str, int]:
    """How many rounds of each trial of a results folder are stored, by id; raises as ``stored_histories`` does."""
    return {trial: len(history.rows) for trial, history in stored_histories(run).items()}


def stored_histories(run: Path) -> Mapping[str, History]:
    """The rows of each trial of a results folder, by id.

    Raises:
        InputError: a line is not a row, or does not continue its trial.
    """
    return histories(stored_rows(run), run / ROUNDS)


def stored_rows(run: Path) -> list[Row]:
    """The rows of a results folder in file order, picks included; a torn last line is left out.

    Raises:
        InputError: another line is not a row, or the folder has both ROUNDS and PACKED.
    """
    found = [run / file for file in (ROUNDS, PACKED) if (run / file).is_file()]
    if len(found) > 1:
        raise InputError(f"{' and '.join(map(str, found))}; expected: one of them")
    return _parse(found[0])[0] if found else []
