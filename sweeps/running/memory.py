"""Telling from what a process left behind that it ran out of memory, and how much it asked for."""

import re
import resource
import sys
from pathlib import Path

_SIGNS = re.compile(
    r"RESOURCE_EXHAUSTED|out of memory|MemoryError|bad_alloc|Cannot allocate memory"
    r"|Unable to allocate|OutOfMemory|oom[-_ ]kill",
    re.IGNORECASE,
)
"""As NumPy, C++, the kernel, XLA and PyTorch put it."""
_ASKED = re.compile(
    r"(?:allocat\w*|requested)\D{0,40}?(\d[\d.,]*\s*(?:[KMGT]i?B\b|bytes\b))", re.IGNORECASE
)


def memory_needed(text: str) -> str | None:
    """None where the text does not say that memory ran out; else what was asked for, or ""."""
    if not _SIGNS.search(text):
        return None
    asked = _ASKED.search(text)
    return asked[1] if asked else ""


def kernel_kills() -> int:
    """Processes of this control group that the kernel has killed for want of memory; 0 where
    the system does not say."""
    for events in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            lines = Path(events).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def memory_in_use() -> int:
    """Resident bytes of this process; the most it ever had where the system tells no better."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * resource.getpagesize()
