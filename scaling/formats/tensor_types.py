"""How one matrix is stored: block sizes and bytes of every tensor type.

Quantised types store a row in blocks of consecutive weights that share a scale (and some an
offset); a row must then be a whole number of blocks. Types with one scale a row have none such.
"""

from typing import Any

import msgspec

Array = Any  # a number, or an ndarray of any one shape


class TensorType(msgspec.Struct, frozen=True, kw_only=True):
    """One way to store the weights of a matrix."""

    name: str
    block: int
    """Weights in a block; a row's length must be a multiple."""
    block_bytes: int
    """Bytes of a block, its scale and offset included."""
    row_bytes: int = 0
    """Bytes beside the blocks for each row: a scale a row."""
    fallback: str = "f16"
    """The type taken where a row is no whole number of blocks."""

    @property
    def bits(self) -> float:
        """Bits a weight, without what is kept a row."""
        return 8.0 * self.block_bytes / self.block

    def bytes_of(self, rows: Array, columns: Array) -> Array:
        """Bytes of a matrix [rows, columns]; columns must be a multiple of `block`."""
        return rows * (columns // self.block * self.block_bytes + self.row_bytes)


def _types(*types: TensorType) -> dict[str, TensorType]:
    return {found.name: found for found in types}


TENSOR_TYPES: dict[str, TensorType] = _types(
    TensorType(name="f32", block=1, block_bytes=4),
    TensorType(name="f16", block=1, block_bytes=2),
    TensorType(name="bf16", block=1, block_bytes=2),
    # ggml's blocks of 32: a 16-bit scale, and an offset where the name ends in 1.
    TensorType(name="q8_0", block=32, block_bytes=34),
    TensorType(name="q5_1", block=32, block_bytes=24),
    TensorType(name="q5_0", block=32, block_bytes=22),
    TensorType(name="q4_1", block=32, block_bytes=20),
    TensorType(name="q4_0", block=32, block_bytes=18),
    TensorType(name="iq4_nl", block=32, block_bytes=18),
    TensorType(name="mxfp4", block=32, block_bytes=17),
    # ggml's super-blocks of 256 with quantised scales; the fallbacks are llama.cpp's.
    TensorType(name="q6_k", block=256, block_bytes=210, fallback="q8_0"),
    TensorType(name="q5_k", block=256, block_bytes=176, fallback="q5_1"),
    TensorType(name="q4_k", block=256, block_bytes=144, fallback="q5_0"),
    TensorType(name="q3_k", block=256, block_bytes=110, fallback="iq4_nl"),
    TensorType(name="q2_k", block=256, block_bytes=84, fallback="iq4_nl"),
    # Other engines: a scale a row, or scales (and offsets) a group within a row.
    TensorType(name="int8", block=1, block_bytes=1, row_bytes=4),
    TensorType(name="fp8", block=1, block_bytes=1, row_bytes=4),
    TensorType(name="int4_g32_f32", block=32, block_bytes=20),
    TensorType(name="int4_g128_f32", block=128, block_bytes=68),
    TensorType(name="int4_g128_zero", block=128, block_bytes=67),
    TensorType(name="int4_g32_affine", block=32, block_bytes=20),
    TensorType(name="int4_g64_affine", block=64, block_bytes=36),
    TensorType(name="int4_g128_affine", block=128, block_bytes=68),
    TensorType(name="int8_g32_affine", block=32, block_bytes=36),
    TensorType(name="int8_g64_affine", block=64, block_bytes=68),
    TensorType(name="int8_g128_affine", block=128, block_bytes=132),
)
"""Every tensor type, by name. `affine`: 16-bit scale and offset a group (MLX). `f32`: a 32-bit
scale a group (torchao's 8da4w as ExecuTorch stores it). `zero`: a 16-bit scale and a 4-bit zero
point a group, rounded up to bytes (GPTQ, AWQ)."""


def resolved(name: str, columns: int) -> TensorType:
    """The type a matrix with rows of `columns` weights gets where `name` is asked for."""
    found = TENSOR_TYPES[name]
    while columns % found.block:
        found = TENSOR_TYPES[found.fallback]
    return found
