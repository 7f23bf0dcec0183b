"""What the user can afford: limits on cost, and the training they will pay for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling import units
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput

DEFAULT_TOKENS = 1e12
"""Training tokens where neither tokens nor FLOPs are given: MobileLLM's (arXiv 2402.14905)."""

TRAINING_SEQUENCE = 2048
"""Tokens a training sequence holds, where FLOPs are given: MobileLLM's and LLaMA's."""

RELAXED = 1.1
"""`relax` compares with each budget this many times as generous."""

RELAXED_LOSS = 1.01
"""The same for a loss to reach: a tenth of it would be another model altogether."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """One budget as a constraint on one column of costs."""

    name: str
    """As in the contract and on the command line: memory, decode, ttft, energy, target_loss."""
    column: str
    """Which column it bounds."""
    value: float
    at_least: bool
    """True: the column must be at least `value`; False: at most."""

    @property
    def relaxed_value(self) -> float:
        """The value that `relax` asks about."""
        return self.value / self.slack if self.at_least else self.value * self.slack

    @property
    def slack(self) -> float:
        """How many times as generous `relax` makes it."""
        return RELAXED_LOSS if self.column == "loss" else RELAXED

    @property
    def step(self) -> float:
        """By how much that moves it, in its own unit."""
        return abs(self.relaxed_value - self.value)

    def met(self, column: np.ndarray, slack: float = 1.0) -> np.ndarray:
        """Where the limit holds when made `slack` times as generous [n]. NaN never meets it."""
        if self.at_least:
            return column >= self.value / slack
        return column <= self.value * slack

    def ratio(self, column: np.ndarray) -> np.ndarray:
        """How many times as generous the limit would have to be [n]; at most 1 where met."""
        # A limit of the least number there is, or a column of zeros, is infinitely far off.
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            found = self.value / column if self.at_least else column / self.value
        return np.where(np.isnan(found), np.inf, found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits and training. Numbers in SI units, or text with a unit such as `500MB`.

    Raises:
        BadInput: a limit is not a number above zero, or both tokens and flops are given.
    """

    memory_bytes: float | str | None = None
    """Most memory in use: weights, KV cache, activations, runtime."""
    decode_tokens_per_s: float | str | None = None
    """Least decode speed, of all sequences of the batch together."""
    ttft_s: float | str | None = None
    """Longest time to first token."""
    energy_j: float | str | None = None
    """Most joules per decoded token."""
    tokens: float | str | None = None
    """Training tokens."""
    flops: float | str | None = None
    """Training FLOPs, instead of tokens: what each shape can afford follows from it."""
    bits: Any = None
    """Weight precisions to consider; the space's own where not given."""
    training_sequence: int = TRAINING_SEQUENCE

    def __post_init__(self) -> None:
        parsers = {
            "memory_bytes": (units.parse_bytes, "memory"),
            "decode_tokens_per_s": (units.parse_speed, "decode"),
            "ttft_s": (units.parse_seconds, "ttft"),
            "energy_j": (units.parse_joules, "energy"),
            "tokens": (units.parse_count, "tokens"),
            "flops": (units.parse_flops, "flops"),
            "bits": (units.parse_bits, "bits"),
        }
        for field, (parse, name) in parsers.items():
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, parse(value, name))
        if self.tokens is not None and self.flops is not None:
            raise BadInput("tokens and flops: give one of them; each follows from the other")
        if self.training_sequence < 1:
            raise BadInput(f"training_sequence = {self.training_sequence}: 1 or more is needed")

    def limits(self, target_loss: float | None = None) -> list[Limit]:
        """The constraints among the budgets, with the loss to reach where there is one."""
        named = [
            ("memory", "memory_bytes", self.memory_bytes, False),
            ("decode", "decode_tokens_per_s", self.decode_tokens_per_s, True),
            ("ttft", "ttft_s", self.ttft_s, False),
            ("energy", "energy_per_token_j", self.energy_j, False),
            ("target_loss", "loss", target_loss, False),
        ]
        return [
            Limit(name, column, float(value), at_least)
            for name, column, value, at_least in named
            if value is not None
        ]

    def with_limit(self, name: str, value: float) -> "Budget":
        """The same with another value of the limit of this name."""
        field = {
            "memory": "memory_bytes",
            "decode": "decode_tokens_per_s",
            "ttft": "ttft_s",
            "energy": "energy_j",
        }[name]
        changed: dict[str, Any] = {field: value}
        return dataclasses.replace(self, **changed)

    def training_tokens(
        self, architectures: ArchitectureBatch, slack: float = 1.0
    ) -> float | np.ndarray:
        """Training tokens of each architecture: given, or what the FLOPs buy ([n])."""
        if self.flops is not None:
            each = architectures.training_flops_per_token(self.training_sequence)
            return np.asarray(slack * float(self.flops) / each)
        return slack * float(self.tokens if self.tokens is not None else DEFAULT_TOKENS)

    def to_dict(self) -> dict[str, Any]:
        """The budgets that were given, and the training tokens where nothing was said of them."""
        named: Mapping[str, Any] = {
            "memory_bytes": self.memory_bytes,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "ttft_s": self.ttft_s,
            "energy_j": self.energy_j,
            "flops": self.flops,
            "tokens": DEFAULT_TOKENS if self.tokens is None and self.flops is None else self.tokens,
            "bits": None if self.bits is None else list(self.bits),
        }
        return {name: value for name, value in named.items() if value is not None}
