"""The memory of this process by kind (Linux)."""

from pathlib import Path

STATUS = Path("/proc/self/status")

RESIDENT, PRIVATE, SHARED = "VmRSS", "RssAnon", "RssShmem"
"""Kinds of memory: all that is resident, anonymous pages, and pages of shared memory."""


def memory_bytes(kind: str) -> int:
    """Resident memory of this process of one kind: RESIDENT, PRIVATE or SHARED."""
    lines = (line.partition(":") for line in STATUS.read_text(encoding="ascii").splitlines())
    return next(1024 * int(value.split()[0]) for name, _, value in lines if name == kind)
