"""Where time, bytes and joules go when one architecture decodes a token on one device."""

import math
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.units import show_bytes
from shapelaw.search.devices.catalogue import sharing_engines
from shapelaw.search.devices.constants import Constants, constants, sustained
from shapelaw.search.devices.cost import (
    FormatRows,
    check_precisions,
    cost_draws,
    costs_from_constants,
    resource_seconds,
    scarce,
    shapes_of,
)
from shapelaw.search.devices.explanation import Explanation
from shapelaw.search.devices.kv_cache import kv_cache
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.devices.roofline_parts import (
    Part,
    Shapes,
    decode_parts,
    memory_parts,
    prefill_parts,
)
from shapelaw.search.devices.stored_weights import formats_of, named_formats
from shapelaw.search.workload import Workload


def explain(
    architecture: Architecture,
    profile: DeviceProfile,
    workload: Workload,
    *,
    weight_bits: float | None = None,
    weight_format: str | None = None,
    kv_format: str | None = None,
    activation_bits: float = 16,
    hot: bool = False,
) -> Explanation:
    """The contract of `explain --json`, and what helps to read it.

    `decode_s` is one decode step; its parts' seconds, bytes and operations are the step's and their
    joules are those of one generated token, so that seconds sum to `decode_s` and joules to
    `energy_per_token_j` (None where the profile has no energy figures). `distinct_blocks` is what
    the same depth would cost with blocks of its own; only for a shared model.

    Args:
        weight_bits: nominal bits a weight (8 where neither is given).
        weight_format: instead, a format that the engine's files know.
        kv_format: what keys and values are kept in; the engine's usual one by default.
        hot: at the device's sustained speed.

    Raises:
        BadInput: a precision or a format that does not hold.
    """
    bits = 8.0 if weight_bits is None else float(weight_bits)
    cache = kv_cache(kv_format, profile, architecture.head_dim)
    kv_bits = cache.bits
    check_precisions(bits, kv_bits, activation_bits)
    c = constants(profile)
    if hot and profile.sustained_share is not None:
        c = sustained(c, profile.si("sustained_share"))
    batch = ArchitectureBatch.of([architecture])
    formats = _formats(c, bits, weight_format)
    shapes = shapes_of(batch, c, workload, np.array([bits]), formats, kv_bits, activation_bits)
    decode = decode_parts(shapes, c)
    prefill = prefill_parts(shapes, c)
    total = costs_from_constants(
        batch,
        c,
        workload,
        weight_bits=bits,
        formats=formats,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )
    drawn = cost_draws(
        batch,
        profile,
        workload,
        weight_bits=bits,
        formats=formats,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
        count=INTERVAL_DRAWS,
    )
    slower = 1 / profile.si("sustained_share") if hot and profile.sustained_share else 1.0
    chosen = formats[0][0] if formats is not None else None
    memory = float(total.memory_bytes[0])
    answer: dict[str, Any] = {
        "architecture": architecture.to_dict(),
        "device": profile.name,
        "engine": profile.engine,
        "workload": workload.name,
        "format": chosen.name if chosen is not None else None,
        "weight_bits": float(shapes.bits[0]),
        "bits_per_weight": float(shapes.weight_bytes[0]) * 8 / float(architecture.total_parameters),
        "file_bytes": file_bytes(architecture, chosen, shapes, c),
        **cache.to_dict(),
        "context": workload.decode_context,
        "batch": workload.batch,
        "decode_s": float(total.decode_s[0]),
        "decode_interval": _interval(drawn.interval("decode_s"), slower),
        "decode_tokens_per_s": float(total.decode_tokens_per_s[0]),
        "prefill_s": float(total.prefill_s[0]),
        "ttft_s": float(total.ttft_s[0]),
        "ttft_interval": _interval(drawn.interval("ttft_s"), slower),
        "memory_bytes": memory,
        "memory_interval": _interval(drawn.interval("memory_bytes")),
        "fits": bool(memory <= profile.app_memory),
        "energy_per_token_j": _known(total.energy_per_token_j[0]),
        "energy_interval": None
        if math.isnan(total.energy_per_token_j[0])
        else _interval(drawn.interval("energy_per_token_j")),
        "parts": _rows(decode, c, workload.batch),
        "scarce": str(scarce(decode)[0]),
        "resources": {k: float(v[0]) for k, v in resource_seconds(decode).items()},
        "prefill_parts": _rows(prefill, c, 1),
        "prefill_scarce": str(scarce(prefill)[0]),
        "memory": {k: float(v[0]) for k, v in memory_parts(shapes, c).items() if v[0]},
        "artifact": {
            "seconds": float(total.artifact_s[0]),
            "joules": _known(total.artifact_j[0]),
            "usd": _known(total.artifact_price[0]),
        },
        "app_memory_bytes": profile.app_memory,
    }
    answer["warnings"] = _warnings(answer, architecture, profile, c)
    if profile.battery is not None and not math.isnan(total.energy_per_token_j[0]):
        answer["battery_s"] = float(
            profile.si("battery") / total.energy_per_token_j[0] / total.decode_tokens_per_s[0]
        )
    if profile.sustained_share is not None:
        answer["sustained_decode_s"] = float(
            total.decode_s[0] if hot else total.decode_s[0] / profile.si("sustained_share")
        )
    if architecture.sharing > 1:
        answer["distinct_blocks"] = _distinct(
            architecture, c, workload, bits, formats, kv_bits, activation_bits
        )
    return Explanation(answer)


