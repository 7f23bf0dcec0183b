"""A profile's figures as plain numbers in SI units, and what stands in for absent ones."""

import dataclasses
import math
from typing import Any

import numpy as np

from shapelaw.search.devices.profile import DeviceProfile

Number = Any
"""A float; in a fit over timings of many devices, an array [n] with one entry a timing."""

NO_LIMIT = math.inf


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What one device and engine charge. Seconds, bytes, operations, joules."""

    bandwidth: Number
    kv_bandwidth: Number
    cache_capacity: tuple[Number, ...] = ()
    cache_bandwidth: tuple[Number, ...] = ()
    cache_retained: tuple[float, ...] = ()
    peak: tuple[tuple[float, Number], ...]
    """(activation bits, operations a second), by rising bits."""
    efficiency: Number
    """Share of the peak that prefill's multiplies reach."""
    decode_efficiency: Number
    """Share of the peak that a decode step's multiplies reach."""
    attention_efficiency: Number
    decode_attention_efficiency: Number
    overlaps: bool = True
    """Whether a decode step computes while it waits for weights, keys and values."""
    half_tokens: Number = 0.0
    half_width: Number = 0.0
    prefill_chunk: Number = NO_LIMIT
    per_token: Number
    per_layer: Number
    per_layer_feature: Number = 0.0
    per_vocabulary_row: Number = 0.0
    per_sequence: Number = 0.0
    per_prompt: Number
    per_prompt_layer: Number
    packed_surplus: Number = 0.0
    """Bytes more that reading a packed weight costs as much as: unpacking beside the reading."""
    packed_slowdown: Number = 1.0
    """Prefill time with packed weights over that with the peak's precision."""
    weights: tuple[tuple[float, float, float, float], ...] = ()
    """(nominal bits, stored bits, unpacking seconds a weight, prefill slowdown), by rising bits."""
    runtime: Number = 0.0
    kv_reserved: Number = 0.0
    """Tokens of each sequence whose keys and values are reserved from the start."""
    kv_slots: Number = 1.0
    """Sequences that are reserved for at least."""
    kv_bits_least: Number = 0.0
    """Bits that the engine keeps keys and values in at least."""
    memory_factor: Number = 1.0
    """On all bytes held: 1 but in draws, where it is what the model leaves unexplained."""
    activation_bits_least: Number = 0.0
    """Bits that the engine keeps activations in at least."""
    repacked: tuple[tuple[float, float], ...] = ()
    """(nominal bits, share of the block matrices that is held a second time, rearranged)."""
    energy: tuple[float, float, float, float] = (math.nan,) * 4
    """Joules a DRAM byte, a cache byte, an operation; static watts. NaN where unknown."""
    price: float = math.nan
    formats: str | None = None
    """Family of file formats the engine reads; None: weights take plain bits."""
    shares_blocks: bool = True
    """Whether a shared block is kept once in memory."""
    file_shares_blocks: bool = True
    """The same of the engine's file."""

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        """Bits a weight takes with its blocks' scales; the overhead is interpolated in bits."""
        table = np.array(self.weights)
        if not len(table):
            return bits
        return bits + np.interp(bits, table[:, 0], table[:, 1] - table[:, 0])

    def unpack(self, bits: np.ndarray) -> np.ndarray | float:
        """Seconds to unpack one weight [n]: of the nearest packed precision that has a figure.

        Never interpolated towards precisions that need no unpacking: 5 bits are packed as 4 are.
        """
        return self._of_nearest_packed(bits, 2, 0.0)

    def prefill_slowdown(self, bits: np.ndarray) -> np.ndarray | float:
        """Prefill time over that at the peak's precision [n], of the nearest packed precision."""
        return self.packed_slowdown * self._of_nearest_packed(bits, 3, 1.0)

    def _of_nearest_packed(self, bits: np.ndarray, column: int, empty: float) -> np.ndarray | float:
        if not self.weights or all(row[column] == empty for row in self.weights):
            return empty
        table = np.array(self.weights)
        listed = table[table[:, 0] < UNPACKED]
        found = np.full(np.shape(bits), empty)
        if len(listed):
            distance = np.abs(np.log(np.asarray(bits)[..., None] / listed[:, 0]))
            found = listed[np.argmin(distance, axis=-1), column]
        wide = table[table[:, 0] >= UNPACKED]
        above = wide[-1, column] if len(wide) else empty
        return np.where(np.asarray(bits) < UNPACKED, found, above)

    def repacked_share(self, bits: np.ndarray) -> np.ndarray | float:
        """Share of the block matrices that is held twice [n], of the nearest precision listed."""
        if not self.repacked:
            return 0.0
        listed, shares = np.array(self.repacked).T
        distance = np.abs(np.log(np.asarray(bits)[..., None] / listed))
        return np.asarray(shares[np.argmin(distance, axis=-1)])

    def peak_at(self, activation_bits: Any) -> Number:
        """The rate for activations of this precision: the narrowest listed that holds them."""
        if len(self.peak) == 1 or np.ndim(activation_bits):
            return self.peak[-1][1]
        for bits, rate in self.peak:
            if bits >= activation_bits:
                return rate
        return self.peak[-1][1]


