"""A profile's figures as plain numbers in SI, as the cost model and the fits use them.

The fits move these numbers and never touch TOML; `constants(profile)` is the only way in.
"""

import dataclasses
import math

import numpy as np

from shapelaw.search.devices.profile import DeviceProfile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What one device charges. Seconds, bytes, operations, joules."""

    bandwidth: float
    kv_bandwidth: float
    cache_capacity: tuple[float, ...]
    cache_bandwidth: tuple[float, ...]
    cache_retained: tuple[float, ...]
    peak: tuple[tuple[float, float], ...]
    """(activation bits, operations a second), by rising bits."""
    efficiency: float
    attention_efficiency: float
    decode_attention_efficiency: float
    half_tokens: float
    half_width: float
    prefill_chunk: float
    per_token: float
    per_layer: float
    per_layer_feature: float
    per_vocabulary_row: float
    per_prompt: float
    per_prompt_layer: float
    weights: tuple[tuple[float, float, float, float], ...]
    """(nominal bits, stored bits, unpacking seconds a weight, prefill slowdown), by rising bits."""
    runtime: float
    energy: tuple[float, float, float, float]
    """Joules a DRAM byte, a cache byte, an operation; static watts. NaN where unknown."""
    price: float

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        """Bits a weight takes with its blocks' scales; the overhead is interpolated in bits."""
        table = np.array(self.weights)
        if not len(table):
            return bits
        return bits + np.interp(bits, table[:, 0], table[:, 1] - table[:, 0])

    def unpack(self, bits: np.ndarray) -> np.ndarray:
        """Seconds to unpack one weight, interpolated in bits."""
        return self._interpolated(bits, 2, 0.0)

    def prefill_slowdown(self, bits: np.ndarray) -> np.ndarray:
        """Prefill time relative to the peak's precision, interpolated in bits."""
        return self._interpolated(bits, 3, 1.0)

    def _interpolated(self, bits: np.ndarray, column: int, empty: float) -> np.ndarray:
        table = np.array(self.weights)
        if not len(table):
            return np.full_like(bits, empty)
        return np.interp(bits, table[:, 0], table[:, column])

    def peak_at(self, activation_bits: float) -> float:
        """The rate for activations of this precision: the narrowest listed that holds them."""
        for bits, rate in self.peak:
            if bits >= activation_bits:
                return rate
        return self.peak[-1][1]


def constants(profile: DeviceProfile) -> Constants:
    """The profile's figures in SI, with the defaults of absent ones resolved here and only here."""
    # One walk over the figures, then dictionary look-ups: `query` calls this often.
    values = profile.si_values()

    def get(name: str, default: float) -> float:
        return values.get(name, default)

    bandwidth = values["memory.bandwidth"]
    per_token = values["overhead.per_token"]
    per_layer = values["overhead.per_layer"]
    levels = range(len(profile.cache))

    def joules(name: str) -> float:
        return get(f"energy.{name}", math.nan)

    return Constants(
        bandwidth=bandwidth,
        kv_bandwidth=get("memory.kv_bandwidth", bandwidth),
        cache_capacity=tuple(values[f"cache.{i}.capacity"] for i in levels),
        cache_bandwidth=tuple(values[f"cache.{i}.bandwidth"] for i in levels),
        cache_retained=tuple(get(f"cache.{i}.retained", 1.0) for i in levels),
        peak=tuple(sorted((float(k), values[f"compute.peak.{k}"]) for k in profile.compute.peak)),
        efficiency=values["compute.efficiency"],
        attention_efficiency=get("compute.attention_efficiency", values["compute.efficiency"]),
        decode_attention_efficiency=get(
            "compute.decode_attention_efficiency", values["compute.efficiency"]
        ),
        half_tokens=get("compute.half_tokens", 0.0),
        half_width=get("compute.half_width", 0.0),
        prefill_chunk=get("compute.prefill_chunk", math.inf),
        per_token=per_token,
        per_layer=per_layer,
        per_layer_feature=get("overhead.per_layer_feature", 0.0),
        per_vocabulary_row=get("overhead.per_vocabulary_row", 0.0),
        per_prompt=get("overhead.per_prompt", per_token),
        per_prompt_layer=get("overhead.per_prompt_layer", per_layer),
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
        energy=(
            joules("per_dram_byte"),
            joules("per_cache_byte"),
            joules("per_operation"),
            joules("static_power"),
        ),
        price=get("price", math.nan),
    )
