"""k-quants and iq4_nl in NumPy: the bytes that ggml writes, for types gguf-py can only read.

Each super-block of 256 weights has sub-blocks with small integer scales (and offsets), which are
themselves rounded; a few candidate scales are tried for each sub-block and the one with the least
weighted error is kept. The arithmetic follows ggml's reference quantisers (ggml-quants.c, MIT,
`quantize_row_q*_K_ref`, `make_qx_quants`, `make_q3_quants`, `make_qkx2_quants`) operation by
operation in float32, sums in the same order, so that the bytes are the same.

Everything is vectorised over blocks: arrays are [weights of a sub-block, sub-blocks], and sums run
over the first axis one weight after the other.
"""

from collections.abc import Callable

import numpy as np

SUPER_BLOCK = 256
_TINY = np.float32(1e-15)
"""Below this a sub-block counts as zero."""

F32 = np.float32
Array = np.ndarray

IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=F32
)
"""The sixteen levels of iq4_nl."""


def quantise_k(values: Array, name: str) -> Array:
    """The bytes [blocks, block bytes] of float32 weights [blocks, 256] (32 for iq4_nl)."""
    return _QUANTISERS[name](np.ascontiguousarray(values, dtype=F32))


def _ordered_sum(terms: Array) -> Array:
    """Sum over the first axis, one row after the other, in float32."""
    return np.add.reduce(terms, axis=0, dtype=F32)


def _nearest(values: Array) -> Array:
    """The nearest whole number, halves to even."""
    return np.rint(values)


def _sub_blocks(values: Array, size: int) -> Array:
    """Weights [super-blocks, 256] as [size, super-blocks x sub-blocks]."""
    return np.ascontiguousarray(values.reshape(-1, size).T)


def _extreme(x: Array) -> tuple[Array, Array]:
    """Of each column, the first entry of greatest magnitude, and that magnitude."""
    place = np.argmax(np.abs(x), axis=0)
    found = np.take_along_axis(x, place[None], axis=0)[0]
    return found, np.abs(found)


def _half(values: Array) -> tuple[Array, Array]:
    """A float16, and what it reads as."""
    half = values.astype(np.float16)
    return half, half.astype(F32)


