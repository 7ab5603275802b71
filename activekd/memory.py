"""The peak resident memory of this process."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"
"""Written to CLEAR, this resets the peak (Linux, proc(5))."""


def peak_rss_bytes() -> int:
    """Peak resident memory since the last ``forget_peak`` on Linux; on systems without /proc, of the whole process."""
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> bool:
    """Reset the peak to the current resident memory; False where the system cannot (Linux can)."""
    try:
        CLEAR.write_text(CLEAR_PEAK, encoding="ascii")
    except OSError:
        return False
    return True
