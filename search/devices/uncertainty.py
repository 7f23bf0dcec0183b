"""How far costs can be trusted: draws of a profile's constants, carried to speed, memory, energy.

A draw is one set of constants that the profile's measurements could as well have given. Every
component of a step's time (`COMPONENTS`) is proportional to one product of constants, so a draw
scales the components' seconds, and one matrix product gives the draws of a million architectures.
Whichever of bytes and operations wins at the middle constants is taken to win in every draw. What a
device's own constants leave unexplained (the profile's `errors`) is one more factor a draw, shared
by all architectures, as a model's error of form mostly is.
"""

import dataclasses
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.profile import DeviceProfile, Status

DRAWS = 64
"""Kept by `Costs` with intervals."""

LEVEL = 0.9

SPREADS: dict[Status, float] = {
    "measured": 0.03,
    "fitted": 0.10,
    "datasheet": 0.12,
    "asserted": 0.35,
    "not determined": 0.7,
}
"""Standard deviation of a constant's logarithm where the profile gives none, by its status."""

ERRORS = {"decode": 0.12, "prefill": 0.20, "memory": 0.08, "energy": 0.30}
"""Of log predicted - log measured, where the profile says nothing: a model's error on models that
its fit did not see."""

FIGURES = {
    "bandwidth": "memory.bandwidth",
    "kv_share": "memory.kv_bandwidth",
    "packed_surplus": "memory.packed_surplus",
    "per_layer": "overhead.per_layer",
    "per_token": "overhead.per_token",
    "efficiency": "compute.efficiency",
    "decode_efficiency": "compute.decode_efficiency",
    "attention_efficiency": "compute.attention_efficiency",
    "half_tokens": "compute.half_tokens",
    "packed_slowdown": "compute.packed_slowdown",
    "per_prompt": "overhead.per_prompt",
    "per_prompt_layer": "overhead.per_prompt_layer",
    "runtime": "memory.runtime",
    "dram_energy": "energy.per_dram_byte",
    "operation_energy": "energy.per_operation",
    "static_power": "energy.static_power",
}
"""The constants that are drawn, and the figure whose status stands in for an absent spread.
`kv_share` is the KV cache's bandwidth over the weights'."""

DECODE: dict[str, dict[str, float]] = {
    "weights": {"bandwidth": -1},
    "surplus": {"bandwidth": -1, "packed_surplus": 1},
    "kv": {"bandwidth": -1, "kv_share": -1},
    "cache": {"bandwidth": -1},
    "multiplies": {"decode_efficiency": -1},
    "short multiplies": {"decode_efficiency": -1},
    "attention": {"attention_efficiency": -1},
    "unpacking": {"bandwidth": -1},
    "layers": {"per_layer": 1},
    "token": {"per_token": 1},
}
"""Powers of the constants that each component of a decode step is proportional to."""

