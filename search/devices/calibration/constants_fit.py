"""Which constants a calibration solves for, within which physical bounds."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from shapelaw.search.devices.calibration.least_squares import (
    Free,
    Observation,
    Phase,
    field,
    leave_one_out,
    solve,
    weight_field,
)
from shapelaw.search.devices.calibration.machine import FALLBACK_CACHE, last_level_cache
from shapelaw.search.devices.constants import Constants
from shapelaw.search.devices.shared_blocks import file_keeps_once, memory_keeps_once

PRIOR = 0.01
"""Relative error taken on for each factor of e by which a constant leaves its typical value."""

FORMATS = {4.0: 4.5, 8.0: 8.5}
"""Stored bits of llama.cpp's block formats."""


ADDS_UP = ("llama.cpp",)
"""Engines whose decode on a processor fetches a block of weights, or a row of keys, and then
unpacks and multiplies it: the same bytes take longer in a packed format than in 16 bits.

A graphics processor has other threads to run while some wait for memory. On Apple's, llama.cpp's
time for a token of a 7B model is a straight line in bytes through Q4_0, Q8_0 and F16 (M1 Pro 192
and 192 GB/s between them, M2 94 and 92, M4 104 and 103; discussion 4167): nothing is added."""

UNPACK_BESIDE_READING = 2e-11
"""Seconds a weight from which a fit starts where unpacking adds to reading: two cores that
take an eighth of a cycle for each of theirs."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A calibration's constants with all it knows of them."""

    constants: Constants
    start: Constants
    decode_free: list[Free]
    prefill_free: list[Free]
    values: dict[str, float]
    log_standard_error: dict[str, float]
    not_determined: list[str]


@dataclasses.dataclass(frozen=True)
class CacheSize:
    """Bytes between which a device's last-level cache lies, and where a fit starts."""

    least: float
    usual: float
    most: float

    @classmethod
    def here(cls) -> "CacheSize":
        """This machine's, by what its system tells; neighbours may hold a part of it."""
        told = last_level_cache()[0]
        return cls(0.1 * told, 0.6 * told, 1.25 * told)

    @classmethod
    def elsewhere(cls) -> "CacheSize":
        """Of a device that only its timings are known of: from a small phone's to a server's."""
        return cls(1e6, 0.6 * FALLBACK_CACHE, 5e8)


def template(
    engine: str,
    bare: dict[str, float],
    observations: Sequence[Observation],
    cache: CacheSize | None = None,
    *,
    adds_up: bool | None = None,
) -> Constants:
    """Where the fit starts: the bare device's speeds, or what the fastest timing implies.

    Args:
        cache: of the device that was timed; this machine's where it is not given.
        adds_up: whether unpacking adds to reading; as the engine does on a processor where it is
            not given.
    """
    if adds_up is None:
        adds_up = engine in ADDS_UP
    cache = cache or CacheSize.here()
    decode = [o for o in observations if o.phase == "decode"]
    implied = max(_decode_bytes(o) / o.seconds for o in decode)
    # One thread's sum may read more slowly than an engine's threads do: start from the faster.
    bandwidth = max(bare.get("bandwidth", 0.0), implied)
    prefill = [o for o in observations if o.phase == "prefill"]
    reached = max((_prefill_operations(o) / o.seconds for o in prefill), default=0.0)
    peak = max(bare.get("peak", 0.0), reached) or 50 * bandwidth
    formats = FORMATS if engine in ("llama.cpp", "mlx") else {}
    bits = sorted({*formats, 16.0} if formats else {o.weight_bits for o in observations})
    activation = observations[0].activation_bits
    return Constants(
        bandwidth=bandwidth,
        kv_bandwidth=bandwidth,
        cache_capacity=(cache.usual,),
        cache_bandwidth=(3 * bandwidth,),
        cache_retained=(1.0,),
        peak=((activation, peak),),
        efficiency=1.0,
        decode_efficiency=1.0,
        attention_efficiency=0.3,
        overlaps=not adds_up,
        decode_attention_efficiency=1.0,
        half_tokens=4.0,
        half_width=32.0,
        prefill_chunk=512.0,
        per_token=1e-4,
        per_layer=3e-5,
        per_layer_feature=1e-9,
        per_vocabulary_row=0.0,
        per_prompt=1e-3,
        per_prompt_layer=1e-4,
        weights=tuple((b, formats.get(b, b), 1e-12 if formats else 0.0, 1.0) for b in bits),
        runtime=0.0,
        energy=(math.nan,) * 4,
        price=math.nan,
        shares_blocks=memory_keeps_once(engine, "cpu"),
        file_shares_blocks=file_keeps_once(engine),
    )


