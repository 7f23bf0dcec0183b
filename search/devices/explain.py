"""Where time, bytes and joules go when one architecture decodes a token on one device."""

import math
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.cost import (
    check_precisions,
    costs,
    memory_parts,
    resource_seconds,
    scarce,
)
from shapelaw.search.devices.explanation import Explanation
from shapelaw.search.devices.parts import Part, Shapes, decode_parts, prefill_parts
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import Workload


def explain(
    architecture: Architecture,
    profile: DeviceProfile,
    workload: Workload,
    *,
    weight_bits: float = 8,
    kv_bits: float = 16,
    activation_bits: float = 16,
) -> Explanation:
    """The contract of `explain --json`, and what helps to read it.

    `decode_s` is one decode step; its parts' seconds, bytes and operations are the step's and their
    joules are those of one generated token, so that seconds sum to `decode_s` and joules to
    `energy_per_token_j` (None where the profile has no energy figures). `distinct_blocks` is what
    the same depth would cost with blocks of its own; only for a shared model.

    Raises:
        BadInput: a precision or an order of sharing that does not hold.
    """
    check_precisions(weight_bits, kv_bits, activation_bits)
    c = constants(profile)
    batch = ArchitectureBatch.of([architecture])
    shapes = Shapes(batch, c, workload, np.array([float(weight_bits)]), kv_bits, activation_bits)
    decode = decode_parts(shapes, c, workload)
    prefill = prefill_parts(shapes, c, workload)
    total = costs(
        batch,
        profile,
        workload,
        weight_bits=weight_bits,
        kv_bits=kv_bits,
        activation_bits=activation_bits,
    )
    answer: dict[str, Any] = {
        "architecture": architecture.to_dict(),
        "device": profile.name,
        "workload": workload.name,
        "weight_bits": float(weight_bits),
        "context": workload.decode_context,
        "batch": workload.batch,
        "decode_s": float(total.decode_s[0]),
        "decode_tokens_per_s": float(total.decode_tokens_per_s[0]),
        "prefill_s": float(total.prefill_s[0]),
        "ttft_s": float(total.ttft_s[0]),
        "memory_bytes": float(total.memory_bytes[0]),
        "energy_per_token_j": _known(total.energy_per_token_j[0]),
        "parts": _rows(decode, c, workload.batch),
        "scarce": str(scarce(decode)[0]),
        "resources": {k: float(v[0]) for k, v in resource_seconds(decode).items()},
        "prefill_parts": _rows(prefill, c, 1),
        "prefill_scarce": str(scarce(prefill)[0]),
        "memory": {k: float(v[0]) for k, v in memory_parts(shapes, c, workload).items()},
        "artifact": {
            "seconds": float(total.artifact_s[0]),
            "joules": _known(total.artifact_j[0]),
            "usd": _known(total.artifact_price[0]),
        },
        "app_memory_bytes": profile.si("memory.capacity") * profile.si("memory.app_share"),
    }
    if profile.battery is not None and not math.isnan(total.energy_per_token_j[0]):
        answer["battery_s"] = float(
            profile.si("battery") / total.energy_per_token_j[0] / total.decode_tokens_per_s[0]
        )
    if profile.sustained_share is not None:
        answer["sustained_decode_s"] = float(total.decode_s[0] / profile.si("sustained_share"))
    if architecture.sharing > 1:
        answer["distinct_blocks"] = _distinct(
            architecture, profile, workload, weight_bits, kv_bits, activation_bits
        )
    return Explanation(answer)


def _distinct(
    architecture: Architecture,
    profile: DeviceProfile,
    workload: Workload,
    weight_bits: float,
    kv_bits: float,
    activation_bits: float,
) -> dict[str, Any]:
    """The same applied depth with every block stored."""
    twin = architecture.unshared()
    total = costs(
        ArchitectureBatch.of([twin]),
        profile,
        workload,
        weight_bits=weight_bits,
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
