"""Dropping the stored rows of selectors, whose trials then run again; the rows are kept in a file beside."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from activekd.errors import InputError, reason
from bench.spec import Trial
from bench.store.folder import forget_failure
from bench.store.locks import lock
from bench.store.rows import ROUNDS, WRITER_WAIT_SECONDS, Store, logged

REPLACING = "replacing"
"""Log event: the rows of a selector are about to be dropped."""

REPLACED = "replaced"
"""Log event: the rows of a selector were dropped, to run its trials with its present code."""


@dataclass(frozen=True)
class Dropped:
    """Rows that were dropped from a results folder.

    Attributes:
        rows: their number.
        trials: number of trials that they belong to.
        kept_in: file that has them; absent where there are none.
    """

    rows: int
    trials: int
    kept_in: Path

    @property
    def line(self) -> str:
        """For the user."""
        return f"{self.rows} rows of {self.trials} trials dropped; they are kept in {self.kept_in}"


def replaced_code(run: Path) -> Mapping[str, str | None]:
    """Code with which each selector's trials were to run again, by selector, from the log; the last time counts."""
    return {event["selector"]: event["code"] for event in logged(run) if event["event"] == REPLACED}


def to_replace(
    names: Collection[str],
    trials: Sequence[Trial],
    stored: Mapping[str, int],
    codes: Mapping[str, str],
    run: Path,
) -> Mapping[str, frozenset[str]]:
    """Ids of all trials of each selector to replace.

    A selector whose replacement by its present code is unfinished is left out, so that the same command resumes.

    Args:
        names: of the selectors.
        trials: of the spec, those outside of a filter too: their rows have the same code.
        stored: number of stored rounds, by trial id.
        codes: fingerprint of the present code of user-defined selectors, by name.
        run: the results folder.

    Raises:
        InputError: selectors have no stored row.
    """
    before = replaced_code(run)
    out: dict[str, frozenset[str]] = {}
    for name in names:
        own = [trial for trial in trials if trial.selector == name]
        is_unfinished = any(stored.get(trial.id, 0) < trial.rounds for trial in own)
        if name not in before or before[name] != codes.get(name) or not is_unfinished:
            out[name] = frozenset(trial.id for trial in own)
    # A crash may have dropped the rows without noting it.
    begun = {event["selector"] for event in logged(run) if event["event"] == REPLACING}
    bare = [name for name, trial_ids in out.items() if not trial_ids & stored.keys() and name not in begun]
    if bare:
        there = sorted({trial.selector for trial in trials if trial.id in stored})
        raise InputError(
            f"--replace {', '.join(bare)}: results folder {run} has no rows of it; "
            f"expected: {' or '.join(there) or 'a folder with rows'}, or the command without --replace"
        )
    return out


def drop_rows(run: Path, trial_ids: Collection[str], selectors: Mapping[str, str | None]) -> Dropped:
    """Drop the rows and the failures of trials; the rows of other trials stay as they are, byte for byte.

    A crash leaves the rows as before or as after, and a copy of those to drop in either case.

    Args:
        run: the results folder; no grid may run on it.
        trial_ids: whose rows to drop.
        selectors: fingerprint of the present code of the selectors of these trials, by name; None for those of the
            library.

    Raises:
        InputError: the rows are in use or damaged, or the folder cannot be written.
    """
    path = run / ROUNDS
    backup = path.with_name(f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.jsonl")
    rest = path.with_name(f"{path.name}.part")
    # Drops a torn last line, and checks the others.
    _note(run, REPLACING, selectors)
    try:
        with path.open("r+b") as file:
            lock(file.fileno(), run, WRITER_WAIT_SECONDS)
            owners = [(json.loads(line)["trial_id"], line) for line in file]
            gone = [(trial, line) for trial, line in owners if trial in trial_ids]
            if gone:
                _write(backup, [line for _, line in gone])
                _write(rest, [line for trial, line in owners if trial not in trial_ids])
                rest.replace(path)
                _sync_folder(path.parent)
    except OSError as fault:
        raise InputError(
            f"results folder {run}: {reason(fault)}; no row is dropped; expected: a writable folder with free space"
        ) from fault
    finally:
        rest.unlink(missing_ok=True)
    for trial_id in trial_ids:
        forget_failure(run, trial_id)
    _note(run, REPLACED, selectors)
    return Dropped(len(gone), len({trial for trial, _ in gone}), backup)


def _note(run: Path, event: str, selectors: Mapping[str, str | None]) -> None:
    with closing(Store(run)) as store:
        for name, code in selectors.items():
            store.note(event, selector=name, code=code)


def _write(path: Path, lines: Collection[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