def _divided(top: Array, bottom: Array) -> Array:
    """top / bottom, and 0 where the bottom is 0."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def _symmetric(x: Array, n_max: int) -> tuple[Array, Array]:
    """Scale of each column, and levels 0 .. 2·n_max - 1, by least error weighted with x².

    The first candidate puts the extreme entry at -n_max; eighteen others put it nearby.
    """
    extreme, magnitude = _extreme(x)
    live = magnitude >= _TINY
    safe = np.where(live, extreme, F32(1))
    weight_x = x * x * x
    weight = x * x

    def candidate(step: int) -> tuple[Array, Array, Array]:
        inverse = F32(-n_max) / safe if step == 0 else -(F32(n_max) + F32(0.1) * F32(step)) / safe
        level = np.clip(_nearest(inverse * x), -n_max, n_max - 1).astype(F32)
        return level, _ordered_sum(weight_x * level), _ordered_sum(weight * level * level)

    level, cross, square = candidate(0)
    scale = _divided(cross, square)
    best = scale * cross
    for step in (*range(-9, 0), *range(1, 10)):
        tried, cross, square = candidate(step)
        better = (square > 0) & (cross * cross > best * square)
        level = np.where(better, tried, level)
        scale = np.where(better, _divided(cross, square), scale)
        best = np.where(better, scale * cross, best)
    return np.where(live, scale, F32(0)), np.where(live, level + n_max, F32(0))


def _coordinate_descent(x: Array, n_max: int) -> tuple[Array, Array]:
    """Scale and levels 0 .. 2·n_max - 1 of each column, levels improved one at a time."""
    extreme, magnitude = _extreme(x)
    live = magnitude >= _TINY
    inverse = F32(-n_max) / np.where(live, extreme, F32(1))
    weight = x * x
    level = np.clip(_nearest(inverse * x), -n_max, n_max - 1).astype(F32)
    cross = _ordered_sum(weight * x * level)
    square = _ordered_sum(weight * level * level)
    active = live.copy()
    for _ in range(5):
        changed = np.zeros(len(active), dtype=bool)
        for i, xi in enumerate(x):
            w = weight[i]
            cross_less = cross - w * xi * level[i]
            square_less = square - w * level[i] * level[i]
            possible = active & (cross_less > 0)
            ratio = np.divide(xi * square_less, cross_less, out=np.zeros_like(xi), where=possible)
            tried = np.clip(_nearest(ratio), -n_max, n_max - 1).astype(F32)
            cross_new = cross_less + w * xi * tried
            square_new = square_less + w * tried * tried
            better = (
                possible
                & (tried != level[i])
                & (square_new > 0)
                & (cross_new * cross_new * square > cross * cross * square_new)
            )
            level[i] = np.where(better, tried, level[i])
            cross = np.where(better, cross_new, cross)
            square = np.where(better, square_new, square)
            changed |= better
        active &= changed
        if not active.any():
            break
    scale = np.where(square > 0, _divided(cross, square), F32(0))
    return np.where(live, scale, F32(0)), np.where(live, level + n_max, F32(0))


def _with_offset(
    x: Array, weight: Array, n_max: int, *, first: float, steps: int, absolute: bool
) -> tuple[Array, Array, Array]:
    """Scale, offset (≥ 0, to be subtracted) and levels 0 .. n_max of each column.

    Weighted least squares for scale and offset at each of `steps` + 1 roundings; the one with the
    least weighted absolute or squared error is kept.
    """
    sum_w, sum_x = _ordered_sum(weight), _ordered_sum(weight * x)
    low = np.minimum(x.min(axis=0), F32(0))
    high = x.max(axis=0)
    live = high != low

    def error(scale: Array, level: Array, low: Array) -> Array:
        difference = scale * level + low - x
        return _ordered_sum(weight * (np.abs(difference) if absolute else difference * difference))

    def levels(reach: F32, low: Array) -> Array:
        span = np.where(live, high - low, F32(1))
        return np.clip(_nearest(reach / span * (x - low)), 0, n_max).astype(F32)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        level = levels(F32(n_max), low)
        scale = F32(1) / (F32(n_max) / np.where(live, high - low, F32(1)))
        best = error(scale, level, low)
        for step in range(steps + 1):
            tried = levels(F32(first) + F32(0.1) * F32(step) + F32(n_max), low)
            weighted = weight * tried
            sum_l, sum_l2 = _ordered_sum(weighted), _ordered_sum(weighted * tried)
            sum_xl = _ordered_sum(weighted * x)
            determinant = sum_w * sum_l2 - sum_l * sum_l
            scale_new = (sum_w * sum_xl - sum_x * sum_l) / determinant
            low_new = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
            above = low_new > 0
            low_new = np.where(above, F32(0), low_new)
            scale_new = np.where(above, sum_xl / sum_l2, scale_new)
            error_new = error(scale_new, tried, low_new)
            better = live & (determinant > 0) & (error_new < best)
            level = np.where(better, tried, level)
            best = np.where(better, error_new, best)
            scale = np.where(better, scale_new, scale)
            low = np.where(better, low_new, low)
    return (np.where(live, scale, F32(0)), -low, np.where(live, level, F32(0)))


def _relevelled(
    x: Array, level: Array, step: Array, offset: Array | float, low: int, high: int
) -> Array:
    """Levels anew for the rounded scales; as they were where a scale rounded to 0."""
    used = step != 0
    with np.errstate(over="ignore"):
        found = np.clip(_nearest((x + offset) / np.where(used, step, F32(1))), low, high)
    return np.where(used, found - low, level)


def _packed(level: Array, groups: int, bits: int) -> Array:
    """Levels [blocks, 256] to bytes: `groups` runs of 32 neighbours share 32 bytes."""
    parts = level.reshape(len(level), -1, groups, 32).astype(np.uint8)
    found = np.zeros((*parts.shape[:2], 32), dtype=np.uint8)
    for group in range(groups):
        found |= parts[:, :, group] << np.uint8(bits * group)
    return found.reshape(len(level), -1)


def _as_bytes(*parts: Array) -> Array:
    return np.concatenate(
        [np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint8) for part in parts], axis=1
    )


def _per_block(columns: Array, blocks: int) -> Array:
    """[sub-blocks of all blocks] as [blocks, sub-blocks]."""
    return columns.reshape(blocks, -1)


def _first_largest(scales: Array) -> Array:
    """Of each row, the first entry of greatest magnitude."""
    place = np.argmax(np.abs(scales), axis=1)
    return np.take_along_axis(scales, place[:, None], axis=1)[:, 0]


def _levels_by_block(level: Array, blocks: int) -> Array:
    """[size, sub-blocks] back to [blocks, 256]."""
    return level.T.reshape(blocks, -1).astype(np.int64)


def _q6_k(values: Array) -> Array:
    n = len(values)
    x = _sub_blocks(values, 16)
    scale, level = _symmetric(x, 32)
    scales = _per_block(scale, n)
    largest = _first_largest(scales)
    live = np.abs(largest) >= _TINY
    inverse = F32(-128) / np.where(live, largest, F32(1))
    half, read = _half(np.where(live, F32(1) / inverse, F32(0)))
    rounded = np.where(live[:, None], np.minimum(_nearest(inverse[:, None] * scales), 127), 0)
    step = (read[:, None] * rounded.astype(F32)).reshape(-1)
    level = _relevelled(x, level, step, 0.0, -32, 31)
    levels = np.where(live[:, None], _levels_by_block(level, n), 0)
    low = levels & 15
    halves = low.reshape(n, 2, 4, 32).astype(np.uint8)
    ql = np.concatenate(
        [halves[:, :, 0] | halves[:, :, 2] << 4, halves[:, :, 1] | halves[:, :, 3] << 4], axis=2
    )
    return _as_bytes(ql, _packed(levels >> 4, 4, 2), rounded.astype(np.int8), half)


def _q3_k(values: Array) -> Array:
    n = len(values)
    x = _sub_blocks(values, 16)
    scale, level = _coordinate_descent(x, 4)
    scales = _per_block(scale, n)
    largest = _first_largest(scales)
    live = largest != 0
    inverse = F32(-32) / np.where(live, largest, F32(1))
    half, read = _half(np.where(live, F32(1) / inverse, F32(0)))
    rounded = np.clip(_nearest(inverse[:, None] * scales), -32, 31)
    rounded = np.where(live[:, None], rounded, -32).astype(np.int64)
    step = (read[:, None] * rounded.astype(F32)).reshape(-1)
    level = _relevelled(x, level, step, 0.0, -4, 3)
    levels = _levels_by_block(level, n)
    stored = np.where(live[:, None], rounded + 32, 0).astype(np.uint8)
    small = stored[:, :8] & 15 | (stored[:, 8:] & 15) << 4
    top = (stored >> 4).reshape(n, 4, 4)
    high = top[:, 0] | top[:, 1] << 2 | top[:, 2] << 4 | top[:, 3] << 6
    mask = np.zeros((n, 32), dtype=np.uint8)
    for bit, part in enumerate((levels > 3).reshape(n, 8, 32).transpose(1, 0, 2)):
        mask |= part.astype(np.uint8) << np.uint8(bit)
    return _as_bytes(mask, _packed(levels & 3, 4, 2), small, high, half)


def _scales_and_offsets(
    scale: Array, offset: Array, blocks: int, top: float
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Scales and offsets of sub-blocks as small whole numbers, with their two float16 units."""
    scales, offsets = _per_block(scale, blocks), _per_block(offset, blocks)
    most = np.maximum(scales.max(axis=1), F32(0))
    most_offset = np.maximum(offsets.max(axis=1), F32(0))

    def whole(parts: Array, largest: Array) -> Array:
        inverse = np.divide(F32(top), largest, out=np.zeros_like(largest), where=largest > 0)
        return np.minimum(_nearest(inverse[:, None] * parts), F32(top))

    half, read = _half(most / F32(top))
    half_offset, read_offset = _half(most_offset / F32(top))
    small, small_offset = whole(scales, most), whole(offsets, most_offset)
    step = (read[:, None] * small).reshape(-1)
    moved = (read_offset[:, None] * small_offset).reshape(-1)
    return half, half_offset, small.astype(np.uint8), small_offset.astype(np.uint8), step, moved


