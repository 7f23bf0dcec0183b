"""Time, memory and energy of many architectures on one device. Knows nothing of loss.

The scalar path is this code on a batch of one. Rows never meet, so large batches are cut into
pieces that stay in the processor's cache and are costed by two threads; the result is the same.
"""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.parts import RESOURCES, Part, Shapes, decode_parts, prefill_parts
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import Workload

PIECE = 8192
"""Rows costed at a time: some dozens of float64 columns of this length fit in an L2 cache."""


@dataclasses.dataclass(frozen=True)
class Costs:
    """Arrays [n], one entry an architecture."""

    decode_s: np.ndarray
    """One decode step at the workload's context: one token for each sequence of the batch."""
    prefill_s: np.ndarray
    """The mean turn's uncached input, one sequence."""
    ttft_s: np.ndarray
    """Prefill and handing out the first token."""
    decode_tokens_per_s: np.ndarray
    """Over the whole batch."""
    memory_bytes: np.ndarray
    """Peak: weights, KV cache at the final context, activations, runtime."""
    energy_per_token_j: np.ndarray
    """One generated token, its prompt not included. NaN where the profile has no energy figures."""
    artifact_s: np.ndarray
    """Device seconds for one finished artifact; a batch shares its decode steps."""
    artifact_j: np.ndarray
    artifact_price: np.ndarray
    """USD. NaN where the profile has no price."""
    scarce: np.ndarray
    """What most of a decode step waits for, one of RESOURCES."""


def costs(
    architectures: ArchitectureBatch,
    profile: DeviceProfile,
    workload: Workload,
    *,
    weight_bits: float | np.ndarray = 8,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> Costs:
    """Cost every architecture of the batch on the device.

    Args:
        weight_bits: nominal bits a weight, one number or [n]; the profile adds the overhead of
            scales where it states one.

    Raises:
        BadInput: a precision that is not above zero, or an order of sharing that is not known.
    """
    return costs_from_constants(
        architectures,
        constants(profile),
        workload,
        weight_bits=weight_bits,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )


def costs_from_constants(
    architectures: ArchitectureBatch,
    c: Constants,
    workload: Workload,
    *,
    weight_bits: float | np.ndarray = 8,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> Costs:
    """`costs` for figures already in SI: what the fits call."""
    check_precisions(weight_bits, kv_bits, activation_bits)
    n = len(architectures)
    bits = np.broadcast_to(np.asarray(weight_bits, dtype=np.float64), (n,))

    def piece(start: int) -> Costs:
        rows = slice(start, start + PIECE)
        part = architectures if n <= PIECE else _rows(architectures, rows)
        return _costs(part, c, workload, bits[rows], kv_bits, activation_bits)

    starts = range(0, max(n, 1), PIECE)
    if len(starts) == 1:
        return piece(0)
    with ThreadPoolExecutor(max_workers=2) as pool:
        pieces = list(pool.map(piece, starts))
    return Costs(
        **{
            field.name: np.concatenate([getattr(p, field.name) for p in pieces])
            for field in dataclasses.fields(Costs)
        }
    )


def check_precisions(
    weight_bits: float | np.ndarray, kv_bits: float, activation_bits: float
) -> None:
    """Raise BadInput for a precision no number format has or an unknown order of sharing."""
    for name, value in (
        ("weight_bits", weight_bits),
        ("kv_bits", kv_bits),
        ("activation_bits", activation_bits),
    ):
        array = np.asarray(value, dtype=np.float64)
        if array.size and not (np.all(array > 0) and np.all(array <= 64)):
            raise BadInput(f"{name} = {value}: a number of bits above 0 and up to 64 is needed")


def _rows(architectures: ArchitectureBatch, rows: slice) -> ArchitectureBatch:
    return ArchitectureBatch(
        **{
            field.name: getattr(architectures, field.name)[rows]
            for field in dataclasses.fields(architectures)
        }
    )


def _costs(
    a: ArchitectureBatch,
    c: Constants,
    w: Workload,
    weight_bits: np.ndarray,
    kv_bits: float,
    activation_bits: float,
) -> Costs:
    s = Shapes(a, c, w, weight_bits, kv_bits, activation_bits)
    decode = decode_parts(s, c, w)
    prefill = prefill_parts(s, c, w)
    decode_s, prefill_s = total_seconds(decode), total_seconds(prefill)
    no_energy = math.isnan(c.energy[0])
    unknown = np.full_like(decode_s, math.nan)
    token_j = unknown if no_energy else total_joules(decode, c) / w.batch
    prefill_j = unknown if no_energy else total_joules(prefill, c)
    artifact_s = w.turns * (prefill_s + w.generated * decode_s / w.batch)
    return Costs(
        decode_s=decode_s,
        prefill_s=prefill_s,
        ttft_s=prefill_s + c.per_token,
        decode_tokens_per_s=w.batch / decode_s,
        memory_bytes=sum(memory_parts(s, c, w).values()),  # type: ignore[arg-type]
        energy_per_token_j=token_j,
        artifact_s=artifact_s,
        artifact_j=w.turns * (prefill_j + w.generated * token_j),
        artifact_price=artifact_s * c.price,
        scarce=scarce(decode),
    )


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


def resource_seconds(parts: list[Part]) -> dict[str, np.ndarray]:
    """Seconds charged to each resource, over all parts; they sum to the total."""
    totals = {name: np.zeros_like(parts[0].seconds) for name in RESOURCES}
    for part in parts:
        for name, seconds in part.by_resource.items():
            totals[name] = totals[name] + seconds
    return totals


def memory_parts(s: Shapes, c: Constants, w: Workload) -> dict[str, np.ndarray]:
    """Peak bytes by what holds them. Each application of a shared block has keys of its own."""
    context = w.final_context
    kept = w.kept_tokens(context)
    local = np.minimum(np.where(s.window == 0, context, s.window), context)
    tokens = s.global_layers * kept + s.local_layers * local
    pages = s.global_layers * w.page_vectors(context) / 2
    chunk = min(w.prefill_tokens, c.prefill_chunk)
    live = chunk * (4 * s.d_model + s.query_width + s.kv_width + 2 * s.d_ff)
    return {
        "weights": s.total_weights * s.weight_bytes,
        "KV cache": w.batch * (tokens + pages) * s.kv_width * s.kv_bytes,
        "activations": live * s.activation_bytes + w.batch * s.vocab * 4,
        "runtime": np.full_like(s.d_model, c.runtime),
    }
