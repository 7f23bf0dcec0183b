"""The llama.cpp engine, through its prebuilt Python wheel `xllamacpp` (extra `llamacpp`).

A GGUF file of random weights stands for the shape; nothing is trained. The engine runs in a process
of its own: a crash in its C++ ends that process, not the calibration, and its threads find the
environment they need. GGUF has no shared form: a block applied twice is stored twice there.
"""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Literal

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.devices.engines import Timing, best, check_request
from shapelaw.search.devices.engines.worker_process import run_worker

PRECISIONS: dict[float, Literal["f16", "q8_0", "q4_0"]] = {16.0: "f16", 8.0: "q8_0", 4.0: "q4_0"}
"""Nominal weight bits -> the file's format (8.5 and 4.5 bits with scales)."""

SPIN_COUNT = "2000"
"""GOMP_SPINCOUNT: threads wait some tens of microseconds for one another before they sleep. On a
quiet machine that changes nothing; on a busy one the default, to spin for milliseconds, makes the
engine slower by up to a hundred times whenever a thread is descheduled."""

LONG_PROMPT = 2048
"""Tokens."""

TRAINED_CONTEXT = 1 << 20
"""Tokens the file says it was trained for: the engine refuses prompts beyond, and sizes nothing by
it."""

WORKER = Path(__file__).with_name("llamacpp_process.py")


def available() -> bool:
    """Whether the wheel and the GGUF writer are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("xllamacpp", "gguf"))


def default_threads() -> int:
    """As many as the processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LlamaCppRunner:
    """A GGUF file of random weights, and a process that runs it when asked."""

    def __init__(
        self,
        architecture: Architecture,
        weight_bits: float,
        folder: Path | None,
        threads: int | None,
    ) -> None:
        from shapelaw.search.export.gguf import write_gguf

        if weight_bits not in PRECISIONS:
            known = ", ".join(f"{bits:g}" for bits in PRECISIONS)
            raise BadInput(f"weight_bits = {weight_bits:g}: the llama.cpp engine times {known}")
        if not available():
            raise BadInput("engine = llama.cpp: install the extra `llamacpp` (xllamacpp and gguf)")
        self._threads = threads or default_threads()
        self.peak_bytes: float | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="shapelaw-", dir=folder)
        self.path = Path(self._folder.name) / "model.gguf"
        try:
            write_gguf(
                self.path,
                architecture,
                weight_format=PRECISIONS[weight_bits],
                context_length=TRAINED_CONTEXT,
            )
        except OSError as error:
            self._folder.cleanup()
            raise NoAnswer(f"cannot write a GGUF file: {error.strerror or error}") from None
        except BaseException:
            self._folder.cleanup()
            raise

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step, the best of two completions.

        A prompt of `LONG_PROMPT` tokens and more is completed once: it takes up to minutes.
        """
        found = self.completions(prompt_tokens, decode_tokens, 1 + (prompt_tokens < LONG_PROMPT))
        return min(prefill for prefill, _ in found), min(decode for _, decode in found)

    def completions(
        self, prompt_tokens: int, decode_tokens: int, repeats: int
    ) -> list[tuple[float, float]]:
        """(prefill, decode) seconds of each of several completions in one process.

        Raises:
            NoAnswer: the engine crashed, answered nothing, or took too long.
        """
        job = {
            "model": str(self.path),
            "prompt": prompt_tokens,
            "decode": decode_tokens,
            "repeats": repeats,
            "threads": self._threads,
        }
        answer = run_worker("llama.cpp", WORKER, job, spin_count=SPIN_COUNT)
        self.peak_bytes = float(answer["peak_bytes"])
        return [(float(prefill), float(decode)) for prefill, decode in answer["runs"]]

    @property
    def file_bytes(self) -> int:
        """What the GGUF file weighs."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Delete the file."""
        self._folder.cleanup()


def prepare(
    architecture: Architecture,
    *,
    weight_bits: float = 8,
    folder: Path | None = None,
    threads: int | None = None,
) -> LlamaCppRunner:
    """Write the GGUF file of a shape.

    Raises:
        BadInput: a precision llama.cpp is not timed at, or the extra is not installed.
        NoAnswer: the file cannot be written.
    """
    return LlamaCppRunner(architecture, float(weight_bits), folder, threads)


def measure(
    architecture: Architecture,
    *,
    weight_bits: float = 8,
    prompt_tokens: int = 128,
    decode_tokens: int = 24,
    repeats: int = 3,
) -> Timing:
    """Prefill and decode seconds of a shape on this machine, the best of `repeats`.

    Raises:
        BadInput: nothing to time, or not installed. NoAnswer: the engine failed.
    """
    check_request(prompt_tokens, decode_tokens, repeats)
    runner = prepare(architecture, weight_bits=weight_bits)
    try:
        runs = runner.completions(prompt_tokens, decode_tokens, repeats)
    finally:
        runner.close()
    return best([prefill for prefill, _ in runs], [decode for _, decode in runs])
