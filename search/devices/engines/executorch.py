"""The ExecuTorch engine, through its Python package (extra `executorch`): XNNPACK on the CPU.

A shape of random 32-bit weights is lowered once, to one program for a prompt and one for a token,
and both are timed in a process of their own with a time limit. Lowering takes tens of seconds and
up to minutes for deep shapes. A shared block is stored once in the file.
"""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.engines.worker_process import run_worker

WORKER = Path(__file__).with_name("executorch_process.py")
LOWERING_PATIENCE = 1800.0
"""Seconds that lowering a deep shape may take."""
ROOM = 8
"""Tokens of cache beyond the last: the program checks that it never writes past its end."""


def available() -> bool:
    """Whether the package and torch are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("executorch", "torch"))


def check_expressed(architecture: Architecture) -> None:
    """Raise BadInput for a shape that this engine's decoder does not express."""
    if architecture.window is not None or architecture.input_injection:
        raise BadInput("engine = executorch: shapes without windows or injected input only")


@dataclasses.dataclass(frozen=True)
class Program:
    """A shape lowered for so many tokens at a time, with room for `context` tokens."""

    architecture: Architecture
    tokens: int
    context: int

    def path(self, folder: Path) -> Path:
        """Its file, by all that it depends on, the engine's version among it."""
        engine = importlib.metadata.version("executorch")
        known = repr((self.architecture.to_dict(), self.tokens, self.context, engine))
        return folder / f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.pte"

    def job(self, folder: Path) -> dict[str, Any]:
        """What the engine's process has to know."""
        return {
            "architecture": self.architecture.to_dict(),
            "order": list(self.architecture.applied_blocks()),
            "tokens": self.tokens,
            "context": self.context,
            "path": str(self.path(folder)),
        }


def lower(
    programs: Sequence[Program], folder: Path, *, patience: float = LOWERING_PATIENCE
) -> None:
    """Write the programs that the folder lacks, in one process; each appears when it is whole.

    Raises:
        NoAnswer: lowering crashed, or took longer than `patience` seconds.
    """
    lacking = [program for program in programs if not program.path(folder).is_file()]
    if lacking:
        jobs = [program.job(folder) for program in lacking]
        run_worker("executorch", WORKER, {"do": "lower", "programs": jobs}, patience=patience)


def run_programs(
    folder: Path, decode: Program, prefill: Program | None, position: int, tokens: int
) -> dict[str, Any]:
    """Seconds of `decode`, one token at `position` and after, and of `prefill`; `held_bytes`.

    Raises:
        NoAnswer: running crashed, or took too long.
    """
    job = {
        "do": "run",
        "prompt": position,
        "tokens": tokens,
        "decode": str(decode.path(folder)),
        "prefill": None if prefill is None else str(prefill.path(folder)),
    }
    return run_worker("executorch", WORKER, job)


class ExecutorchRunner:
    """A shape's programs, lowered at the first run of each prompt length."""

    def __init__(self, architecture: Architecture, folder: Path | None) -> None:
        if not available():
            raise BadInput("engine = executorch: install the extra `executorch`")
        check_expressed(architecture)
        self._architecture = architecture
        self._folder = tempfile.TemporaryDirectory(prefix="shapelaw-", dir=folder)
        self.peak_bytes: float | None = None
        self.file_bytes: int | None = None

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step, the best for a moment each.

        Raises:
            NoAnswer: lowering or running crashed, or took too long.
        """
        context = prompt_tokens + decode_tokens + ROOM
        folder = Path(self._folder.name)
        decode = Program(self._architecture, 1, context)
        prefill = Program(self._architecture, prompt_tokens, context)
        lower([decode, prefill], folder)
        self.file_bytes = decode.path(folder).stat().st_size
        found = run_programs(folder, decode, prefill, prompt_tokens, decode_tokens)
        self.peak_bytes = float(found["held_bytes"])
        return float(found["prefill"]), float(found["decode"])

    def close(self) -> None:
        """Delete the programs."""
        self._folder.cleanup()


def prepare(
    architecture: Architecture, *, weight_bits: float = 32, folder: Path | None = None
) -> ExecutorchRunner:
    """A shape, to be lowered when it is first run.

    Raises:
        BadInput: a precision other than 32 bits, a shape this engine's decoder does not express, or
            the extra is not installed.
    """
    if weight_bits != 32:
        raise BadInput(f"weight_bits = {weight_bits:g}: the executorch engine times 32")
    return ExecutorchRunner(architecture, folder)
