"""How fast this machine trains: remembered from sweep to sweep, so that a plan can say how long."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shapelaw.results.record import RunRecord
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.worker_environment import accelerator_expected

UNMEASURED_CPU_FLOPS = 2.0e10
"""A core, until a sweep has been run here: small models on a current x86 core reach 2–3e10."""
UNMEASURED_ACCELERATOR_FLOPS = 1.0e13
UNMEASURED_COMPILE_SECONDS = 5.0
RUNS_NEEDED = 3


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker does."""

    flops_per_second: float
    compile_seconds: float
    """Per distinct shape, before its first step."""
    source: str
    """Where the figures are from, in words."""


def speed_file(cache_dir: Path) -> Path:
    """An accelerator's speed says nothing about the cores beside it."""
    return cache_dir / ("speed-accelerator.json" if accelerator_expected() else "speed.json")


def known_speed(cache_dir: Path) -> Speed:
    """Measured by the last sweep on this machine, or a rough figure that says it is one."""
    try:
        return msgspec.json.decode(speed_file(cache_dir).read_bytes(), type=Speed)
    except (OSError, msgspec.MsgspecError):
        rate = UNMEASURED_ACCELERATOR_FLOPS if accelerator_expected() else UNMEASURED_CPU_FLOPS
        return Speed(
            flops_per_second=rate,
            compile_seconds=UNMEASURED_COMPILE_SECONDS,
            source="a rough figure: no sweep has been run on this machine yet",
        )


def remember_speed(cache_dir: Path, records: Sequence[RunRecord]) -> None:
    """Keep the median speed of the runs just done; a few are needed to mean anything."""
    done = [
        record for record in records if record.status == "finished" and record.device_seconds > 0
    ]
    if len(done) < RUNS_NEEDED:
        return
    # The first budget of a trunk waits for the compiler, the others do not.
    later = [r for r in done if r.trunk_flops_shared] or done
    rate = statistics.median((r.flops - r.trunk_flops_shared) / r.device_seconds for r in later)
    waits = [max(0.0, r.wall_seconds - r.flops / rate) for r in done if not r.trunk_flops_shared]
    speed = Speed(
        flops_per_second=rate,
        compile_seconds=statistics.median(waits) if waits else UNMEASURED_COMPILE_SECONDS,
        source=f"the last sweep on this machine ({len(done)} runs)",
    )
    try:
        write_atomically(speed_file(cache_dir), msgspec.json.encode(speed))
    except (BadInput, NoAnswer):  # a convenience, never a reason for a finished sweep to fail
        return
