"""Memory in the loop: what the engine's process holds beside what the model itself takes.

Weights, keys and values, and activations follow from the shape. What is left of a measured peak is
the engine's own libraries and buffers (one figure) and, where an engine rearranges packed matrices
at load, a second copy of them (a share for each precision).
"""

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import mix
from shapelaw.search.devices.calibration.timing import Timed
from shapelaw.search.devices.constants import UNPACKED, Constants, constants
from shapelaw.search.devices.profile import DeviceProfile, Figure, WeightFormat
from shapelaw.search.devices.roofline_parts import Shapes, memory_parts
from shapelaw.search.workload import Workload


@dataclasses.dataclass(frozen=True)
class MemoryFit:
    """Beside the model: bytes of the engine, and shares held twice."""

    runtime: float
    repacked: dict[float, float]
    """By nominal bits."""
    runtime_spread: float
    """Standard deviation of its logarithm among the shapes."""
    error: float
    """Standard deviation of log predicted - log measured."""


def predicted_peak(timed: Sequence[Timed], profile: DeviceProfile) -> np.ndarray:
    """Peak bytes [n] of each case at its own prompt length."""
    c = constants(profile)
    return np.array([sum(_parts(t, c).values()) for t in timed])


def predicted_file(timed: Sequence[Timed], profile: DeviceProfile) -> np.ndarray:
    """Bytes [n] of the file that each case is stored in."""
    c = constants(profile)
    return np.array(
        [
            gguf_file_bytes(mix(t.case.weight_format, "gguf"), t.case.architecture)
            if t.case.weight_format is not None
            else _parts(t, c)["weights"]
            for t in timed
        ]
    )


def _parts(t: Timed, c: Constants) -> dict[str, float]:
    work = Workload(name="held", prompt=t.prompt_tokens, generated=t.decode_tokens)
    chosen = None
    if t.case.weight_format is not None:
        chosen = [mix(t.case.weight_format, "gguf")], np.array([0])
    shapes = Shapes(
        ArchitectureBatch.of([t.case.architecture]),
        c,
        work,
        np.array([t.case.weight_bits]),
        16,
        16,
        formats=chosen,
    )
    return {name: float(value[0]) for name, value in memory_parts(shapes, c).items()}


def fit_memory(timed: Sequence[Timed], profile: DeviceProfile) -> MemoryFit | None:
    """The engine's own bytes and its second copies, by relative least squares; None where the
    engine does not tell what it holds."""
    rows = [t for t in timed if t.peak_bytes is not None]
    if not rows:
        return None
    bare = dataclasses.replace(constants(profile), runtime=0.0, repacked=())
    twice = dataclasses.replace(bare, repacked=((8.0, 1.0),))
    held = np.array([sum(_parts(t, bare).values()) for t in rows])
    copies = np.array([_parts(t, twice)["repacked weights"] for t in rows])
    peak = np.array([t.peak_bytes for t in rows], dtype=float)
    packed = sorted({t.case.weight_bits for t in rows if t.case.weight_bits < UNPACKED})
    columns = [np.ones(len(rows))]
    columns += [
        np.where([t.case.weight_bits == bits for t in rows], copies, 0.0) for bits in packed
    ]
    from scipy.optimize import lsq_linear

    most = [np.inf, *[1.0] * len(packed)]
    found = lsq_linear(
        np.stack(columns, axis=1) / peak[:, None],
        (peak - held) / peak,
        bounds=(np.zeros(1 + len(packed)), most),
        method="bvls",
    )
    runtime, *shares = (float(value) for value in found.x)
    runtime = max(runtime, 1e6)
    own = peak - held - np.stack(columns[1:], axis=1) @ np.array(shares) if packed else peak - held
    error = np.log((peak - own + runtime) / peak)
    return MemoryFit(
        runtime,
        dict(zip(packed, shares, strict=True)),
        float(np.clip(np.std(np.log(np.maximum(own, 0.1 * runtime))), 0.02, 1.0)),
        float(max(np.sqrt(np.mean(error**2)), 0.01)),
    )


def with_memory(profile: DeviceProfile, fit: MemoryFit, source: str) -> DeviceProfile:
    """The profile with what was measured of memory."""

    def figure(value: float, unit: str) -> Figure:
        return Figure(float(f"{value:.4g}"), unit, source, "fitted")

    weights = dict(profile.weights)
    for bits, share in fit.repacked.items():
        key = f"{bits:g}"
        known = weights.get(key) or WeightFormat(stored_bits=figure(bits, "bits"))
        weights[key] = msgspec.structs.replace(known, repacked_share=figure(share, "share"))
    uncertainty = profile.uncertainty
    if uncertainty is not None:
        uncertainty = msgspec.structs.replace(
            uncertainty,
            spread={**uncertainty.spread, "runtime": round(fit.runtime_spread, 3)},
            errors={**uncertainty.errors, "memory": round(max(fit.error, 0.02), 3)},
        )
    return msgspec.structs.replace(
        profile,
        memory=msgspec.structs.replace(profile.memory, runtime=figure(fit.runtime / 1e6, "MB")),
        weights=weights,
        uncertainty=uncertainty,
    ).validate()