def sustained(c: Constants, share: float) -> Constants:
    """The same device when hot: everything at `share` of its speed."""
    return dataclasses.replace(
        c,
        bandwidth=c.bandwidth * share,
        kv_bandwidth=c.kv_bandwidth * share,
        cache_bandwidth=tuple(rate * share for rate in c.cache_bandwidth),
        peak=tuple((bits, rate * share) for bits, rate in c.peak),
        **{
            name: getattr(c, name) / share
            for name in (
                "per_token",
                "per_layer",
                "per_layer_feature",
                "per_vocabulary_row",
                "per_sequence",
                "per_prompt",
                "per_prompt_layer",
            )
        },
    )


UNPACKED = 15.0
"""Nominal bits from which on weights are not packed."""


def constants(profile: DeviceProfile) -> Constants:
    """The profile's figures in SI, with the defaults of absent ones resolved here and only here."""
    # One walk over the figures, then dictionary look-ups: `query` calls this often.
    values = profile.si_values()

    def get(name: str, default: float) -> float:
        return values.get(name, default)

    bandwidth = values["memory.bandwidth"]
    per_token = values["overhead.per_token"]
    per_layer = values["overhead.per_layer"]
    efficiency = values["compute.efficiency"]
    levels = range(len(profile.cache))

    def joules(name: str) -> float:
        return get(f"energy.{name}", math.nan)

    does = profile.engine_traits()
    return Constants(
        bandwidth=bandwidth,
        kv_bandwidth=get("memory.kv_bandwidth", bandwidth),
        cache_capacity=tuple(values[f"cache.{i}.capacity"] for i in levels),
        cache_bandwidth=tuple(values[f"cache.{i}.bandwidth"] for i in levels),
        cache_retained=tuple(get(f"cache.{i}.retained", 1.0) for i in levels),
        peak=tuple(sorted((float(k), values[f"compute.peak.{k}"]) for k in profile.compute.peak)),
        efficiency=efficiency,
        decode_efficiency=get("compute.decode_efficiency", efficiency),
        attention_efficiency=get("compute.attention_efficiency", efficiency),
        decode_attention_efficiency=get("compute.decode_attention_efficiency", efficiency),
        overlaps=does.overlaps,
        half_tokens=get("compute.half_tokens", 0.0),
        half_width=get("compute.half_width", 0.0),
        prefill_chunk=get("compute.prefill_chunk", NO_LIMIT),
        per_token=per_token,
        per_layer=per_layer,
        per_layer_feature=get("overhead.per_layer_feature", 0.0),
        per_vocabulary_row=get("overhead.per_vocabulary_row", 0.0),
        per_sequence=get("overhead.per_sequence", 0.0),
        per_prompt=get("overhead.per_prompt", per_token),
        per_prompt_layer=get("overhead.per_prompt_layer", per_layer),
        packed_surplus=get("memory.packed_surplus", 0.0),
        packed_slowdown=get("compute.packed_slowdown", 1.0),
        weights=tuple(
            sorted(
                (
                    float(bits),
                    values[f"weights.{bits}.stored_bits"],
                    get(f"weights.{bits}.unpack", 0.0),
                    get(f"weights.{bits}.prefill_slowdown", 1.0),
                )
                for bits in profile.weights
            )
        ),
        runtime=get("memory.runtime", 0.0),
        kv_reserved=get("memory.kv_reserved", 0.0),
        kv_slots=float(does.kv_slots),
        kv_bits_least=does.kv_bits_least,
        activation_bits_least=does.activation_bits_least,
        repacked=tuple(
            (float(bits), values[f"weights.{bits}.repacked_share"])
            for bits in profile.weights
            if f"weights.{bits}.repacked_share" in values
        ),
        energy=(
            joules("per_dram_byte"),
            joules("per_cache_byte"),
            joules("per_operation"),
            joules("static_power"),
        ),
        price=get("price", math.nan),
        formats=does.formats,
        shares_blocks=does.shares_blocks is not False,
        file_shares_blocks=does.file_shares_blocks is not False,
    )
