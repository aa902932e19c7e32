"""Peak memory of a process, for the benchmarks."""

import contextlib
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Peak memory of this process so far; 0 where the system does not tell."""
    with contextlib.suppress(OSError):  # on Linux, where a child starts with its parent's ru_maxrss
        status = Path("/proc/self/status").read_text(encoding="ascii").split("VmHWM:")[1]
        return int(status.split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
