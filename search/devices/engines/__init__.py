"""Engines that really decode: what the cost model is calibrated against and judged by.

Each engine module has `prepare(architecture, weight_bits=...)`, which makes a model of random
weights ready to run, and `measure(...)`, which prepares, repeats, and keeps the best. A `Runner` is
prepared once and run in rounds, so that a calibration can interleave shapes: a machine that slows
down for a minute then spoils one round of every shape and not every round of one.
"""

import dataclasses
from typing import Protocol

import numpy as np

from scaling.errors import BadInput

ENGINES = ("jax", "llama.cpp")


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

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of the prefill and of one decode step."""

    def close(self) -> None:
        """Free what the model holds."""


def best(prefill: list[float], decode: list[float]) -> Timing:
    """The best of the runs, and how well the next best agrees with it."""
    return Timing(min(prefill), min(decode), _gap(decode), _gap(prefill))


def _gap(seconds: list[float]) -> float:
    first, second = np.sort(seconds)[:2] if len(seconds) > 1 else (seconds[0], seconds[0])
    return float(second / first - 1)


def check_request(prompt_tokens: int, decode_tokens: int, repeats: int) -> None:
    """Raise BadInput unless there is something to time."""
    for name, value, least in (("prompt_tokens", prompt_tokens, 1),
                               ("decode_tokens", decode_tokens, 2), ("repeats", repeats, 1)):
        if value < least:
            raise BadInput(f"{name} = {value}: at least {least} is needed")