INTERVAL_DRAWS = 400
"""For one architecture, more draws than the search takes cost nothing."""


def _formats(c: Constants, bits: float, name: str | None) -> FormatRows | None:
    """The format asked for, else the engine's usual one at the precision, else none."""
    if name is not None:
        return named_formats(name, c.formats or "gguf"), np.zeros(1, dtype=np.int64)
    return None if c.formats is None else formats_of(np.array([bits]), c.formats)


def file_bytes(architecture: Architecture, chosen: Mix | None, s: Shapes, c: Constants) -> float:
    """What the engine's file weighs: a GGUF with header and vocabulary, else the tensors, of a
    shared block once where the file keeps it so."""
    if chosen is not None and chosen.family == "gguf":
        return float(gguf_file_bytes(chosen, architecture))
    stored = architecture.n_blocks if c.file_shares_blocks else architecture.depth
    return float((s.weight_bytes - s.stack_bytes + stored * s.stored.block_bytes)[0])


def _warnings(
    answer: dict[str, Any], architecture: Architecture, profile: DeviceProfile, c: Constants
) -> list[str]:
    found = []
    if not answer["fits"]:
        found.append(
            f"does not fit: {show_bytes(answer['memory_bytes'])} are needed, and {profile.name} "
            f"gives an application {show_bytes(answer['app_memory_bytes'])}"
        )
    elif answer["memory_interval"][1] > answer["app_memory_bytes"]:
        found.append(
            f"may not fit: up to {show_bytes(answer['memory_interval'][1])}, and {profile.name} "
            f"gives an application {show_bytes(answer['app_memory_bytes'])}"
        )
    if architecture.sharing > 1 and not c.shares_blocks:
        found.append(
            f"{profile.engine} holds a shared block once an application"
            f"{', though its file stores it once' if c.file_shares_blocks else ''}: costed as "
            f"{int(architecture.depth)} distinct blocks; to keep them shared an engine such as "
            f"{sharing_engines()} is needed"
        )
    loose = [dotted for dotted, _, figure in profile.figures() if figure.status == "not determined"]
    if loose:
        found.append(f"not determined by measurements: {', '.join(loose)}")
    return found


def _interval(bounds: tuple[np.ndarray, np.ndarray], factor: float = 1.0) -> list[float]:
    return [float(bounds[0][0]) * factor, float(bounds[1][0]) * factor]


def _distinct(
    architecture: Architecture,
    c: Constants,
    workload: Workload,
    weight_bits: float,
    formats: FormatRows | None,
    kv_bits: float,
    activation_bits: float,
) -> dict[str, Any]:
    """The same applied depth with every block stored."""
    twin = architecture.unshared()
    total = costs_from_constants(
        ArchitectureBatch.of([twin]),
        c,
        workload,
        weight_bits=weight_bits,
        formats=formats,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )
    return {
        "n_blocks": twin.n_blocks,
        "decode_s": float(total.decode_s[0]),
        "prefill_s": float(total.prefill_s[0]),
        "memory_bytes": float(total.memory_bytes[0]),
        "energy_per_token_j": _known(total.energy_per_token_j[0]),
    }


def _rows(parts: list[Part], c: Constants, batch: int) -> list[dict[str, Any]]:
    """Parts as plain numbers, joules shared by the batch's tokens; empty parts are left out."""
    rows = []
    for part in parts:
        row = {
            "name": part.name,
            "seconds": float(part.seconds[0]),
            "bytes_moved": float(part.bytes_moved[0]),
            "bytes_cached": float(part.bytes_cached[0]),
            "flops": float(part.flops[0]),
            "joules": _known(part.joules(c)[0] / batch),
        }
        if row["seconds"] or row["bytes_moved"] or row["bytes_cached"] or row["flops"]:
            rows.append(row)
    return rows


def _known(value: float) -> float | None:
    """NaN has no place in JSON."""
    return None if math.isnan(value) else float(value)
