"""Rounding of weights in the formats of ExecuTorch, MLX and GPU servers.

One scale a row, or a scale (and an offset or a zero point) for each group of consecutive weights
of a row.
"""

from collections.abc import Callable

import numpy as np

F32 = np.float32
Array = np.ndarray

_EPSILON = np.finfo(np.float32).eps
_MLX_EPSILON = np.float32(1e-7)


def _grouped(values: Array, group: int) -> Array:
    """Rows [rows, columns] as [rows x groups, group]."""
    return values.reshape(-1, group)


def symmetric(values: Array, group: int, bits: int) -> Array:
    """Scale = greatest magnitude / (2^(bits-1) - 1/2), levels -2^(bits-1) .. 2^(bits-1) - 1.

    As torchao chooses them for ExecuTorch's 8da4w (arXiv 2507.16099); the scale stays in float32.
    """
    parts = _grouped(values, group)
    half = 2 ** (bits - 1)
    largest = np.abs(parts).max(axis=1, keepdims=True)
    scale = np.maximum(largest / F32(half - 0.5), _EPSILON).astype(F32)
    level = np.clip(np.rint(parts * (F32(1) / scale)), -half, half - 1)
    return (level * scale).reshape(values.shape)


def affine(values: Array, group: int, bits: int) -> Array:
    """Scale and offset in float16 so that the group's extreme entry is met exactly (MLX)."""
    parts = _grouped(values.astype(np.float16).astype(F32), group)
    top = F32(2**bits - 1)
    low = np.minimum(parts.min(axis=1, keepdims=True), F32(np.inf))
    high = parts.max(axis=1, keepdims=True)
    below = np.abs(low) > np.abs(high)
    scale = np.maximum((high - low) / top, _MLX_EPSILON)
    scale = np.where(below, scale, -scale)
    edge = np.where(below, low, high)
    steps = np.rint(edge / scale)
    met = steps != 0
    scale = np.where(met, edge / np.where(met, steps, F32(1)), scale)
    offset = np.where(met, edge, F32(0))
    level = np.clip(np.rint((parts - offset) / scale), 0, top)
    half_scale, half_offset = scale.astype(np.float16), offset.astype(np.float16)
    read = level.astype(np.float16).astype(F32) * half_scale.astype(F32)
    return (read + half_offset.astype(F32)).reshape(values.shape)


def with_zero_point(values: Array, group: int, bits: int) -> Array:
    """Scale in float16 and a whole zero point within the levels (GPTQ and AWQ checkpoints)."""
    parts = _grouped(values, group)
    top = 2**bits - 1
    low = np.minimum(parts.min(axis=1, keepdims=True), F32(0))
    high = np.maximum(parts.max(axis=1, keepdims=True), F32(0))
    scale = np.maximum((high - low) / F32(top), _MLX_EPSILON).astype(np.float16).astype(F32)
    scale = np.where(scale == 0, F32(1), scale)
    zero = np.clip(np.rint(-low / scale), 0, top)
    level = np.clip(np.rint(parts / scale) + zero, 0, top)
    return ((level - zero) * scale).reshape(values.shape).astype(F32)


def float8(values: Array) -> Array:
    """e4m3 with a float32 scale a row that puts the greatest magnitude at 448."""
    import ml_dtypes

    largest = np.abs(values).max(axis=1, keepdims=True)
    scale = np.maximum(largest / F32(448), _EPSILON * F32(2.0**-60)).astype(F32)
    return (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(F32) * scale


def _row_int8(values: Array) -> Array:
    return symmetric(values, values.shape[1], 8)


GROUP_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "int8": _row_int8,
    "fp8": float8,
    "int4_g32_f32": lambda values: symmetric(values, 32, 4),
    "int4_g128_f32": lambda values: symmetric(values, 128, 4),
    "int4_g128_zero": lambda values: with_zero_point(values, 128, 4),
    "int4_g32_affine": lambda values: affine(values, 32, 4),
    "int4_g64_affine": lambda values: affine(values, 64, 4),
    "int4_g128_affine": lambda values: affine(values, 128, 4),
    "int8_g32_affine": lambda values: affine(values, 32, 8),
    "int8_g64_affine": lambda values: affine(values, 64, 8),
    "int8_g128_affine": lambda values: affine(values, 128, 8),
}
"""Weights [rows, columns] in float32 -> what the engine reads back."""
