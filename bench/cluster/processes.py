"""Folders of single processes below a folder that machines may share, and what is left of those that ended."""

import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")


@contextmanager
def process_folder(parent: Path) -> Iterator[Path]:
    """A folder of this process below ``parent``, removed at the end.

    Folders of processes that no longer exist are removed too, those of this machine since its last start alone: the
    processes of other machines, and of other containers, cannot be seen from here.

    Raises:
        OSError: the folder cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    here, own = _here(), os.getpid()
    for old in parent.iterdir():
        named = re.fullmatch(rf"{re.escape(here)}-(\d+)-(\d*)", old.name)
        if named and _has_ended(int(named[1]), named[2]):
            shutil.rmtree(old, ignore_errors=True)
    folder = parent / f"{here}-{own}-{_began(own)}"
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _here() -> str:
    """Where process ids mean the same: the host, its start, and the container."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append((PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str((PROC / "self/ns/pid").readlink()))
    host = re.sub(r"[^A-Za-z0-9.]+", "_", parts[0])[:60]
    return f"{host}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def _has_ended(pid: int, began: str) -> bool:
    """Whether no process has this id, or another one that began later; False where the system does not tell."""
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    return _began(pid) not in {began, ""}


def _began(pid: int) -> str:
    """When a process began, in clock ticks since the start of the machine; empty where the system does not tell."""
    try:
        return (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""
