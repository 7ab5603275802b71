"""Locks of a results folder: one grid at a time, one writer of its rows."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from activekd.errors import InputError

LOCK_WAIT_SECONDS = 1.0


def lock(descriptor: int, run: Path, wait_seconds: float) -> None:
    """Lock an open file of a results folder for this process alone.

    Raises:
        InputError: another process holds the lock for longer than ``wait_seconds``.
    """
    deadline = monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            if monotonic() >= deadline:
                raise InputError(
                    f"results folder {run} is in use by another grid; expected: one grid at a time (wait, or --out)"
                ) from fault
            sleep(0.1)
        else:
            return


@contextmanager
def exclusive(run: Path, file_name: str) -> Iterator[None]:
    """Hold a lock file of the results folder for the length of a block; create the folder if it is absent.

    Raises:
        InputError: another process holds the lock, or the folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / file_name).open("ab")
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; expected: a writable folder (--out)") from fault
    with file:
        lock(file.fileno(), run, LOCK_WAIT_SECONDS)
        yield


def in_use(run: Path, file_name: str) -> bool:
    """Whether a process holds this lock file of the results folder."""
    if not (run / file_name).is_file():
        return False
    with (run / file_name).open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
