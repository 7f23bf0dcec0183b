"""A device and an engine, each in a file of its own, combined into the profile that costs use.

The device's file holds what the maker built: capacity, nominal bandwidth, peaks, caches, power. The
engine's file holds what the engine makes of it: shares of bandwidth and peak, time for each layer
and token, memory beside the weights, for each backend and, where it was measured there, for the
device itself; each with its spread (standard deviation of the logarithm).
"""

from typing import Literal

import msgspec

from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.figure_units import to_si
from shapelaw.search.devices.profile import (
    Bandwidth,
    Bytes,
    BytesPerWeight,
    Cache,
    Compute,
    DeviceProfile,
    Energy_,
    EnergyCosts,
    EngineTraits,
    Figure,
    Memory,
    Overhead,
    Price,
    Rate,
    Share,
    Status,
    Time,
    Tokens,
    Uncertainty,
)

TRUST: list[Status] = ["measured", "datasheet", "fitted", "asserted", "not determined"]
"""From the surest on."""


class ChipMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Main memory as built."""

    capacity: Bytes
    app_share: Share
    bandwidth: Bandwidth
    """Nominal."""


class Chip(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A device without an engine."""

    name: str
    title: str
    kind: Literal["phone", "board", "laptop", "gpu", "cpu"]
    engines: list[str]
    """`engine/backend`, the usual one first."""
    memory: ChipMemory
    peak: dict[str, dict[str, Rate]]
    """Processor (`gpu`, `cpu`) -> activation bits -> rate."""
    cache: list[Cache] = []
    energy: EnergyCosts | None = None
    battery: Energy_ | None = None
    sustained_share: Share | None = None
    price: Price | None = None
    notes: list[str] = []


class EngineFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine makes of a device."""

    bandwidth_share: Share
    """Of the nominal bandwidth, reading weights in decode."""
    kv_share: Share
    """Of that again, reading the KV cache."""
    packed_surplus: BytesPerWeight
    per_layer: Time
    per_token: Time
    per_sequence: Time
    efficiency: Share
    decode_efficiency: Share
    attention_efficiency: Share
    packed_slowdown: Share
    half_tokens: Tokens
    per_prompt: Time
    per_prompt_layer: Time
    runtime: Bytes


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Figures and their joint spread."""

    figures: EngineFigures
    spread: dict[str, float]
    errors: dict[str, float]
    correlation: list[list[float]] = []
    rows: int = 0
    """Measurements on the device itself; 0: what is typical of the engine."""


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way of an engine to run."""

    title: str
    processor: Literal["gpu", "cpu"]
    typical: Measured
    prefill_chunk: Tokens | None = None
    kv_reserved: Tokens | None = None
    kv_bits_least: float = 0.0
    copies_blocks_on: list[str] = []
    """Kinds of device on which memory holds a shared block once an application, though the engine's
    file stores it once."""
    notes: list[str] = []
    measured: dict[str, Measured] = {}
    """By device."""


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An engine's file."""

    name: str
    title: str
    traits: EngineTraits
    backends: dict[str, Backend]


def combine(chip: Chip, engine: Engine, backend: str) -> DeviceProfile:
    """The profile of a device with an engine.

    Raises:
        BadInput: the engine has no such backend.
    """
    if backend not in engine.backends:
        raise BadInput(
            f"engine {engine.name}: no backend {backend!r}: one of {', '.join(engine.backends)}"
        )
    runs = engine.backends[backend]
    found = runs.measured.get(chip.name, runs.typical)
    f = found.figures
    nominal = chip.memory.bandwidth
    title = f"{engine.title} {runs.title}".strip()
    bandwidth = _reading(nominal, f.bandwidth_share)
    notes = [*chip.notes, *runs.notes]
    can_share = bool(engine.traits.shares_blocks)
    if not found.rows:
        notes.append(f"{title} was not measured on it: its figures are what is typical of {title}.")
    return DeviceProfile(
        name=chip.name,
        title=f"{chip.title} ({title})",
        kind=chip.kind,
        engine=title,
        memory=Memory(
            capacity=chip.memory.capacity,
            app_share=chip.memory.app_share,
            bandwidth=bandwidth,
            nominal_bandwidth=nominal,
            kv_bandwidth=_reading(nominal, f.bandwidth_share, f.kv_share),
            packed_surplus=f.packed_surplus,
            runtime=f.runtime,
            kv_reserved=runs.kv_reserved,
        ),
        compute=Compute(
            peak=chip.peak.get(runs.processor) or next(iter(chip.peak.values())),
            efficiency=f.efficiency,
            decode_efficiency=f.decode_efficiency,
            packed_slowdown=f.packed_slowdown,
            half_tokens=f.half_tokens,
            attention_efficiency=f.attention_efficiency,
            decode_attention_efficiency=f.attention_efficiency,
            prefill_chunk=runs.prefill_chunk,
        ),
        overhead=Overhead(
            per_token=f.per_token,
            per_layer=f.per_layer,
            per_prompt=f.per_prompt,
            per_prompt_layer=f.per_prompt_layer,
            per_sequence=f.per_sequence,
        ),
        cache=[level for level in chip.cache if _rate(level.bandwidth) > _rate(bandwidth)],
        energy=chip.energy,
        battery=chip.battery,
        sustained_share=chip.sustained_share,
        price=chip.price,
        traits=msgspec.structs.replace(
            engine.traits,
            kv_bits_least=runs.kv_bits_least,
            shares_blocks=can_share and chip.kind not in runs.copies_blocks_on,
            file_shares_blocks=can_share,
        ),
        uncertainty=Uncertainty(
            source=f.bandwidth_share.source,
            spread=found.spread,
            correlation=found.correlation,
            errors=found.errors,
        ),
        notes=notes,
    ).validate()


def _reading(nominal: Figure, *shares: Figure) -> Figure:
    """Nominal bandwidth times shares; as sure as the least sure share."""
    value = _rate(nominal) / 1e9
    for share in shares:
        value *= share.value
    worst = max((share.status for share in shares), key=TRUST.index)
    sources = "; ".join(dict.fromkeys(share.source for share in shares))
    return Figure(float(f"{value:.5g}"), "GB/s", sources, worst)


def _rate(figure: Figure) -> float:
    return to_si(figure.value, figure.unit, "bandwidth", "bandwidth")