def _q4_or_q5_k(values: Array, n_max: int, first: float, steps: int) -> tuple[Array, ...]:
    n = len(values)
    x = _sub_blocks(values, 32)
    weight = np.sqrt(_ordered_sum(x * x) / F32(32)) + np.abs(x)
    scale, offset, level = _with_offset(x, weight, n_max, first=first, steps=steps, absolute=False)
    half, half_offset, small, small_offset, step, moved = _scales_and_offsets(scale, offset, n, 63)
    levels = _levels_by_block(_relevelled(x, level, step, moved, 0, n_max), n)
    s, m = small, small_offset
    packed = np.concatenate(
        [
            s[:, :4] | s[:, 4:] >> 4 << 6,
            m[:, :4] | m[:, 4:] >> 4 << 6,
            s[:, 4:] & 15 | (m[:, 4:] & 15) << 4,
        ],
        axis=1,
    )
    return half, half_offset, packed, levels


def _q4_k(values: Array) -> Array:
    half, half_offset, packed, levels = _q4_or_q5_k(values, 15, -1.0, 20)
    return _as_bytes(half, half_offset, packed, _packed(levels, 2, 4))


def _q5_k(values: Array) -> Array:
    half, half_offset, packed, levels = _q4_or_q5_k(values, 31, -0.5, 15)
    mask = np.zeros((len(values), 32), dtype=np.uint8)
    for bit, part in enumerate((levels > 15).reshape(-1, 8, 32).transpose(1, 0, 2)):
        mask |= part.astype(np.uint8) << np.uint8(bit)
    return _as_bytes(half, half_offset, packed, mask, _packed(levels & 15, 2, 4))


