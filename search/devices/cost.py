"""Time, memory and energy of many architectures on one device. Knows nothing of loss.

The scalar path is this code on a batch of one. Rows never meet, so large batches are cut into
pieces that stay in the processor's cache and are costed by two threads; the result is the same.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.devices.roofline_parts import (
    RESOURCES,
    Part,
    Shapes,
    decode_parts,
    memory_parts,
    prefill_parts,
)
from shapelaw.search.devices.stored_weights import known_family
from shapelaw.search.devices.uncertainty import LEVEL, Draws, draws, interval
from shapelaw.search.workload import Workload

PIECE = 8192
"""Rows costed at a time: some dozens of float64 columns of this length fit in an L2 cache."""

FormatRows = tuple[Sequence[Mix], np.ndarray]
"""Formats that occur, and the index of each row's."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """Arrays [n], one entry an architecture."""

    decode_s: np.ndarray
    """One decode step at the workload's context: one token for each sequence of the batch."""
    prefill_s: np.ndarray
    """The mean turn's uncached input, one sequence."""
    ttft_s: np.ndarray
    """Until the first token of the answer: the prefill hands it out."""
    decode_tokens_per_s: np.ndarray
    """Over the whole batch."""
    memory_bytes: np.ndarray
    """Peak: weights, KV cache at the final context, activations, runtime."""
    energy_per_token_j: np.ndarray
    """One generated token, its prompt not included. NaN where the profile has no energy figures."""
    artifact_s: np.ndarray
    """Device seconds for one finished artifact; a batch shares its decode steps and chunks."""
    artifact_j: np.ndarray
    artifact_price: np.ndarray
    """USD. NaN where the profile has no price."""
    scarce: np.ndarray
    """What most of a decode step waits for, one of RESOURCES."""


