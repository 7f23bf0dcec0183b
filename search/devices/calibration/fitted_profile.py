"""A calibration's constants as a device profile, each figure with its source."""

import datetime
import math
from typing import Any

from shapelaw.search.devices.calibration.constants_fit import Fit
from shapelaw.search.devices.calibration.machine import last_level_cache, memory_bytes, processor
from shapelaw.search.devices.profile import (
    Cache,
    Compute,
    DeviceProfile,
    EngineTraits,
    Figure,
    Memory,
    Overhead,
    Status,
    Uncertainty,
    WeightFormat,
)

APP_SHARE = 0.5
"""Of a computer's memory one program may reasonably take."""
RUNTIME_MB = {"jax": 400.0, "llama.cpp": 45.0, "executorch": 350.0, "mlx": 50.0}
"""Beside the model, where it was not measured."""
LEAST_CONTEXT = 512.0
"""Tokens that the llama.cpp engine here asks keys and values for at least."""
ACTIVATION_BITS = {"llama.cpp": 32.0, "executorch": 32.0}
FORMATS = {"llama.cpp": "gguf", "executorch": "executorch", "mlx": "mlx"}


def profile_of(name: str, engine: str, fit: Fit, *, measured_here: bool) -> DeviceProfile:
    """The profile, checked."""
    c = fit.constants
    where = processor() if measured_here else "the device llama-bench ran on"
    today = datetime.date.today().isoformat()
    source = f"shapelaw calibrate with {engine} on {where}, {today}"

    def fitted(value: float, unit: str, parameter: str) -> Figure:
        loose = parameter in fit.not_determined
        return figure(value, unit, source, "not determined" if loose else "fitted")

    def assumed(value: float, unit: str, why: str) -> Figure:
        return figure(value, unit, why, "asserted")

    capacity_known = "this system" if measured_here else "assumed; set it to the device's"
    return DeviceProfile(
        name=name,
        title=f"{where} ({engine})",
        kind="cpu" if measured_here else "phone",
        engine=engine,
        memory=Memory(
            capacity=figure(
                memory_bytes() / 1e9 if measured_here else 8.0,
                "GB",
                capacity_known,
                "measured" if measured_here else "asserted",
            ),
            app_share=assumed(
                APP_SHARE if measured_here else 0.1, "share", "a usual share for one application"
            ),
            bandwidth=fitted(c.bandwidth / 1e9, "GB/s", "bandwidth"),
            kv_bandwidth=(
                fitted(c.kv_bandwidth / 1e9, "GB/s", "kv share")
                if "kv share" in fit.values
                else None
            ),
            runtime=assumed(RUNTIME_MB[engine], "MB", f"typical of {engine}"),
            kv_reserved=(
                assumed(LEAST_CONTEXT, "tokens", "the least context this engine is started with")
                if engine == "llama.cpp" and measured_here
                else None
            ),
        ),
        cache=[
            Cache(
                name="last-level cache",
                capacity=fitted(c.cache_capacity[0] / 1e6, "MB", "cache capacity"),
                bandwidth=fitted(c.cache_bandwidth[0] / 1e9, "GB/s", "cache ratio"),
                retained=(
                    fitted(c.cache_retained[0], "share", "cache retained")
                    if "cache retained" in fit.values
                    else None
                ),
            )
        ],
        compute=Compute(
            peak={f"{c.peak[-1][0]:g}": fitted(c.peak[-1][1] / 1e9, "GFLOP/s", "prefill rate")},
            efficiency=assumed(1.0, "share", "the rate above is what prefill reaches"),
            half_tokens=fitted(c.half_tokens, "tokens", "half_tokens"),
            half_width=fitted(c.half_width, "features", "half_width"),
            attention_efficiency=fitted(c.attention_efficiency, "share", "attention_efficiency"),
            decode_attention_efficiency=(
                fitted(c.decode_attention_efficiency, "share", "decode_attention_efficiency")
                if "decode_attention_efficiency" in fit.values
                else assumed(c.decode_attention_efficiency, "share", "taken with the overheads")
            ),
            prefill_chunk=assumed(c.prefill_chunk, "tokens", f"{engine}'s usual chunk"),
        ),
        overhead=Overhead(
            per_token=fitted(c.per_token * 1e6, "us", "per_token"),
            per_layer=fitted(c.per_layer * 1e6, "us", "per_layer"),
            per_layer_feature=fitted(c.per_layer_feature * 1e9, "ns/feature", "per_layer_feature"),
            per_prompt=fitted(c.per_prompt * 1e6, "us", "per_prompt"),
            per_prompt_layer=fitted(c.per_prompt_layer * 1e6, "us", "per_prompt_layer"),
        ),
        weights={
            f"{bits:g}": WeightFormat(
                stored_bits=figure(
                    stored, "bits", "the engine's format, scales included", "datasheet"
                ),
                unpack=(
                    fitted(unpack * 1e12, "ps/weight", f"weights.{bits:g}.unpack")
                    if unpack
                    else None
                ),
                prefill_slowdown=fitted(slowdown, "share", f"weights.{bits:g}.prefill_slowdown"),
            )
            for bits, stored, unpack, slowdown in c.weights
        },
        traits=EngineTraits(
            formats=FORMATS.get(engine),
            activation_bits_least=ACTIVATION_BITS.get(engine, 0.0),
            overlaps=c.overlaps,
            shares_blocks=c.shares_blocks,
            file_shares_blocks=c.file_shares_blocks,
        ),
        uncertainty=Uncertainty(source=source, spread=_spread(fit), errors=CALIBRATED_ERRORS),
        notes=_notes(engine),
    ).validate()