def _q2_k(values: Array) -> Array:
    n = len(values)
    x = _sub_blocks(values, 16)
    scale, offset, level = _with_offset(x, np.abs(x), 3, first=-0.5, steps=15, absolute=True)
    half, half_offset, small, small_offset, step, moved = _scales_and_offsets(scale, offset, n, 15)
    levels = _levels_by_block(_relevelled(x, level, step, moved, 0, 3), n)
    return _as_bytes(small | small_offset << 4, _packed(levels, 4, 2), half, half_offset)


def _nearest_iq4(values: Array) -> Array:
    """Index of the nearest of the sixteen levels; the upper one where two are as near."""
    upper = np.clip(np.searchsorted(IQ4_VALUES, values, side="right"), 1, 15)
    nearer_below = values - IQ4_VALUES[upper - 1] < IQ4_VALUES[upper] - values
    return np.where(nearer_below, upper - 1, upper)


def _iq4_nl(values: Array) -> Array:
    x = _sub_blocks(values, 32)
    extreme, magnitude = _extreme(x)
    live = magnitude >= _TINY
    safe = np.where(live, extreme, F32(1))
    weight = x * x

    def candidate(inverse: Array) -> tuple[Array, Array]:
        q = IQ4_VALUES[_nearest_iq4(inverse * x)]
        weighted = weight * q
        return _ordered_sum(weighted * x), _ordered_sum(weighted * q)

    cross, square = candidate(F32(1) / (-safe / IQ4_VALUES[0]))
    scale = _divided(cross, square)
    best = scale * cross
    for step in range(-7, 8):
        cross, square = candidate((F32(step) + IQ4_VALUES[0]) / safe)
        better = (square > 0) & (cross * cross > best * square)
        scale = np.where(better, _divided(cross, square), scale)
        best = np.where(better, scale * cross, best)
    scale = np.where(live, scale, F32(0))
    level = _nearest_iq4(_divided(np.ones_like(scale), scale) * x).T.astype(np.uint8)
    return _as_bytes(scale.astype(np.float16)[:, None], level[:, :16] | level[:, 16:] << 4)


_QUANTISERS: dict[str, Callable[[Array], Array]] = {
    "q6_k": _q6_k,
    "q5_k": _q5_k,
    "q4_k": _q4_k,
    "q3_k": _q3_k,
    "q2_k": _q2_k,
    "iq4_nl": _iq4_nl,
}

K_QUANTS: tuple[str, ...] = tuple(_QUANTISERS)
"""The types this module quantises."""
