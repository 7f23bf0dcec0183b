"""A hierarchical regression of the cost model's constants on engines and devices.

Each constant of a device with an engine is, on the logarithmic (or logistic) scale, a root value
plus an effect of the engine and backend, an effect of the device, and one of the pair; each effect
has a normal prior. All rows are fitted at once by Gauss-Newton through the cost model itself, with
Huber weights; the noise of each engine's rows is estimated along with it. The curvature at the
optimum gives the joint uncertainty of a pair's constants, and of pairs that nobody measured: the
engine's effects are known from other devices, the device's from other engines, the pair's own is
drawn from its prior.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.engine_rows import Row
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.devices.catalogue import chip
from shapelaw.search.devices.chip_and_engine import Chip
from shapelaw.search.devices.constants import NO_LIMIT, Constants
from shapelaw.search.devices.cost import total_memory, total_seconds
from shapelaw.search.devices.demand import Demand
from shapelaw.search.devices.figure_units import to_si
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts, prefill_parts


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
    "cuda-board": "board",
    "gpu": "gpu",
    "cpu": "cpu",
    "app": "cpu",
}
"""Backend -> the kind of processor and interface. A board's small processor launches work far more
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
    cuda = name == "runtime" and engine.endswith("/cuda")
    return EFFECTS[name].root + (CUDA_RUNTIME if cuda else 0.0)


