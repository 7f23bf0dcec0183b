"""ExecuTorch programs of the benchmark's shapes, lowered ahead of time and kept.

    python -m benchmarks.executorch_programs

Lowering a block takes seconds and a shape of sixty blocks minutes; timing takes seconds. The
programs lie in the user's cache folder, one file each, so that a run that was broken off goes on
where it was and `python -m benchmarks.devices executorch` only times.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from shapelaw.search.devices.calibration.timing import Timed, merged
from shapelaw.search.devices.calibration.timing_shapes import Case, executorch_cases, shape
from shapelaw.search.devices.engines.executorch import ROOM, Program, lower, run_programs

POSITION = 128
"""Tokens before the one that is timed."""
TOKENS = 24
BITS = 32.0
PATIENCE = 4 * 3600.0
"""Seconds for all of them."""

UNSEEN = ((30, 256, 2, 704, 1), (30, 256, 2, 704, 2), (60, 256, 2, 704, 1))
"""A 30-block shape, the same applied twice, 60 distinct blocks."""


def unseen_cases() -> list[Case]:
    """The three variants."""
    return [
        Case(shape(blocks, width, kv, d_ff, sharing=sharing, vocabulary=8192), BITS)
        for blocks, width, kv, d_ff, sharing in UNSEEN
    ]


def folder() -> Path:
    """Where programs are kept."""
    cache = os.environ.get("XDG_CACHE_HOME")
    found = (Path(cache) if cache else Path.home() / ".cache") / "shapelaw" / "executorch"
    found.mkdir(parents=True, exist_ok=True)
    return found


def program_of(case: Case) -> Program:
    """The decode program of a case."""
    return Program(case.architecture, 1, POSITION + TOKENS + ROOM)


def timed_steps(cases: Sequence[Case], rounds: int) -> list[Timed]:
    """Decode of every case, each round in a process of its own; programs are lowered first."""
    kept = folder()
    lower([program_of(case) for case in cases], kept, patience=PATIENCE)
    found: list[list[Timed]] = [[] for _ in cases]
    for _ in range(rounds):
        for case, turns in zip(cases, found, strict=True):
            program = program_of(case)
            answer = run_programs(kept, program, None, POSITION, TOKENS)
            size = program.path(kept).stat().st_size
            held = (float(answer["held_bytes"]),)
            step = (float(answer["decode"]),)
            turns.append(Timed(case, POSITION, TOKENS, (), step, held, size))
    return [merged(turns) for turns in found]


def main() -> int:
    """Lower what is lacking, the smallest first."""
    kept = folder()
    cases = sorted(
        [*executorch_cases(), *unseen_cases()], key=lambda case: int(case.architecture.depth)
    )
    lower([program_of(case) for case in cases], kept, patience=PATIENCE)
    for case in cases:
        print(f"{case.label}: {program_of(case).path(kept).stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