PREFILL: dict[str, dict[str, float]] = {
    **DECODE,
    "multiplies": {"efficiency": -1, "packed_slowdown": 1},
    "short multiplies": {"efficiency": -1, "packed_slowdown": 1, "half_tokens": 1},
    "layers": {"per_prompt_layer": 1},
    "token": {"per_prompt": 1},
}


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """Factors of each draw over the middle constants."""

    constants: Mapping[str, np.ndarray]
    """[k] by constant."""
    errors: Mapping[str, np.ndarray]
    """[k] by quantity: decode, prefill, memory, energy."""

    def __len__(self) -> int:
        return len(next(iter(self.errors.values())))

    def seconds(self, components: Mapping[str, np.ndarray], phase: str) -> np.ndarray:
        """Draws [n, k] of a phase's seconds from its seconds [n] by component."""
        powers = DECODE if phase == "decode" else PREFILL
        factors = np.stack([self._factor(powers[name]) for name in components])
        stacked = np.stack(list(components.values()), axis=-1)
        return (stacked @ factors) * self.errors[phase]

    def _factor(self, powers: Mapping[str, float]) -> np.ndarray:
        found = np.ones(len(self))
        for name, power in powers.items():
            found = found * self.constants[name] ** power
        return found

    def memory(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Draws [n, k] of peak bytes: what the engine holds beside the file is uncertain."""
        runtime = parts["runtime"]
        rest = sum(value for name, value in parts.items() if name != "runtime")
        drawn = np.multiply.outer(runtime, self.constants["runtime"])
        return (np.asarray(rest)[..., None] + drawn) * self.errors["memory"]

    def joules(
        self,
        dram_bytes: np.ndarray,
        cached_bytes: np.ndarray,
        flops: np.ndarray,
        seconds: np.ndarray,
        prices: tuple[float, float, float, float],
    ) -> np.ndarray:
        """Draws [n, k] of joules from bytes and operations [n] and drawn seconds [n, k]."""
        moved = dram_bytes * prices[0] + cached_bytes * prices[1]
        return (
            np.multiply.outer(moved, self.constants["dram_energy"])
            + np.multiply.outer(flops * prices[2], self.constants["operation_energy"])
            + seconds * (prices[3] * self.constants["static_power"])
        ) * self.errors["energy"]


def spreads(profile: DeviceProfile) -> dict[str, float]:
    """Standard deviation of the logarithm of each drawn constant."""
    given = profile.uncertainty.spread if profile.uncertainty else {}
    figures = {dotted: figure for dotted, _, figure in profile.figures()}
    found = {}
    for name, dotted in FIGURES.items():
        if name in given:
            found[name] = float(given[name])
        elif dotted in figures:
            found[name] = SPREADS[figures[dotted].status]
        else:
            # An absent figure is a default of the model, or stands for a neighbouring one.
            found[name] = 0.0 if name in ("packed_surplus", "packed_slowdown") else 0.2
    return found


def draws(profile: DeviceProfile, count: int = DRAWS, seed: int = 0) -> Draws:
    """Draws of the profile's constants, the same ones each time for one seed.

    Antithetic pairs in a Latin hypercube (McKay, Beckman & Conover 1979): the middle of the draws
    is the middle constants, and every constant has its own quantiles to the last draw, so that a
    probability of .9 is one although few draws tell it.
    """
    spread = spreads(profile)
    generator = np.random.default_rng(seed)
    half = -(-count // 2)
    normal_quantile = NormalDist().inv_cdf
    above = np.array([normal_quantile(0.5 + (k + 0.5) / (2 * half)) for k in range(half)])

    def normal(columns: int) -> np.ndarray:
        sizes = np.stack([generator.permutation(above) for _ in range(columns)], axis=1)
        signed = sizes * generator.choice([-1.0, 1.0], sizes.shape)
        return np.concatenate([signed, -signed])[:count]

    standard = normal(len(spread))
    given = profile.uncertainty
    if given is not None and given.correlation:
        names = list(spread)
        at = [names.index(name) for name in given.spread if name in names]
        rows = [i for i, name in enumerate(given.spread) if name in names]
        matrix = np.array(given.correlation)[np.ix_(rows, rows)]
        standard[:, at] = standard[:, at] @ _root(matrix).T
    constants = {
        name: np.exp(value * standard[:, i]) for i, (name, value) in enumerate(spread.items())
    }
    errors = {**ERRORS, **(given.errors if given else {})}
    noise = normal(len(errors))
    return Draws(
        constants,
        {name: np.exp(value * noise[:, i]) for i, (name, value) in enumerate(errors.items())},
    )


def _root(correlation: np.ndarray) -> np.ndarray:
    """A root of a correlation matrix that was rounded, and may have lost its definiteness."""
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    scale = np.sqrt(np.maximum(np.sum(root**2, axis=1, keepdims=True), 1e-12))
    return np.asarray(root / scale)


def constant_draws(profile: DeviceProfile, count: int = DRAWS, seed: int = 0) -> list[Constants]:
    """Whole sets of constants, one a draw, the unexplained errors folded in.

    For few shapes: each is costed anew, whichever of bytes and operations wins in that draw.
    """
    c, drawn = constants(profile), draws(profile, count, seed)
    found = []
    for k in range(len(drawn)):
        f = {name: float(values[k]) for name, values in drawn.constants.items()}
        e = {name: float(values[k]) for name, values in drawn.errors.items()}
        slow, slow_prefill = e["decode"], e["prefill"]
        rate = f["bandwidth"] / slow
        found.append(
            dataclasses.replace(
                c,
                bandwidth=c.bandwidth * rate,
                kv_bandwidth=c.kv_bandwidth * rate * f["kv_share"],
                cache_bandwidth=tuple(level * rate for level in c.cache_bandwidth),
                packed_surplus=c.packed_surplus * f["packed_surplus"],
                per_layer=c.per_layer * f["per_layer"] * slow,
                per_layer_feature=c.per_layer_feature * f["per_layer"] * slow,
                per_token=c.per_token * f["per_token"] * slow,
                per_sequence=c.per_sequence * f["per_token"] * slow,
                per_vocabulary_row=c.per_vocabulary_row * f["per_token"] * slow,
                decode_efficiency=c.decode_efficiency * f["decode_efficiency"] / slow,
                decode_attention_efficiency=c.decode_attention_efficiency
                * f["attention_efficiency"]
                / slow,
                efficiency=c.efficiency * f["efficiency"] / slow_prefill,
                attention_efficiency=c.attention_efficiency
                * f["attention_efficiency"]
                / slow_prefill,
                packed_slowdown=c.packed_slowdown * f["packed_slowdown"],
                half_tokens=c.half_tokens * f["half_tokens"],
                per_prompt=c.per_prompt * f["per_prompt"] * slow_prefill,
                per_prompt_layer=c.per_prompt_layer * f["per_prompt_layer"] * slow_prefill,
                runtime=c.runtime * f["runtime"],
                memory_factor=e["memory"],
                energy=(
                    c.energy[0] * f["dram_energy"] * e["energy"],
                    c.energy[1] * f["dram_energy"] * e["energy"],
                    c.energy[2] * f["operation_energy"] * e["energy"],
                    c.energy[3] * f["static_power"] * e["energy"],
                ),
            )
        )
    return found


def interval(drawn: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound [n] that leave out (1 - level)/2 of the draws [n, k] on each side."""
    count = drawn.shape[-1]
    out = round((1 - level) / 2 * (count + 1)) - 1
    out = min(max(out, 0), (count - 1) // 2)
    ordered = np.sort(drawn.astype(np.float32, copy=False), axis=-1)
    return ordered[..., out].astype(np.float64), ordered[..., count - 1 - out].astype(np.float64)