NOISE = {"decode": 0.06, "e2e": 0.06, "prefill": 0.10, "ttft": 0.12, "memory": 0.05}
"""Standard deviation of a row's logarithm before any is seen."""
NOISE_ROWS = 4.0
"""The rows that prior noise counts as much as."""
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
RESERVED = {"executorch/cpu": 2048.0}
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
    return row.noise or NOISE[row.quantity]


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What the cost model needs of some rows (a row may come several times). Arrays [m]."""

    batch: ArchitectureBatch
    demand: Demand
    quantity: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def of(cls, r: "Regression", index: np.ndarray) -> "_Inputs":
        each = {
            name: getattr(r, name)[index]
            for name in (
                "nominal",
                "peak",
                "chunk",
                "reserved",
                "kv_least",
                "activations_least",
                "slots_kept",
                "bits",
                "kv_bits",
                "activation_bits",
                "generated",
            )
        }
        each["cache_capacity"], each["cache_bandwidth"] = (level[index] for level in r.cache)
        demand = Demand(
            **{f.name: getattr(r.demand, f.name)[index] for f in dataclasses.fields(Demand)}
        )
        return cls(r.batch.take(index), demand, r.quantity[index], each)

    def constants(self, x: dict[str, np.ndarray]) -> Constants:
        """One entry a row, from each constant on its own scale."""
        v = {name: EFFECTS[name].value(values) for name, values in x.items()}
        r = self.columns
        bandwidth = r["nominal"] * v["bandwidth_share"]
        return Constants(
            bandwidth=bandwidth,
            kv_bandwidth=bandwidth * np.minimum(v["kv_share"], 1.0),
            cache_capacity=(r["cache_capacity"],),
            cache_bandwidth=(np.maximum(r["cache_bandwidth"], bandwidth),),
            cache_retained=(1.0,),
            peak=((16.0, r["peak"]),),
            efficiency=v["efficiency"],
            decode_efficiency=v["decode_efficiency"],
            attention_efficiency=np.minimum(v["attention_efficiency"], 1.0),
            decode_attention_efficiency=np.minimum(v["attention_efficiency"], 1.0),
            half_tokens=v["half_tokens"],
            prefill_chunk=r["chunk"],
            per_token=v["per_token"],
            per_layer=v["per_layer"],
            per_sequence=v["per_sequence"],
            per_prompt=v["per_prompt"],
            per_prompt_layer=v["per_prompt_layer"],
            packed_surplus=np.minimum(v["packed_surplus"], LARGEST_SURPLUS),
            packed_slowdown=v["packed_slowdown"],
            runtime=v["runtime"],
            kv_reserved=r["reserved"],
            kv_slots=r["slots_kept"],
            kv_bits_least=r["kv_least"],
            activation_bits_least=r["activations_least"],
        )

    def predict(self, x: dict[str, np.ndarray]) -> np.ndarray:
        """Logarithms of what each row measures, from each constant on its own scale."""
        c, r = self.constants(x), self.columns
        s = Shapes(self.batch, c, self.demand, r["bits"], r["kv_bits"], r["activation_bits"])
        decode = total_seconds(decode_parts(s, c))
        alone = total_seconds(prefill_parts(s, c))
        together = total_seconds(prefill_parts(s, c, together=True))
        sequences = self.demand.batch
        speeds = {
            "decode": sequences / decode,
            "e2e": r["generated"] / (together + r["generated"] * decode / sequences),
            "prefill": self.demand.new / alone,
            "ttft": alone,
        }
        found = np.select(
            [self.quantity == name for name in speeds], list(speeds.values()), total_memory(s, c)
        )
        return np.log(found)


class Regression:
    """The rows, and the effects they bear on."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        each = [level_keys(r.engine, r.device) for r in rows]
        keys: dict[str, list[Any]] = {level: [k[level] for k in each] for level in LEVELS}
        self.names: dict[str, list[Any]] = {level: sorted(set(keys[level])) for level in keys}
        self.at = {
            level: np.array([self.names[level].index(key) for key in keys[level]]) for level in keys
        }
        self.slots: dict[tuple[str, str], slice] = {}
        start = 0
        for name, effect in EFFECTS.items():
            for level in LEVELS:
                if effect.spread(level):
                    size = len(self.names[level])
                    self.slots[name, level] = slice(start, start + size)
                    start += size
        self.size = start
        self.log_measured = np.log([r.measured for r in rows])
        self.quantity = np.array([r.quantity for r in rows])
        self.noise = np.array([prior_noise(r) for r in rows])
        self._prepare()

    def _prepare(self) -> None:
        rows = self.rows
        label = [r.engine.split("/")[0] for r in rows]
        chips = [chip(r.device) for r in rows]
        self.nominal = np.array([nominal_bandwidth(c) for c in chips])
        self.peak = np.array([peak_rate(c, r.engine) for c, r in zip(chips, rows, strict=True)])
        caches = np.array([cache_of(c) for c in chips])
        self.cache = (caches[:, 0], caches[:, 1])
        self.chunk = np.array([CHUNKS.get(e, 512.0) for e in label])
        self.reserved = np.array([RESERVED.get(r.engine, 0.0) for r in rows])
        self.kv_least = np.array([KV_BITS_LEAST.get(r.engine, 0.0) for r in rows])
        self.activations_least = np.array([ACTIVATION_BITS_LEAST.get(e, 0.0) for e in label])
        self.slots_kept = np.array([SLOTS.get(e, 1.0) for e in label])
        self.batch = ArchitectureBatch.of(r.architecture for r in rows)
        self.demand = Demand.stack([r.workload for r in rows])
        self.bits = np.array([r.stored_bits for r in rows])
        self.kv_bits = np.array([r.kv_bits for r in rows])
        self.activation_bits = np.array([r.activation_bits for r in rows])
        self.generated = np.array([float(r.workload.generated) for r in rows])
        self.roots = {name: np.array([root_of(name, r.engine) for r in rows]) for name in EFFECTS}
        everything = np.arange(len(rows))
        copies = np.tile(everything, 1 + len(self.slots))
        self._once, self._copies = (_Inputs.of(self, index) for index in (everything, copies))

    def scale_values(self, u: np.ndarray, name: str) -> np.ndarray:
        """A constant on its own scale, by row."""
        x = self.roots[name]
        for level in LEVELS:
            if (name, level) in self.slots:
                spread = EFFECTS[name].spread(level)
                x = x + spread * u[self.slots[name, level]][self.at[level]]
        return x

    def predict(self, u: np.ndarray) -> np.ndarray:
        """Logarithms of what each row measures."""
        return self._once.predict({name: self.scale_values(u, name) for name in EFFECTS})

    def jacobian(self, u: np.ndarray, step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and their derivatives: effects of one kind and level touch separate rows, so
        that one copy of the rows gives all of them, and all copies are costed in one batch."""
        n = len(self.rows)
        x = {name: np.tile(self.scale_values(u, name), 1 + len(self.slots)) for name in EFFECTS}
        for copy, (name, level) in enumerate(self.slots, start=1):
            x[name][copy * n : (copy + 1) * n] += step * EFFECTS[name].spread(level)
        base, *moved = self._copies.predict(x).reshape(-1, n)
        found = np.zeros((n, self.size))
        for (_, level), where, values in zip(self.slots, self.slots.values(), moved, strict=True):
            columns = np.arange(where.start, where.stop)[self.at[level]]
            found[np.arange(n), columns] = (values - base) / step
        return base, found

    def fit(
        self, chosen: np.ndarray, start: np.ndarray | None = None, rounds: int = 3
    ) -> "Posterior":
        """Fit to the chosen rows, estimating each engine's noise in rounds."""
        self.noise = np.array([prior_noise(r) for r in self.rows])
        u = np.zeros(self.size) if start is None else start
        for _ in range(rounds):
            u, seen = self._solve(chosen, u)
            self._estimate_noise(chosen, u, seen)
        u, seen = self._solve(chosen, u)
        return Posterior(self, u, seen, self.noise.copy())

    def _solve(self, chosen: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, "Seen"]:
        def cost(at: np.ndarray) -> float:
            r = np.abs((self.predict(at) - self.log_measured)[chosen] / self.noise[chosen])
            return float(np.sum(np.where(r <= HUBER, r**2, 2 * HUBER * r - HUBER**2)) + at @ at)

        damping, now = 1e-3, cost(u)
        seen = Seen(np.zeros((0, self.size)))
        for _ in range(25):
            base, slopes = self.jacobian(u)
            r = (base - self.log_measured)[chosen] / self.noise[chosen]
            weight = np.minimum(1.0, HUBER / np.maximum(np.abs(r), 1e-9))
            seen = Seen(slopes[chosen] * (np.sqrt(weight) / self.noise[chosen])[:, None])
            gradient = seen.scaled.T @ (np.sqrt(weight) * r) + u
            before = now
            for _ in range(8):
                step = np.clip(-seen.solve(gradient, 1 + damping), -1.5, 1.5)
                after = cost(u + step)
                if after < now:
                    u, now, damping = u + step, after, damping / 5
                    break
                damping *= 5
            if before - now < 1e-3:
                break
        return u, seen

    def _estimate_noise(self, chosen: np.ndarray, u: np.ndarray, curvature: "Seen") -> None:
        """Each engine's residuals, shrunk towards the prior noise."""
        base, slopes = self.jacobian(u)
        leverage = curvature.variance(slopes) / self.noise**2
        squared = (base - self.log_measured) ** 2 / np.clip(1 - leverage, 0.15, 1)
        prior = np.array([prior_noise(r) for r in self.rows])
        keys = np.array([f"{r.engine} {group(r.quantity)}" for r in self.rows])
        seen = np.zeros(len(self.rows), bool)
        seen[chosen] = True
        for key in set(keys):
            mine = keys == key
            rows = mine & seen
            ratio = np.minimum(squared[rows] / prior[rows] ** 2, 400.0)
            scale = (NOISE_ROWS + ratio.sum()) / (NOISE_ROWS + rows.sum()) if rows.any() else 2.0
            self.noise[mine] = prior[mine] * math.sqrt(scale)


@dataclasses.dataclass(frozen=True)
class Seen:
    """Curvature of a fit with standard normal effects: I + SᵀS for scaled slopes S [rows, effects].

    There are three effects to a row, so everything is solved in the space of the rows.
    """

    scaled: np.ndarray

    def _root(self, ridge: float) -> np.ndarray:
        gram = self.scaled @ self.scaled.T
        return np.asarray(np.linalg.cholesky(gram + ridge * np.eye(len(gram))))

    def solve(self, gradient: np.ndarray, ridge: float = 1.0) -> np.ndarray:
        """(ridge · I + SᵀS)⁻¹ gradient."""
        root = self._root(ridge)
        inner = np.linalg.solve(root.T, np.linalg.solve(root, self.scaled @ gradient))
        return np.asarray((gradient - self.scaled.T @ inner) / ridge)

    def covariance(self, rows: np.ndarray) -> np.ndarray:
        """rows · (I + SᵀS)⁻¹ · rowsᵀ."""
        reduced = np.linalg.solve(self._root(1.0), self.scaled @ rows.T)
        return np.asarray(rows @ rows.T - reduced.T @ reduced)

    def variance(self, rows: np.ndarray) -> np.ndarray:
        """The diagonal of `covariance`."""
        reduced = np.linalg.solve(self._root(1.0), self.scaled @ rows.T)
        return np.maximum(np.sum(rows**2, axis=1) - np.sum(reduced**2, axis=0), 0.0)


@dataclasses.dataclass(frozen=True)
class Posterior:
    """A fit's optimum and curvature."""

    regression: Regression
    u: np.ndarray
    seen: Seen
    noise: np.ndarray

    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm and its standard deviation, noise included, for every row, seen or not."""
        base, slopes = self.regression.jacobian(self.u)
        return base, np.sqrt(self.seen.variance(slopes) + self.noise**2)

    def constants_of(self, engine: str, device: str) -> "PairConstants":
        """A pair's constants; where a level was not seen, its prior spread."""
        r = self.regression
        keys = level_keys(engine, device)
        middle, slopes = [], []
        rows = np.zeros((len(EFFECTS), r.size))
        extra = np.zeros(len(EFFECTS))
        for i, (name, effect) in enumerate(EFFECTS.items()):
            x = root_of(name, engine)
            for level, key in keys.items():
                spread = effect.spread(level)
                if not spread:
                    continue
                if key in r.names[level]:
                    at = r.slots[name, level].start + r.names[level].index(key)
                    rows[i, at] = spread
                    x += spread * self.u[at]
                else:
                    extra[i] += spread**2
            middle.append(float(effect.value(np.array(x))))
            slopes.append(effect.log_slope(x))
        joint = self.seen.covariance(rows) + np.diag(extra)
        joint *= np.outer(slopes, slopes)
        return PairConstants(
            dict(zip(EFFECTS, middle, strict=True)),
            joint,
            sum((row.engine, row.device) == (engine, device) for row in r.rows),
        )

    def noise_of(self, engine: str) -> dict[str, float]:
        """Noise of an engine's rows by quantity; where there are none, the mean engine's."""
        found = {}
        for what in ("decode", "prefill", "memory"):
            mine = [
                self.noise[i]
                for i, row in enumerate(self.regression.rows)
                if row.engine == engine and group(row.quantity) == what
            ]
            every = [
                self.noise[i]
                for i, row in enumerate(self.regression.rows)
                if group(row.quantity) == what
            ]
            found[what] = float(np.median(mine) if mine else np.median(every) * 1.5)
        return found


@dataclasses.dataclass(frozen=True)
class PairConstants:
    """Constants of a device with an engine, and the covariance of their logarithms."""

    values: dict[str, float]
    covariance: np.ndarray
    rows: int


def nominal_bandwidth(c: Chip) -> float:
    """Bytes a second."""
    return to_si(c.memory.bandwidth.value, c.memory.bandwidth.unit, "bandwidth", c.name)


PROCESSOR = {"cpu": "cpu"}
"""Backend -> processor; all others run on the GPU."""


def peak_rate(c: Chip, engine: str) -> float:
    """Operations a second at 16 bits of the processor the backend runs on."""
    rates = c.peak.get(PROCESSOR.get(engine.split("/")[1], "gpu")) or next(iter(c.peak.values()))
    figure = rates.get("16") or next(iter(rates.values()))
    return to_si(figure.value, figure.unit, "operation rate", c.name)


def cache_of(c: Chip) -> tuple[float, float]:
    """Bytes and bytes a second of the last cache level; next to nothing where none is told."""
    if not c.cache:
        return 1.0, 1.0
    level = c.cache[-1]
    return (
        to_si(level.capacity.value, level.capacity.unit, "bytes", c.name),
        to_si(level.bandwidth.value, level.bandwidth.unit, "bandwidth", c.name),
    )
