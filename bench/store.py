"""The results folder: one line per (trial, round) behind a single writer, the plan, the tidy table, its holes."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pandas as pd

from activekd.errors import InputError

Row = dict[str, Any]
Key = tuple[str, int]

IDENTITY = (
    "trial_id",
    "round",
    "protocol",
    "dataset",
    "group",
    "teacher",
    "student",
    "distillation",
    "recipe",
    "selector",
    "seed",
    "n_labeled",
    "n_classes",
    "query_size",
)
MEASURED = ("accuracy", "teacher_accuracy")
COST = ("teacher_seconds", "train_seconds", "predict_seconds", "select_seconds", "peak_rss_bytes")
PROVENANCE = ("commit", "versions", "device")
COLUMNS = (*IDENTITY, *MEASURED, *COST, *PROVENANCE)
PICKED = "picked"

PLAN = "plan.json"
ROUNDS = Path("rounds") / "rounds.jsonl"
TABLE = "rounds.parquet"
FAILURES = "failures"

WRITER_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Run:
    """A results folder as read: the rows it has and the (trial, round)s it should have.

    Attributes:
        name: name of the spec.
        rows: the tidy table, one row a (trial_id, round), sorted as the plan is.
        plan: identity columns of each expected (trial_id, round).
    """

    name: str
    rows: pd.DataFrame
    plan: pd.DataFrame

    @cached_property
    def holes(self) -> pd.DataFrame:
        """The rows of the plan that have no measurement."""
        have = pd.MultiIndex.from_frame(self.rows[["trial_id", "round"]])
        want = pd.MultiIndex.from_frame(self.plan[["trial_id", "round"]])
        return self.plan[~want.isin(have)].reset_index(drop=True)

    def restricted_to(self, trial_ids: Sequence[str]) -> "Run":
        """The same run with these trials only."""
        rows = self.rows[self.rows["trial_id"].isin(trial_ids)].reset_index(drop=True)
        return Run(self.name, rows, self.plan[self.plan["trial_id"].isin(trial_ids)].reset_index(drop=True))


class Store:
    """The one writer of a results folder's rows; each is on disk (fsync) before the next is taken.

    A last line that was cut short by a crash is dropped when the store is opened: its round is missing and is run
    again. Any other line that is no row is an error.

    Args:
        run: the results folder; made if absent.
        wait_seconds: how long to wait for a writer of this folder that is just ending.

    Raises:
        InputError: the folder cannot be written, another process writes to it, or its rows are damaged.
    """

    def __init__(self, run: Path, *, wait_seconds: float = WRITER_WAIT_SECONDS) -> None:
        path = run / ROUNDS
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as fault:
            raise InputError(f"results folder {run}: {fault}; allowed: a writable folder (--out)") from fault
        try:
            _lock(self._file.fileno(), run, wait_seconds)
            rows, whole_bytes = _parse(path)
        except InputError:
            self._file.close()
            raise
        self._file.truncate(whole_bytes)
        self._rows: dict[str, dict[int, Row]] = {}
        for row in rows:
            self._rows.setdefault(row["trial_id"], {})[row["round"]] = row

    def keys(self) -> set[Key]:
        """Every (trial_id, round) that is stored."""
        return {(trial, index) for trial, rounds in self._rows.items() for index in rounds}

    def rows_of(self, trial_id: str) -> list[Row]:
        """The rows of a trial from round 0 up to its first missing round."""
        rounds = self._rows.get(trial_id, {})
        out = []
        while len(out) in rounds:
            out.append(rounds[len(out)])
        return out

    def append(self, row: Row) -> None:
        """Store a row; one whose (trial_id, round) is stored already is ignored."""
        rounds = self._rows.setdefault(row["trial_id"], {})
        if row["round"] in rounds:
            return
        self._file.write(json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        rounds[row["round"]] = row

    def close(self) -> None:
        """Give the folder up to another writer."""
        self._file.close()


@contextmanager
def exclusive(run: Path, file_name: str) -> Iterator[None]:
    """Hold a lock file of the results folder for the length of a block.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / file_name).open("ab")
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; allowed: a writable folder (--out)") from fault
    with file:
        _lock(file.fileno(), run, 0.0)
        yield


