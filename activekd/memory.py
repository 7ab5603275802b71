"""The largest resident memory of this process; what it does with freed memory, and when it looks for garbage."""

import ctypes
import gc
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""

LARGEST_BLOCK = 32 * 2**20
"""Blocks up to this come from memory that can be kept: the most that glibc allows."""

KEPT_BYTES = 2 * LARGEST_BLOCK
"""As much as glibc comes to keep by itself where blocks of LARGEST_BLOCK are freed."""


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since ``forget_peak`` was last called, or since the process began."""
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> bool:
    """Let the peak start anew from what is resident now; False where the system cannot (it can on Linux)."""
    try:
        CLEAR.write_text(CLEAR_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep up to KEPT_BYTES that it has freed; False where the allocator is not glibc's.

    Every step of training frees what the next asks for again, and giving it to the system in between costs a page
    fault for each 4 KB. By itself glibc comes to keep as much only once blocks of that size were freed, which depends
    on what the process did before.
    """
    try:
        set_parameter = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(set_parameter(M_MMAP_THRESHOLD, LARGEST_BLOCK) and set_parameter(M_TRIM_THRESHOLD, KEPT_BYTES))


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave Python's garbage collector off for a block of imports, and what they make out of later collections.

    Importing torch or Ray Tune makes hundreds of thousands of objects that stay, and the collector would go through
    them again and again. Collections are a matter of the whole process: other threads are without them too.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
