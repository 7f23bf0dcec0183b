"""Bytes against ggml's own, and what is read back against gguf-py's dequantiser."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.group_quants import GROUP_ROUNDING
from shapelaw.scaling.formats.quantisers import GGUF_TYPES, dequantised, quantised, rounded
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

gguf = pytest.importorskip("gguf")

Quantise = Callable[[np.ndarray, str], np.ndarray]


def weights(kind: str) -> np.ndarray:
    """Matrices with rows of 512: ordinary ones, and those at which a quantiser stumbles."""
    rng = np.random.default_rng(7)
    normal = rng.normal(size=(40, 512))
    found = {
        "normal": normal,
        "heavy tails": rng.standard_t(3, size=(40, 512)),
        "small": normal * 1e-4,
        "tiny": normal * 1e-12,
        "positive": np.abs(normal),
        "negative": -np.abs(normal),
        "sparse": normal * (rng.random(normal.shape) < 0.05) + 0.0,  # no zero with a sign
        "zero": np.zeros((2, 512)),
        "constant": np.full((2, 512), 0.3),
        "whole numbers": np.round(normal * 3),
    }[kind]
    return np.ascontiguousarray(found, dtype=np.float32)


KINDS = (
    "normal",
    "heavy tails",
    "small",
    "tiny",
    "positive",
    "negative",
    "sparse",
    "zero",
    "constant",
    "whole numbers",
)


@pytest.fixture(scope="module")
def ggml() -> Quantise:
    """ggml's quantiser, from the library within the xllamacpp wheel."""
    wheel = pytest.importorskip("xllamacpp")
    library = ctypes.CDLL(str(next(Path(wheel.__file__).parent.glob("*.so"))))
    if not hasattr(library, "ggml_quantize_chunk"):
        pytest.skip("this wheel hides ggml_quantize_chunk")
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip

    def quantise(values: np.ndarray, name: str) -> np.ndarray:
        kind = gguf.GGMLQuantizationType[name.upper()]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, columns = values.shape
        out = np.zeros((rows, columns // block * size), dtype=np.uint8)
        chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
        return out

    return quantise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", GGUF_TYPES)
def test_bytes_are_ggml_s(ggml: Quantise, name: str, kind: str) -> None:
    values = weights(kind)
    assert np.array_equal(quantised(values, name), ggml(values, name))


@pytest.mark.parametrize(
    "name", [name for name in GGUF_TYPES if name not in ("f32", "f16", "bf16")]
)
def test_rounding_again_moves_little(name: str) -> None:
    """A lattice point stays near itself, and the error is that of its number of levels."""
    values = weights("normal")
    once = rounded(values, name)
    assert np.array_equal(once, dequantised(quantised(values, name), name))
    error = np.mean((once - values) ** 2) / np.mean(values**2)
    again = np.mean((rounded(once, name) - once) ** 2) / np.mean(values**2)
    assert again < 0.3 * error
    # Uniform levels over ± 2.5 standard deviations leave about 2 · 4^-bits.
    bits = {"mxfp4": 3.2}.get(name, TENSOR_TYPES[name].bits)
    assert 0.5 * 4.0**-bits < error < 12 * 4.0**-bits


@pytest.mark.parametrize("name", GROUP_ROUNDING)
def test_group_formats_keep_scale_and_levels(name: str) -> None:
    values = weights("normal")
    found = rounded(values, name)
    group = TENSOR_TYPES[name].block
    block = found.reshape(-1, group if group > 1 else found.shape[1])
    levels = max(len(np.unique(row)) for row in block)
    assert levels <= (16 if "int4" in name else 256)
    assert np.max(np.abs(found - values)) < np.max(np.abs(values)) / (6 if "int4" in name else 25)
    assert np.allclose(rounded(values * 4, name), found * 4, rtol=2e-3, atol=4e-3)
    assert not rounded(np.zeros((2, 512), np.float32), name).any()


def test_mlx_meets_the_extreme_weight_of_each_group_exactly() -> None:
    values = weights("normal").astype(np.float16).astype(np.float32)
    found = rounded(values, "int4_g64_affine").reshape(-1, 64)
    place = np.argmax(np.abs(values.reshape(-1, 64)), axis=1)[:, None]
    extreme = np.take_along_axis(values.reshape(-1, 64), place, axis=1)
    assert np.allclose(np.take_along_axis(found, place, axis=1), extreme, rtol=2e-3)


def test_a_matrix_too_narrow_for_a_type() -> None:
    narrow = weights("normal")[:, :100]
    with pytest.raises(BadInput, match="multiple of 256"):
        rounded(narrow, "q4_k")
    across = rounded(narrow, "q4_k", across_rows=True)
    assert across.shape == narrow.shape
    flat = narrow.reshape(-1)[: 15 * 256].reshape(15, 256)
    assert np.array_equal(across.reshape(-1)[: 15 * 256], rounded(flat, "q4_k").reshape(-1))


def test_names_of_no_type() -> None:
    with pytest.raises(BadInput, match="q9"):
        rounded(weights("zero"), "q9")
    with pytest.raises(BadInput, match="GGUF"):
        quantised(weights("zero"), "fp8")