def _lock(descriptor: int, run: Path, wait_seconds: float) -> None:
    deadline = monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            if monotonic() >= deadline:
                raise InputError(
                    f"results folder {run} is in use by another grid; allowed: one at a time (wait, or --out)"
                ) from fault
            sleep(0.1)
        else:
            return


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
                raise InputError(f"{path}, line {number} is no row ({fault}); remove the line and run again") from fault
            rows.append(row)
            whole_bytes += len(line)
    return rows, whole_bytes


def write_plan(run: Path, name: str, trials: Sequence[Mapping[str, Any]], datasets: Mapping[str, str]) -> None:
    """Put the plan on disk: which trials the spec defines, and the fingerprints of its data sets that are known.

    Args:
        trials: identity columns and ``rounds`` of each trial.
        datasets: fingerprint by data set name.
    """
    path = run / PLAN
    before = _read_plan(run)["datasets"] if path.is_file() else {}
    content = {"name": name, "datasets": {**before, **datasets}, "trials": list(trials)}
    temporary = path.with_suffix(".part")
    try:
        temporary.write_text(json.dumps(content, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; allowed: a writable folder (--out)") from fault


def check_belongs(run: Path, name: str, trial_ids: Sequence[str], datasets: Mapping[str, str]) -> None:
    """Check that a results folder, if it holds rows, holds them for this spec and these data.

    Raises:
        InputError: rows of trials that the spec does not define, or other images under the same name.
    """
    if not (run / ROUNDS).is_file():
        return
    rows, _ = _parse(run / ROUNDS)
    foreign = {row["trial_id"] for row in rows} - set(trial_ids)
    if foreign:
        raise InputError(
            f"results folder {run} holds rows of {len(foreign)} trials that spec '{name}' does not define "
            f"({', '.join(sorted(foreign)[:3])}, ...); allowed: an empty folder or one of this spec (--out)"
        )
    if (run / PLAN).is_file():
        before = _read_plan(run)["datasets"]
        changed = [d for d, fingerprint in datasets.items() if before.get(d, fingerprint) != fingerprint]
        if rows and changed:
            raise InputError(
                f"results folder {run}: the images or labels of {', '.join(changed)} changed since its rows were made; "
                f"allowed: the same data, or another folder (--out)"
            )


def _read_plan(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise InputError(f"{run} is no results folder: {fault}; allowed: a folder that bench.grid wrote") from fault


def stored_rows(run: Path) -> list[Row]:
    """The rows of a results folder as they stand, picks included; a torn last line is left out."""
    path = run / ROUNDS
    return _parse(path)[0] if path.is_file() else []


def read_run(run: Path) -> Run:
    """A results folder as frames.

    Raises:
        InputError: no results folder, or damaged rows.
    """
    plan = _read_plan(run)
    cells = [
        {**{k: v for k, v in trial.items() if k != "rounds"}, "round": index}
        for trial in plan["trials"]
        for index in range(trial["rounds"])
    ]
    planned = pd.DataFrame(cells)
    rows = pd.DataFrame([{c: row.get(c) for c in COLUMNS} for row in stored_rows(run)], columns=list(COLUMNS))
    rows = rows.astype({c: "float64" for c in (*MEASURED, *COST) if c != "peak_rss_bytes"})
    order = {trial["trial_id"]: position for position, trial in enumerate(plan["trials"])}
    rows = rows.assign(order=rows["trial_id"].map(order)).sort_values(["order", "round"], kind="stable")
    return Run(plan["name"], rows.drop(columns="order").reset_index(drop=True), planned)
