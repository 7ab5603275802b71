"""Locks of a results folder: one grid at a time, one writer of its rows."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

from activekd.errors import InputError, reason

LOCK_WAIT_SECONDS = 1.0

MOUNTS = Path("/proc/self/mountinfo")


def lock(descriptor: int, run: Path, wait_seconds: float, owner: Path | None = None) -> None:
    """Lock an open file of a results folder for this process alone.

    Args:
        descriptor: of the file.
        run: the results folder.
        wait_seconds: how long to wait for another process to release the lock.
        owner: file in which the owner of the lock names itself.

    Raises:
        InputError: another process holds the lock for longer, or the file system cannot lock files.
    """
    deadline = monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            if monotonic() >= deadline:
                by = owner.read_text(encoding="utf-8", errors="replace").strip() if owner is not None else ""
                raise InputError(
                    f"results folder {run} is in use by another grid{f' ({by})' * bool(by)}; "
                    f"expected: one grid at a time (wait, or --out)"
                ) from fault
            sleep(0.1)
        except OSError as fault:
            raise InputError(
                f"results folder {run}: {file_system(run)} cannot lock files ({reason(fault)}); expected: a folder on "
                f"a local disk (--out), or a mount with locks (NFS with its lock service, Lustre with -o flock)"
            ) from fault
        else:
            return


def file_system(path: Path) -> str:
    """The file system that holds a path, as ``the TYPE file system at MOUNT POINT``, where the system tells."""
    wanted, best, kind = str(path.resolve()), "", ""
    for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines() if MOUNTS.is_file() else []:
        mount, _, source = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        if len(point) >= len(best) and (wanted + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, source.split()[0]
    return f"the {kind} file system at {best}" if kind else "its file system"


@contextmanager
def exclusive(run: Path, file_name: str) -> Iterator[None]:
    """Hold a lock file of the results folder for the length of a block; create the folder if it is absent.

    The file names its owner: machine, process and time.

    Raises:
        InputError: another process holds the lock, the file system has no locks, or the folder cannot be written.
    """
    unwritable = f"results folder {run}: {{}}; expected: a writable folder with free space (--out)"
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / file_name).open("ab", buffering=0)
    except OSError as fault:
        raise InputError(unwritable.format(reason(fault))) from fault
    with file:
        lock(file.fileno(), run, LOCK_WAIT_SECONDS, owner=run / file_name)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}, since {since}\n".encode())
        except OSError as fault:
            raise InputError(unwritable.format(reason(fault))) from fault
        yield


def in_use(run: Path, file_name: str) -> bool | None:
    """Whether a process holds this lock file of the results folder; None where the system cannot tell."""
    if not (run / file_name).is_file():
        return False
    try:
        with (run / file_name).open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
