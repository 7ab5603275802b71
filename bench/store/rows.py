"""The rows of a results folder, one line per (trial, round) from a single writer, and the log of its trials."""

import errno
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from activekd.errors import InputError
from bench.columns import PICKED, Row
from bench.store.folder import failure_file, read_failures
from bench.store.locks import lock

ROUNDS = Path("rounds") / "rounds.jsonl"

LOG = Path("rounds") / "log.jsonl"

OPENED = "opened"
"""Log event: a store has opened the folder to write."""

WRITER_WAIT_SECONDS = 30.0


class StorageError(InputError):
    """The results folder could not be written; the rows stored before are intact."""


class Store:
    """The one writer of a results folder's rows; each row is on disk (fsync) before ``append`` returns.

    If a crash cut the last line short, opening the store drops it: its round is missing and runs again. Any other line
    that is not a row is an error. A log records each time that a trial begins, raises an error or is given up, and each
    row that arrives twice.

    Args:
        run: the results folder; created if absent.
        grid: id of this grid start; a restarted store replays the log from the first entry with this id. Random by
            default.
        wait_seconds: how long to wait for another writer of this folder to end.

    Raises:
        InputError: the folder cannot be written, another process writes to it, or its rows are damaged.
    """

    def __init__(self, run: Path, *, grid: str | None = None, wait_seconds: float = WRITER_WAIT_SECONDS) -> None:
        path = run / ROUNDS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._log = (run / LOG).open("ab", buffering=0)
        except OSError as fault:
            raise InputError(f"results folder {run}: {fault}; expected: a writable folder (--out)") from fault
        self._run = run
        try:
            lock(self._file.fileno(), run, wait_seconds)
            rows, whole_bytes = _parse(path)
        except InputError:
            self.close()
            raise
        self._grid = grid or uuid.uuid4().hex
        self.note(OPENED, grid=self._grid)
        if path.stat().st_size > whole_bytes:
            self._file.truncate(whole_bytes)
            self.note("torn line dropped")
        self._rows: dict[str, dict[int, Row]] = {}
        for row in rows:
            self._rows.setdefault(row["trial_id"], {})[row["round"]] = row

    def keys(self) -> set[tuple[str, int]]:
        """Every (trial_id, round) that is stored."""
        return {(trial, index) for trial, rounds in self._rows.items() for index in rounds}

    def begin(self, trial_id: str) -> list[Row]:
        """The rows of a trial that is about to start, from round 0 up to its first missing round."""
        rounds = self._rows.get(trial_id, {})
        out = []
        while len(out) in rounds:
            out.append(rounds[len(out)])
        self.note("begins", trial_id, round=len(out))
        return out

    def append(self, row: Row) -> None:
        """Store a row; if its (trial_id, round) is stored already, ignore the row and note this in the log.

        Raises:
            StorageError: the row could not be written; the file ends with the row before it.
        """
        rounds = self._rows.setdefault(row["trial_id"], {})
        if row["round"] in rounds:
            self.note("came twice", row["trial_id"], round=row["round"])
            return
        self._write(self._file, row)
        rounds[row["round"]] = row

    def note(self, event: str, trial_id: str | None = None, **more: Any) -> None:
        """Write a line to the log.

        Raises:
            StorageError: the line could not be written.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        about = {} if trial_id is None else {"trial_id": trial_id}
        self._write(self._log, {"time": now, "event": event, **about, **more}, sync=False)

    def _write(self, file: FileIO, content: Mapping[str, Any], *, sync: bool = True) -> None:
        line = json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        before = os.fstat(file.fileno()).st_size
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(file.fileno())
        except OSError as fault:
            file.truncate(before)
            raise StorageError(
                f"results folder {self._run}: {fault.strerror}; the rows so far are kept; expected: room on its disk, "
                f"then the same command again"
            ) from fault

    def give_up(self, trial_id: str, reason: str) -> None:
        """Give a trial up, and keep the reason in a file.

        Raises:
            StorageError: the reason could not be written.
        """
        self.note("given up", trial_id)
        path = failure_file(self._run, trial_id)
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(reason, encoding="utf-8")
        except OSError as fault:
            raise StorageError(f"results folder {self._run}: {fault}; expected: room on its disk") from fault

    def has_failed(self, trial_id: str) -> bool:
        """Whether a trial was given up."""
        return failure_file(self._run, trial_id).is_file()

    def failures(self) -> dict[str, str]:
        """Why trials were given up, by id."""
        return read_failures(self._run)

    def rounds_done(self) -> dict[str, int]:
        """How many rounds of each trial are stored without a gap from round 0 on, by id."""
        return _without_gap({trial: set(rounds) for trial, rounds in self._rows.items()})

    def log_of_grid(self) -> list[dict[str, Any]]:
        """The log since a store was first opened with this grid's id."""
        events = _read_log(self._run)
        first = next((k for k, e in enumerate(events) if e["event"] == OPENED and e.get("grid") == self._grid), 0)
        return events[first:]

    def close(self) -> None:
        """Release the folder to another writer."""
        self._file.close()
        self._log.close()


def begun(run: Path) -> set[str]:
    """Ids of the trials that have begun since the last start of a grid on the results folder, from its log."""
    events = _read_log(run)
    last = next((event.get("grid") for event in reversed(events) if event["event"] == OPENED), None)
    first = next((k for k, e in enumerate(events) if e["event"] == OPENED and e.get("grid") == last), 0)
    return {event["trial_id"] for event in events[first:] if event["event"] == "begins"}


def _read_log(run: Path) -> list[dict[str, Any]]:
    """The log of a results folder; a line that a crash cut short is left out."""
    path, events = run / LOG, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            events.append(json.loads(line))
    return events


def _parse(path: Path) -> tuple[list[Row], int]:
    rows, whole_bytes = [], 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                _ = row["trial_id"], row["round"], row[PICKED]
            except (ValueError, KeyError, TypeError) as fault:
                raise InputError(
                    f"{path}, line {number} is not a row ({fault}); expected: remove the line, then run again"
                ) from fault
            rows.append(row)
            whole_bytes += len(line)
    return rows, whole_bytes


def rounds_done(run: Path) -> dict[str, int]:
    """How many rounds of each trial of a results folder are stored without a gap from round 0 on, by id."""
    stored: dict[str, set[int]] = {}
    for row in stored_rows(run):
        stored.setdefault(row["trial_id"], set()).add(row["round"])
    return _without_gap(stored)


def _without_gap(stored: Mapping[str, set[int]]) -> dict[str, int]:
    return {trial: next(k for k in range(len(rounds) + 1) if k not in rounds) for trial, rounds in stored.items()}


def stored_rows(run: Path) -> list[Row]:
    """The rows of a results folder in file order, picks included; a torn last line is left out.

    Raises:
        InputError: another line is not a row.
    """
    path = run / ROUNDS
    return _parse(path)[0] if path.is_file() else []