@dataclasses.dataclass(frozen=True)
class CostDraws:
    """The same by draws of the profile's constants. Arrays [n, k]."""

    decode_s: np.ndarray
    prefill_s: np.ndarray
    decode_tokens_per_s: np.ndarray
    memory_bytes: np.ndarray
    energy_per_token_j: np.ndarray

    @property
    def ttft_s(self) -> np.ndarray:
        """The prefill hands out the first token."""
        return self.prefill_s

    def interval(self, name: str, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Bounds [n] of one quantity."""
        return interval(getattr(self, name), level)


def costs(
    architectures: ArchitectureBatch,
    profile: DeviceProfile,
    workload: Workload,
    *,
    weight_bits: float | np.ndarray = 8,
    formats: FormatRows | None = None,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> Costs:
    """Cost every architecture of the batch on the device.

    Args:
        weight_bits: nominal bits a weight, one number or [n]: the engine's usual format at that
            precision, or that many bits with the profile's overhead of scales.
        formats: instead, the formats that occur and each row's.

    Raises:
        BadInput: a precision that is not above zero.
    """
    return costs_from_constants(
        architectures,
        constants(profile),
        workload,
        weight_bits=weight_bits,
        formats=formats,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )


def costs_from_constants(
    architectures: ArchitectureBatch,
    c: Constants,
    workload: Workload,
    *,
    weight_bits: float | np.ndarray = 8,
    formats: FormatRows | None = None,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> Costs:
    """`costs` for figures already in SI: what the fits call."""
    check_precisions(weight_bits, kv_bits, activation_bits)

    def piece(a: ArchitectureBatch, bits: np.ndarray, chosen: FormatRows | None) -> Costs:
        s = shapes_of(a, c, workload, bits, chosen, kv_bits, activation_bits)
        return _costs(s, c, workload)

    return _in_pieces(piece, Costs, architectures, weight_bits, formats)


def cost_draws(
    architectures: ArchitectureBatch,
    profile: DeviceProfile,
    workload: Workload,
    *,
    count: int | None = None,
    seed: int = 0,
    weight_bits: float | np.ndarray = 8,
    formats: FormatRows | None = None,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> CostDraws:
    """Costs of each architecture in each draw of the profile's constants.

    A million architectures by 64 draws are 512 MB a quantity; `cost_intervals` keeps only bounds.
    """
    return cost_draws_from_constants(
        architectures,
        constants(profile),
        draws(profile, seed=seed) if count is None else draws(profile, count, seed),
        workload,
        weight_bits=weight_bits,
        formats=formats,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )


def cost_draws_from_constants(
    architectures: ArchitectureBatch,
    c: Constants,
    drawn: Draws,
    workload: Workload,
    *,
    weight_bits: float | np.ndarray = 8,
    formats: FormatRows | None = None,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> CostDraws:
    """`cost_draws` for constants and draws at hand: what asks for many small batches calls."""
    check_precisions(weight_bits, kv_bits, activation_bits)

    def piece(a: ArchitectureBatch, bits: np.ndarray, chosen: FormatRows | None) -> CostDraws:
        s = shapes_of(a, c, workload, bits, chosen, kv_bits, activation_bits)
        return _draws(s, c, workload, drawn)

    return _in_pieces(piece, CostDraws, architectures, weight_bits, formats)


@dataclasses.dataclass(frozen=True)
class CostIntervals:
    """90 % bounds [n] of each quantity over the draws: (lower, upper)."""

    decode_s: tuple[np.ndarray, np.ndarray]
    ttft_s: tuple[np.ndarray, np.ndarray]
    memory_bytes: tuple[np.ndarray, np.ndarray]
    energy_per_token_j: tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Bounds:
    decode_low: np.ndarray
    decode_high: np.ndarray
    ttft_low: np.ndarray
    ttft_high: np.ndarray
    memory_low: np.ndarray
    memory_high: np.ndarray
    energy_low: np.ndarray
    energy_high: np.ndarray


def cost_intervals(
    architectures: ArchitectureBatch,
    profile: DeviceProfile,
    workload: Workload,
    *,
    level: float = LEVEL,
    weight_bits: float | np.ndarray = 8,
    formats: FormatRows | None = None,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> CostIntervals:
    """Bounds of speed, first token, memory and energy, in as little memory as the point costs."""
    check_precisions(weight_bits, kv_bits, activation_bits)
    c, drawn = constants(profile), draws(profile)

    def piece(a: ArchitectureBatch, bits: np.ndarray, chosen: FormatRows | None) -> _Bounds:
        s = shapes_of(a, c, workload, bits, chosen, kv_bits, activation_bits)
        found = _draws(s, c, workload, drawn, np.float32)
        names = ("decode_s", "prefill_s", "memory_bytes", "energy_per_token_j")
        return _Bounds(*(side for name in names for side in found.interval(name, level)))

    bounds = _in_pieces(piece, _Bounds, architectures, weight_bits, formats)
    return CostIntervals(
        (bounds.decode_low, bounds.decode_high),
        (bounds.ttft_low, bounds.ttft_high),
        (bounds.memory_low, bounds.memory_high),
        (bounds.energy_low, bounds.energy_high),
    )


def shapes_of(
    a: ArchitectureBatch,
    c: Constants,
    w: Workload,
    bits: np.ndarray,
    formats: FormatRows | None,
    kv_bits: float,
    activation_bits: float,
) -> Shapes:
    """The shapes' products, by formats where they are given and else by bits."""
    chosen = None if formats is None else (list(formats[0]), formats[1])
    if formats is not None and c.formats is not None:
        for each in formats[0]:
            if each.family != known_family(c.formats):
                raise BadInput(f"format = {each.name}: the engine reads {c.formats} files")
    return Shapes(a, c, w, bits, kv_bits, activation_bits, formats=chosen)


def _in_pieces(
    piece: Callable[[ArchitectureBatch, np.ndarray, FormatRows | None], Any],
    kind: type[Any],
    architectures: ArchitectureBatch,
    weight_bits: float | np.ndarray,
    formats: FormatRows | None,
) -> Any:
    n = len(architectures)
    bits = np.broadcast_to(np.asarray(weight_bits, dtype=np.float64), (n,))

    def at(start: int) -> Any:
        rows = slice(start, start + PIECE)
        part = architectures if n <= PIECE else _rows(architectures, rows)
        chosen = None if formats is None else (formats[0], formats[1][rows])
        return piece(part, bits[rows], chosen)

    starts = range(0, max(n, 1), PIECE)
    if len(starts) == 1:
        return at(0)
    with ThreadPoolExecutor(max_workers=2) as pool:
        pieces = list(pool.map(at, starts))
    return kind(
        **{
            field.name: np.concatenate([getattr(p, field.name) for p in pieces])
            for field in dataclasses.fields(kind)
        }
    )


def check_precisions(
    weight_bits: float | np.ndarray, kv_bits: float, activation_bits: float
) -> None:
    """Raise BadInput for a precision no number format has."""
    for name, value in (
        ("weight_bits", weight_bits),
        ("kv_bits", kv_bits),
        ("activation_bits", activation_bits),
    ):
        array = np.asarray(value, dtype=np.float64)
        if array.size and not (np.all(array > 0) and np.all(array <= 64)):
            raise BadInput(f"{name} = {value}: a number of bits above 0 and up to 64 is needed")


def _rows(architectures: ArchitectureBatch, rows: slice) -> ArchitectureBatch:
    return ArchitectureBatch(**{name: getattr(architectures, name)[rows] for name in FIELDS})


def _costs(s: Shapes, c: Constants, w: Workload) -> Costs:
    decode = decode_parts(s, c)
    prefill = prefill_parts(s, c)
    together = prefill if w.batch == 1 else prefill_parts(s, c, together=True)
    decode_s, prefill_s = total_seconds(decode), total_seconds(prefill)
    no_energy = math.isnan(c.energy[0])
    unknown = np.full_like(decode_s, math.nan)
    token_j = unknown if no_energy else total_joules(decode, c) / w.batch
    prefill_j = unknown if no_energy else total_joules(together, c)
    artifact_s = w.turns * (total_seconds(together) + w.generated * decode_s / w.batch)
    return Costs(
        decode_s=decode_s,
        prefill_s=prefill_s,
        ttft_s=prefill_s,
        decode_tokens_per_s=w.batch / decode_s,
        memory_bytes=total_memory(s, c),
        energy_per_token_j=token_j,
        artifact_s=artifact_s,
        artifact_j=w.turns * (prefill_j + w.generated * token_j),
        artifact_price=artifact_s * c.price,
        scarce=scarce(decode),
    )


def _draws(
    s: Shapes, c: Constants, w: Workload, drawn: Draws, dtype: Any = np.float64
) -> CostDraws:
    decode = decode_parts(s, c)
    prefill = prefill_parts(s, c)

    def of(parts: list[Part]) -> dict[str, np.ndarray]:
        return {name: value.astype(dtype) for name, value in component_seconds(parts).items()}

    decode_s = drawn.seconds(of(decode), "decode")
    if math.isnan(c.energy[0]):
        joules = np.full_like(decode_s, math.nan)
    else:
        moved, cached, flops = (
            np.add.reduce([getattr(part, name) for part in decode])
            for name in ("bytes_moved", "bytes_cached", "flops")
        )
        joules = drawn.joules(moved, cached, flops, decode_s, c.energy) / w.batch
    return CostDraws(
        decode_s=decode_s,
        prefill_s=drawn.seconds(of(prefill), "prefill"),
        decode_tokens_per_s=w.batch / decode_s,
        memory_bytes=drawn.memory({k: v.astype(dtype) for k, v in memory_parts(s, c).items()}),
        energy_per_token_j=joules,
    )


def total_memory(s: Shapes, c: Constants) -> np.ndarray:
    """Peak bytes [n]."""
    return np.asarray(np.add.reduce(list(memory_parts(s, c).values())))


def total_seconds(parts: list[Part]) -> np.ndarray:
    """Parts follow one another."""
    return np.add.reduce([part.seconds for part in parts])


def total_joules(parts: list[Part], c: Constants) -> np.ndarray:
    """Priced on the sums, which is the sum of the priced parts."""
    total = Part(
        "total",
        total_seconds(parts),
        np.add.reduce([part.bytes_moved for part in parts]),
        np.add.reduce([part.bytes_cached for part in parts]),
        np.add.reduce([part.flops for part in parts]),
        {},
    )
    return total.joules(c)


def scarce(parts: list[Part]) -> np.ndarray:
    """The resource most of the time is charged to."""
    seconds = resource_seconds(parts)
    stacked = np.stack([seconds[name] for name in RESOURCES])
    return np.array(RESOURCES)[np.argmax(stacked, axis=0)]


def component_seconds(parts: list[Part]) -> dict[str, np.ndarray]:
    """Seconds charged to each component, over all parts; they sum to the total."""
    totals: dict[str, np.ndarray] = {}
    for part in parts:
        for name, seconds in part.by_component.items():
            totals[name] = totals[name] + seconds if name in totals else seconds
    return totals


def resource_seconds(parts: list[Part]) -> dict[str, np.ndarray]:
    """Seconds charged to each resource, over all parts; they sum to the total."""
    totals = {name: np.zeros_like(parts[0].seconds) for name in RESOURCES}
    for part in parts:
        for name, seconds in part.by_resource.items():
            totals[name] = totals[name] + seconds
    return totals