CALIBRATED_ERRORS = {"decode": 0.08, "prefill": 0.12, "memory": 0.10}
"""Of log predicted - log measured on shapes that a calibration did not see."""

DRAWN = {
    "bandwidth": "bandwidth",
    "per_layer": "per_layer",
    "per_token": "per_token",
    "prefill rate": "efficiency",
    "half_tokens": "half_tokens",
    "attention_efficiency": "attention_efficiency",
    "kv share": "kv_share",
    "per_prompt": "per_prompt",
    "per_prompt_layer": "per_prompt_layer",
}
"""A calibration's parameter -> the constant whose draws it spreads."""


def _spread(fit: Fit) -> dict[str, float]:
    return {
        drawn: round(float(fit.log_standard_error[name]), 3)
        for name, drawn in DRAWN.items()
        if name in fit.log_standard_error
    }


def figure(value: float, unit: str, source: str, status: Status) -> Figure:
    """A figure to five digits: no more is known of any of them."""
    return Figure(float(f"{value:.5g}"), unit, source, status)


def _notes(engine: str) -> list[str]:
    if engine == "llama.cpp":
        return [
            "llama.cpp stores a shared block as often as it is applied; the cost model's "
            "cached second application is what an engine that shares would get here."
        ]
    told = "the system's" if last_level_cache()[1] else "an assumed"
    return [
        f"The cache's capacity was fitted within {told} size. The engine runs one precision; "
        "at others the bytes change and the rates are taken to stay."
    ]


UNITS = {
    "bandwidth": ("GB/s", 1e-9),
    "cache ratio": ("× DRAM", 1.0),
    "cache capacity": ("MB", 1e-6),
    "per_layer": ("us", 1e6),
    "per_token": ("us", 1e6),
    "per_layer_feature": ("ns/feature", 1e9),
    "per_prompt": ("us", 1e6),
    "per_prompt_layer": ("us", 1e6),
    "prefill rate": ("GFLOP/s", 1e-9),
    "half_width": ("features", 1.0),
    "half_tokens": ("tokens", 1.0),
    "attention_efficiency": ("share", 1.0),
    "decode_attention_efficiency": ("share", 1.0),
    "cache retained": ("share", 1.0),
    "kv share": ("share", 1.0),
}


def fitted_rows(fit: Fit) -> list[dict[str, Any]]:
    """Each fitted constant in a readable unit with its uncertainty as a factor."""
    rows = []
    for name, value in fit.values.items():
        unit, factor = UNITS.get(
            name, ("ps/weight", 1e12) if name.endswith("unpack") else ("share", 1.0)
        )
        error = fit.log_standard_error[name]
        loose = name in fit.not_determined
        rows.append(
            {
                "name": name,
                "value": value * factor,
                "unit": unit,
                "uncertainty": "not determined"
                if loose or error > 5
                else f"×÷ {math.exp(error):.2f}",
            }
        )
    return rows
