"""The MLX engine, through its Python package (extra `mlx`): Apple's GPUs, or a processor.

A shape of random weights is built and timed in a process of its own. A shared block is kept once in
memory. Weights have 16 bits, or 8 or 4 in groups of 64 with a scale and an offset of 16 bits each.
"""

import importlib.util
from pathlib import Path

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.engines.worker_process import run_worker

WORKER = Path(__file__).with_name("mlx_process.py")
GROUP = 64
PRECISIONS: dict[float, str] = {16.0: "f16", 8.0: "int8_g64", 4.0: "int4_g64"}
"""Nominal weight bits -> the format."""


def available() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("mlx") is not None


class MlxRunner:
    """A shape, built anew in each run."""

    file_bytes: int | None = None

    def __init__(self, architecture: Architecture, weight_bits: float) -> None:
        a = architecture
        if weight_bits not in PRECISIONS:
            known = ", ".join(f"{bits:g}" for bits in PRECISIONS)
            raise BadInput(f"weight_bits = {weight_bits:g}: the mlx engine times {known}")
        if a.window is not None or a.input_injection:
            raise BadInput("engine = mlx: shapes without windows or injected input only")
        if weight_bits < 16:
            for name in ("d_model", "d_ff"):
                if getattr(a, name) % GROUP:
                    raise BadInput(f"{name} = {getattr(a, name)}: MLX packs multiples of {GROUP}")
        if not available():
            raise BadInput("engine = mlx: install the extra `mlx`")
        self._architecture, self._bits = a, weight_bits
        self.peak_bytes: float | None = None

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step, the best for a moment each.

        Raises:
            NoAnswer: the engine crashed or took too long.
        """
        job = {
            "architecture": self._architecture.to_dict(),
            "order": list(self._architecture.applied_blocks()),
            "bits": self._bits,
            "prompt": prompt_tokens,
            "tokens": decode_tokens,
        }
        found = run_worker("mlx", WORKER, job)
        self.peak_bytes = float(found["peak_bytes"])
        return float(found["prefill"]), float(found["decode"])

    def close(self) -> None:
        """Nothing is held between runs."""


def prepare(architecture: Architecture, *, weight_bits: float = 8) -> MlxRunner:
    """A shape, built when it is run.

    Raises:
        BadInput: a precision or shape that is not timed, or the extra is not installed.
    """
    return MlxRunner(architecture, float(weight_bits))
