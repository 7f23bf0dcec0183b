"""Formats of the KV cache: exact bytes, and a price in loss that is wide for want of evidence.

Few have published what rounding keys and values costs. In nats, rounding both: q8_0 .00035
(Llama-3-8B, llama.cpp #7412) and .0009 (Qwen3.6-35B-A3B, LLMKube #601); q4_0, after a Hadamard
rotation, .022 (Qwen3-8B) and 1.26 (Qwen3-0.6B, both ik_llama.cpp #1509). Over the types' noise on
Gaussian values the geometric means are 20 and 22: the price is taken as 21 times the noise, with
the scatter of such few models. It is the same for every shape and training: how it moves with them
nobody has published.
"""

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.price import NOISE
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

KV_FORMATS = (
    "f32", "f16", "bf16", "q8_0", "fp8", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl",
)  # fmt: skip
"""Names; a block lies within a head's keys or values of one token."""

SOURCE = (
    "rounding noise times 21, from two models of q8_0 and two of q4_0 (llama.cpp #7412, LLMKube "
    "#601, ik_llama.cpp #1509); the same for every shape and training"
)

PRICE_OVER_NOISE = 21.0
SPREAD = 1.5
"""Standard deviation of ln price: the two models of q4_0 lie a factor of 58 apart, of q8_0 2.7."""

UNROUNDED = ("f32", "f16", "bf16")


def kv_bits(name: str, head_dim: int | np.ndarray) -> float:
    """Bits a key or value, the scales of its blocks included.

    Raises:
        BadInput: no such format, or heads that are no whole number of blocks.
    """
    if name not in KV_FORMATS:
        raise BadInput(f"kv_format = {name[:40]!r}: known: {', '.join(KV_FORMATS)}")
    kind = TENSOR_TYPES[name]
    odd = np.unique(np.asarray(head_dim)[np.asarray(head_dim) % kind.block != 0])
    if odd.size:
        raise BadInput(
            f"kv_format = {name}: blocks of {kind.block} values do not divide head_dim {odd[0]}"
        )
    return kind.bits


def kv_price_draws(name: str, count: int) -> np.ndarray:
    """Price [count], nats per token, of keeping keys and values in the format."""
    if name in UNROUNDED:
        return np.zeros(count)
    scatter = SPREAD * np.random.default_rng(4).standard_normal(count)
    return np.asarray(PRICE_OVER_NOISE * NOISE[name] * np.exp(scatter))
