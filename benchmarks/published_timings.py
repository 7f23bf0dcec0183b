"""Published timings of the iPhone 13 and of Apple chips, as observations and as a chip's fit."""

import dataclasses

from benchmarks import device_rows
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration.least_squares import Free, Observation, Solution, solve
from shapelaw.search.devices.constants import Constants
from shapelaw.search.workload import Workload


def with_bandwidth(low: float, high: float, start: float) -> Free:
    """DRAM bandwidth for weights and KV cache together."""
    return Free(
        "bandwidth",
        low,
        high,
        start,
        lambda c, v: dataclasses.replace(c, bandwidth=v, kv_bandwidth=v),
    )


IPHONE_TOKEN = Workload(name="one token", prompt=1, generated=1, context=1)
IPHONE_MS = ((30, 1, 15.6), (30, 2, 16.0), (60, 1, 29.0))


def iphone_observations() -> list[Observation]:
    """The three variants of table 7."""
    base = load_architecture("mobilellm-125m")
    return [
        Observation(
            dataclasses.replace(base, n_blocks=blocks, sharing=sharing),
            IPHONE_TOKEN,
            "decode",
            16.0,
            ms / 1e3,
        )
        for blocks, sharing, ms in IPHONE_MS
    ]


LAYER_PART = 0.9
"""Share of a token's fixed time laid on its layers; one model cannot tell it from the token's."""


def fit_apple_decode(template: Constants, decode: dict[float, float], nominal: float) -> Solution:
    """Bandwidth below the nominal one and a fixed time per token, from two or three precisions."""
    model = load_architecture("llama-2-7b")
    rows = [
        Observation(model, device_rows.APPLE_DECODE, "decode", bits, seconds)
        for bits, seconds in decode.items()
    ]

    def put(c: Constants, value: float) -> Constants:
        return dataclasses.replace(
            c, per_token=(1 - LAYER_PART) * value, per_layer=LAYER_PART * value / model.n_blocks
        )

    fixed = Free("fixed time", 1e-5, 3e-2, 2e-3, put)
    return solve(
        rows, template, [with_bandwidth(0.3 * nominal, nominal, 0.85 * nominal), fixed], starts=2
    )