def decode_parameters(
    start: Constants, observations: Sequence[Observation], cache: CacheSize
) -> list[Free]:
    """Bandwidths, the cache, overheads, and what else these timings can tell.

    Unpacking at each precision where weights are packed; what a cache keeps of a block read once
    where some blocks are shared; attention's own speed, and how much more slowly than weights keys
    are read, where contexts differ.
    """

    def put_bandwidth(c: Constants, value: float) -> Constants:
        share = c.kv_bandwidth / c.bandwidth
        return dataclasses.replace(c, bandwidth=value, kv_bandwidth=share * value)

    def put_kv_share(c: Constants, value: float) -> Constants:
        return dataclasses.replace(c, kv_bandwidth=value * c.bandwidth)

    def put_ratio(c: Constants, value: float) -> Constants:
        return dataclasses.replace(c, cache_bandwidth=(value * c.bandwidth,))

    def put_capacity(c: Constants, value: float) -> Constants:
        return dataclasses.replace(c, cache_capacity=(value,))

    def put_retained(c: Constants, value: float) -> Constants:
        return dataclasses.replace(c, cache_retained=(value,))

    packed = [b for b in _nominal(start, observations) if np.max(start.unpack(np.array([b]))) > 0]
    shared = any(o.architecture.sharing > 1 for o in observations)
    # One format alone does not tell unpacking from reading: all is left to the bandwidth then.
    unpack = UNPACK_BESIDE_READING if len(packed) > 1 and not start.overlaps else 1e-12
    contexts = {o.workload.decode_context for o in observations}
    return [
        Free(
            "bandwidth", start.bandwidth / 30, start.bandwidth * 10, start.bandwidth, put_bandwidth
        ),
        Free("cache ratio", 1.0, 10.0, 3.0, put_ratio),
        Free("cache capacity", cache.least, cache.most, cache.usual, put_capacity),
        field("per_layer", 1e-7, 5e-3, 3e-5),
        field("per_token", 1e-7, 5e-2, 2e-4),
        field("per_layer_feature", 1e-11, 1e-6, 1e-8),
        *(weight_field(b, "unpack", 1e-14, 1e-9, unpack) for b in packed),
        *([Free("cache retained", 0.05, 1.0, 0.7, put_retained)] if shared else []),
        *(
            [
                field("decode_attention_efficiency", 0.003, 1.0, 0.1),
                Free("kv share", 0.02, 1.0, 0.5, put_kv_share),
            ]
            if len(contexts) > 1
            else []
        ),
    ]


def prefill_parameters(start: Constants, observations: Sequence[Observation]) -> list[Free]:
    """The rate multiplies reach, how width and length bear on it, overheads, attention."""
    bits, rate = start.peak[-1]
    timed = _nominal(start, observations)
    base = timed[-1] if timed else 0.0

    def put_rate(c: Constants, value: float) -> Constants:
        return dataclasses.replace(c, peak=((bits, value),))

    return [
        # No faster than the bare multiply, give or take what its shape does.
        Free("prefill rate", rate / 30, rate * 1.5, rate, put_rate),
        field("half_width", 0.1, 2000.0, 32.0),
        field("half_tokens", 0.01, 200.0, 4.0),
        field("per_prompt_layer", 1e-7, 2e-2, 1e-4),
        field("per_prompt", 1e-7, 0.2, 1e-3),
        field("attention_efficiency", 0.003, 1.0, 0.3),
        *(weight_field(b, "prefill_slowdown", 0.2, 10.0, 1.0) for b in timed if b != base),
    ]


def fit_observations(
    observations: Sequence[Observation], start: Constants, cache: CacheSize | None = None
) -> Fit:
    """Prefill for the rate, decode with that rate, then prefill again with decode's constants.

    Args:
        cache: of the device that was timed; this machine's where it is not given.
    """
    decode = [o for o in observations if o.phase == "decode"]
    prefill = [o for o in observations if o.phase == "prefill"]
    decode_free = decode_parameters(start, decode, cache or CacheSize.here())
    if prefill:
        first = solve(prefill, start, prefill_parameters(start, prefill), starts=1, prior=PRIOR)
        start = dataclasses.replace(start, peak=first.constants.peak)
    solution = solve(decode, start, decode_free, starts=3, prior=PRIOR)
    c, values, errors = solution.constants, dict(solution.values), dict(solution.log_standard_error)
    loose = list(solution.not_determined)
    prefill_free = []
    if prefill:
        prefill_free = prefill_parameters(c, prefill)
        found = solve(prefill, c, prefill_free, starts=2, prior=PRIOR)
        values |= found.values
        c = found.constants
        if "decode_attention_efficiency" in values:
            # A share of a rate that has just moved: decode's own rate stays.
            share = min(1.0, c.decode_attention_efficiency * start.peak[-1][1] / c.peak[-1][1])
            values["decode_attention_efficiency"] = share
            c = dataclasses.replace(c, decode_attention_efficiency=share)
        errors |= found.log_standard_error
        loose += found.not_determined
    return Fit(c, start, decode_free, prefill_free, values, errors, sorted(loose))


def held_out(rows: Sequence[Observation], fit: Fit, phase: Phase) -> np.ndarray:
    """Errors of fits that did not see the shape; the other phase's constants are kept."""
    free = fit.decode_free if phase == "decode" else fit.prefill_free
    shapes = [(o.architecture, o.weight_bits) for o in rows]
    if len(set(shapes)) < 3:
        return np.full(len(rows), math.nan)
    return leave_one_out(rows, fit.constants, free, shapes, starts=1, prior=PRIOR)


def roofline(rows: Sequence[Observation], bare: dict[str, float], fit: Fit) -> np.ndarray:
    """Seconds by the larger of bytes over bandwidth and operations over peak, and nothing else."""
    bandwidth: float = bare.get("bandwidth") or fit.constants.bandwidth
    peak: float = bare.get("peak") or fit.constants.peak[-1][1]
    seconds = []
    for o in rows:
        read = _decode_bytes(o) / bandwidth
        operations = _prefill_operations(o) / peak if o.phase == "prefill" else 0.0
        seconds.append(max(read, operations))
    return np.array(seconds)


def _decode_bytes(o: Observation) -> float:
    """Weight bytes of one token at nominal precision, each application counted."""
    a = o.architecture
    return float(a.applied_parameters + a.vocab_size * a.d_model) * o.weight_bits / 8


def _prefill_operations(o: Observation) -> float:
    return 2.0 * float(o.architecture.applied_parameters) * o.workload.prefill_tokens


def _nominal(start: Constants, observations: Sequence[Observation]) -> list[float]:
    """Listed precisions that some timing lies at or near."""
    listed = [row[0] for row in start.weights]
    return sorted({min(listed, key=lambda b: abs(b - o.weight_bits)) for o in observations})
