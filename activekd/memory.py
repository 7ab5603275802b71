"""The largest resident memory of this process."""

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since ``forget_peak`` was last called, or since the process began."""
    if STATUS.is_file():
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> bool:
    """Restart the peak at what is resident now; False where the system cannot (Linux can)."""
    try:
        CLEAR.write_text(CLEAR_PEAK, encoding="ascii")
    except OSError:
        return False
    return True
