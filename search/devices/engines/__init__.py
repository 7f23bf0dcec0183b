"""Engines that really decode: what the cost model is calibrated against and judged by.

Each engine module has `prepare(architecture, weight_bits=...)`, which makes a model of random
weights ready to run, and `measure(...)`, which prepares, repeats, and keeps the best. A `Runner` is
prepared once and run in rounds, so that a calibration can interleave shapes: a machine that slows
down for a minute then spoils one round of every shape and not every round of one.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from shapelaw.scaling.errors import BadInput

ENGINES = ("jax", "llama.cpp", "executorch", "mlx")


@dataclasses.dataclass(frozen=True)
class Timing:
    """Best of several runs of one prompt and one decode."""

    prefill_s: float
    """The whole prompt, up to its last token's logits."""
    decode_s: float
    """One token, after the prompt."""
    spread: float
    """Repeatability: how far apart, relative to the best, the two best decode runs lie."""
    prefill_spread: float = 0.0
    """The same of prefill."""


class Runner(Protocol):
    """A model ready to be timed."""

    @property
    def peak_bytes(self) -> float | None:
        """The most that the last run's process held; None where it is not the engine's alone."""

    @property
    def file_bytes(self) -> int | None:
        """What the engine's file of the model weighs; None where there is no file."""

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step."""

    def close(self) -> None:
        """Free what the model holds."""


def settled(rounds: Sequence[float]) -> float:
    """The best of the rounds, once a tenth of them has been set aside.

    What is read from DRAM depends on what else the memory is doing: over seconds it varies by 8 %
    on a shared machine, in both directions, so that the best of many rounds is the luckiest one.
    No more than a tenth: with a busy neighbour, few of the rounds are undisturbed.
    """
    return sorted(rounds)[_settled_rank(rounds)]


def _settled_rank(rounds: Sequence[float]) -> int:
    return len(rounds) // 10


def best(prefill: list[float], decode: list[float]) -> Timing:
    """The settled best of the runs, and how well the next best agrees with it."""
    return Timing(settled(prefill), settled(decode), _gap(decode), _gap(prefill))


def _gap(seconds: list[float]) -> float:
    first, *rest = sorted(seconds)[_settled_rank(seconds) :]
    return rest[0] / first - 1 if rest else 0.0


def check_request(prompt_tokens: int, decode_tokens: int, repeats: int) -> None:
    """Raise BadInput unless there is something to time."""
    for name, value, least in (
        ("prompt_tokens", prompt_tokens, 1),
        ("decode_tokens", decode_tokens, 2),
        ("repeats", repeats, 1),
    ):
        if value < least:
            raise BadInput(f"{name} = {value}: at least {least} is needed")
