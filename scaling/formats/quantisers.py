"""Weights to a tensor type and back: bytes as ggml writes them, and what an engine reads of them.

gguf-py quantises f16, bf16, q8_0, q5_0, q5_1, q4_0, q4_1 and mxfp4 as ggml does and reads every
type; k-quants and iq4_nl are `k_quants`'.
"""

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.group_quants import GROUP_ROUNDING
from shapelaw.scaling.formats.k_quants import K_QUANTS, quantise_k
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

GGUF_TYPES: tuple[str, ...] = (
    "f32",
    "f16",
    "bf16",
    "q8_0",
    "q5_1",
    "q5_0",
    "q4_1",
    "q4_0",
    "mxfp4",
    *K_QUANTS,
)
"""The types whose bytes can be written."""

CHUNK = 1 << 20
"""Weights taken at a time: what is in flight stays small beside a large matrix."""


def quantised(values: np.ndarray, type_name: str) -> np.ndarray:
    """The bytes [rows, bytes a row] of a matrix [rows, columns] in a GGUF type.

    Raises:
        BadInput: a type of no GGUF, or rows that are no whole number of blocks.
    """
    _checked(values, type_name)
    if type_name not in GGUF_TYPES:
        raise BadInput(f"tensor type = {type_name!r}: a GGUF holds {', '.join(GGUF_TYPES)}")
    values = np.ascontiguousarray(values, dtype=np.float32)
    rows = max(1, CHUNK // values.shape[1])
    parts = [
        _quantised_rows(values[start : start + rows], type_name)
        for start in range(0, len(values), rows)
    ]
    return np.concatenate(parts)


def dequantised(stored: np.ndarray, type_name: str) -> np.ndarray:
    """Weights [rows, columns] in float32 from bytes [rows, bytes a row] of a GGUF type."""
    import gguf

    kind = gguf.GGMLQuantizationType[type_name.upper()]
    found = gguf.quants.dequantize(np.ascontiguousarray(stored).view(np.uint8), kind)
    return np.asarray(found, dtype=np.float32)


def rounded(values: np.ndarray, type_name: str, *, across_rows: bool = False) -> np.ndarray:
    """What an engine reads of a matrix [rows, columns] stored in a type; float32, same shape.

    Args:
        values: the matrix; a row is what one output is made of.
        type_name: one of `TENSOR_TYPES`.
        across_rows: let blocks run on into the next row where rows are no whole number of blocks,
            and fill the last block with zeros: for measuring a type on matrices that no file could
            hold in it.

    Raises:
        BadInput: no such type, or rows that are no whole number of blocks.
    """
    shape = np.shape(values)
    values = np.ascontiguousarray(values, dtype=np.float32)
    block = TENSOR_TYPES[type_name].block if type_name in TENSOR_TYPES else 1
    if across_rows and shape[-1] % block:
        flat = np.zeros(-(-values.size // block) * block, dtype=np.float32)
        flat[: values.size] = values.reshape(-1)
        return rounded(flat.reshape(-1, block), type_name).reshape(-1)[: values.size].reshape(shape)
    _checked(values, type_name)
    if type_name == "f32":
        return values
    if type_name in GROUP_ROUNDING:
        return np.asarray(GROUP_ROUNDING[type_name](values), dtype=np.float32)
    rows = max(1, CHUNK // shape[1])
    found = np.empty(shape, dtype=np.float32)
    for start in range(0, len(values), rows):
        part = _quantised_rows(values[start : start + rows], type_name)
        found[start : start + rows] = dequantised(part, type_name)
    return found


def _checked(values: np.ndarray, type_name: str) -> None:
    if type_name not in TENSOR_TYPES:
        raise BadInput(f"tensor type = {type_name!r}: one of {', '.join(TENSOR_TYPES)}")
    block = TENSOR_TYPES[type_name].block
    if values.ndim != 2 or values.shape[1] % block:
        raise BadInput(
            f"shape = {values.shape}: {type_name} needs a matrix with rows of a multiple of {block}"
        )


def _quantised_rows(values: np.ndarray, type_name: str) -> np.ndarray:
    if type_name in K_QUANTS:
        block = TENSOR_TYPES[type_name].block
        return quantise_k(values.reshape(-1, block), type_name).reshape(len(values), -1)
    import gguf

    kind = gguf.GGMLQuantizationType[type_name.upper()]
    return np.asarray(gguf.quants.quantize(values, kind)).view(np.uint8)
