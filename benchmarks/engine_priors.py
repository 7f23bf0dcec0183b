"""What is taken of an engine's constants before any row is seen: roots, spreads, noise, defaults.

A constant is a root value plus effects of the kind of processor, the engine's family, its build,
the device, and the pair of both, each with a normal prior on the logarithmic (or logistic) scale.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from benchmarks.engine_rows import Row
from shapelaw.search.devices.constants import NO_LIMIT


@dataclasses.dataclass(frozen=True)
class Effect:
    """One constant's root value on its scale, and the standard deviations of its effects."""

    scale: str
    """`log`, or `logit` for shares."""
    root: float
    engine: float
    """Of engines, all that they have in common by kind and family included."""
    pair: float
    device: float = 0.0
    pooled: bool = True
    """Whether engines of one kind are alike in it: not in attention's kernels, which change from
    build to build, nor in its scheduler, nor in what a process holds."""

    def spread(self, level: str) -> float:
        """Standard deviation of the effects of one level."""
        if level in ENGINE_SHARES:
            share = ENGINE_SHARES[level] if self.pooled else float(level == "build")
            return self.engine * math.sqrt(share)
        return self.pair if level == "pair" else self.device

    def value(self, x: np.ndarray) -> np.ndarray:
        """On the natural scale."""
        return np.exp(x) if self.scale == "log" else 1 / (1 + np.exp(-x))

    def log_slope(self, x: float) -> float:
        """d ln value / d x."""
        return 1.0 if self.scale == "log" else 1 - 1 / (1 + math.exp(-x))


LEVELS = ("kind", "family", "build", "pair", "device")
ENGINE_SHARES = {"kind": 0.5, "family": 0.35, "build": 0.15}
"""Of the variance among engines: what those of one kind of processor share (launches cost alike),
what the builds of one engine share beside that, and what is a build's own."""

KINDS = {
    "metal": "metal",
    "metal-2023": "metal",
    "metal-2024": "metal",
    "mps": "metal",
    "cuda": "cuda",
    "rocm": "cuda",
    "cuda-board": "board",
    "gpu": "gpu",
    "cpu": "cpu",
    "cpu-bf16": "cpu",
    "app": "cpu",
    "app-bf16": "cpu",
}
"""Backend -> the kind of processor and interface: the same servers' kernels, ported, are taken for
alike. A board's small processor launches work far more
slowly than a server's."""


def kind_of(engine: str) -> str:
    """The kind of processor that an `engine/backend` runs on."""
    return KINDS[engine.split("/")[1]]


def family_of(engine: str) -> str:
    """An engine on a kind of processor, all its builds."""
    return f"{engine.split('/')[0]}/{kind_of(engine)}"


def level_keys(engine: str, device: str) -> dict[str, Any]:
    """What a pair belongs to at each level."""
    return {
        "kind": kind_of(engine),
        "family": family_of(engine),
        "build": engine,
        "pair": (engine, device),
        "device": device,
    }


EFFECTS: dict[str, Effect] = {
    "bandwidth_share": Effect("logit", 1.2, 0.5, 0.4, 0.35),
    "kv_share": Effect("log", math.log(0.6), 0.7, 0.3, pooled=False),
    "packed_surplus": Effect("log", math.log(0.12), 0.8, 0.25),
    "per_layer": Effect("log", math.log(60e-6), 1.4, 0.6),
    "per_token": Effect("log", math.log(500e-6), 1.0, 0.6),
    "per_sequence": Effect("log", math.log(10e-6), 1.0, 0.3, pooled=False),
    "efficiency": Effect("logit", 0.0, 0.7, 0.4, 0.4),
    "decode_efficiency": Effect("logit", 0.5, 0.5, 0.2),
    "attention_efficiency": Effect("log", math.log(0.25), 0.7, 0.3, pooled=False),
    "packed_slowdown": Effect("log", math.log(1.15), 0.25, 0.1),
    "half_tokens": Effect("log", math.log(24), 0.8, 0.3),
    "per_prompt": Effect("log", math.log(1e-3), 1.0, 0.4),
    "per_prompt_layer": Effect("log", math.log(150e-6), 1.2, 0.4),
    "runtime": Effect("log", math.log(60e6), 1.2, 0.4, pooled=False),
}
"""Priors: set once from what engines of each kind are known for, wide. The spread among devices was
widened once, after coverage of devices left out fell short with .3 for bandwidth."""

CUDA_RUNTIME = math.log(600e6 / 60e6)
"""A CUDA context and its libraries, over what other engines hold; in the runtime's logarithm."""


def root_of(name: str, engine: str) -> float:
    """A constant's root value on its scale, by the engine's backend."""
    cuda = name == "runtime" and engine.endswith(("/cuda", "/rocm"))
    return EFFECTS[name].root + (CUDA_RUNTIME if cuda else 0.0)


NOISE = {"decode": 0.06, "e2e": 0.06, "prefill": 0.10, "ttft": 0.12, "memory": 0.05}
"""Standard deviation of a row's logarithm before any is seen."""
NOISE_ROWS = 4.0
"""The rows that prior noise counts as much as."""
WIDEST = (0.5, 4.0)
"""Least and largest factor on the noise that leave-one-out errors may ask for."""
HUBER = 2.5
LARGEST_SURPLUS = 0.85

CHUNKS = {
    "vllm": 8192.0,
    "sglang": 8192.0,
    "lmdeploy": 8192.0,
    "tensorrt-llm": 8192.0,
    "gpt-fast": NO_LIMIT,
    "transformers": NO_LIMIT,
    "mlx": 2048.0,
    "executorch": NO_LIMIT,
    "litert-lm": 1024.0,
}
"""Tokens each engine prefills at a time, by its defaults; others 512 as llama.cpp."""
RESERVED = dict.fromkeys(("executorch/cpu", "executorch/cpu-bf16"), 2048.0)
"""Tokens of KV cache reserved from the start: the usual export of a llama to ExecuTorch."""
KV_BITS_LEAST = {"executorch/cpu": 32.0}
ACTIVATION_BITS_LEAST = {"llama.cpp": 32.0, "ollama": 32.0}
"""ggml computes activations in 32 bits."""
SLOTS = {"ollama": 4.0}
"""Parallel requests that ollama reserves for by default."""


def group(quantity: str) -> str:
    """What shares one noise: decode, prefill or memory."""
    return {"e2e": "decode", "ttft": "prefill"}.get(quantity, quantity)


def prior_noise(row: Row) -> float:
    """Of one row's logarithm, before any residual is seen."""
    return row.noise or math.hypot(NOISE[row.quantity], row.rounding)
