"""What this machine says of itself: processor, memory, last-level cache."""

import contextlib
import os
import platform
from pathlib import Path

from shapelaw.search.devices.figure_units import UNITS

FALLBACK_CACHE = 16e6
"""Where the system does not tell its last-level cache, a common size."""


def processor() -> str:
    """The processor's name, or the platform's."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_bytes() -> float:
    """Physical memory, or the container's share of it where that is less."""
    total = 8e9
    if hasattr(os, "sysconf"):
        with contextlib.suppress(ValueError, OSError):
            total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
        return min(total, float(limit)) if limit != "max" else total
    except (OSError, ValueError):
        return total


def last_level_cache() -> tuple[float, bool]:
    """Bytes of the last-level cache, and whether the system told."""
    largest = 0.0
    for size in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = size.read_text(encoding="utf-8").strip()
            largest = max(largest, float(text[:-1]) * UNITS["bytes"][f"{text[-1]}iB"])
        except (OSError, ValueError, KeyError, IndexError):
            continue
    return (largest, True) if largest else (FALLBACK_CACHE, False)
