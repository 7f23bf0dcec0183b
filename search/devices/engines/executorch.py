"""The ExecuTorch engine, through its Python package (extra `executorch`): XNNPACK on the CPU.

A shape of random 32-bit weights is lowered once, to one program for a prompt and one for a token,
and both are timed in a process of their own with a time limit. Lowering takes tens of seconds and
up to minutes for deep shapes. A shared block is stored once in the file.
"""

import importlib.util
import tempfile
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


class ExecutorchRunner:
    """A shape's programs, lowered at the first run of each prompt length."""

    def __init__(self, architecture: Architecture, folder: Path | None) -> None:
        a = architecture
        if not available():
            raise BadInput("engine = executorch: install the extra `executorch`")
        if a.window is not None or a.input_injection:
            raise BadInput("engine = executorch: shapes without windows or injected input only")
        self._architecture = a
        self._folder = tempfile.TemporaryDirectory(prefix="shapelaw-", dir=folder)
        self._lowered: dict[tuple[int, int], dict[str, Any]] = {}
        self.peak_bytes: float | None = None
        self.file_bytes: int | None = None

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step, the best for a moment each.

        Raises:
            NoAnswer: lowering or running crashed, or took too long.
        """
        programs = self._programs(prompt_tokens, decode_tokens)
        found = run_worker("executorch", WORKER, {"do": "run", "tokens": decode_tokens, **programs})
        self.peak_bytes = float(found["held_bytes"])
        return float(found["prefill"]), float(found["decode"])

    def _programs(self, prompt: int, tokens: int) -> dict[str, Any]:
        known = self._lowered.get((prompt, tokens))
        if known is not None:
            return known
        a = self._architecture
        names = {
            which: str(Path(self._folder.name) / f"{which}-{prompt}-{tokens}.pte")
            for which in ("decode", "prefill")
        }
        programs = {"prompt": prompt, "context": prompt + tokens + ROOM, **names}
        job = {
            "do": "lower",
            "architecture": a.to_dict(),
            "order": list(a.applied_blocks()),
            **programs,
        }
        answer = run_worker("executorch", WORKER, job, patience=LOWERING_PATIENCE)
        self.file_bytes = int(answer["bytes"])
        self._lowered[prompt, tokens] = programs
        return programs

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
