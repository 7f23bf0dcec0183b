"""The shapes a calibration times: small enough for minutes, spread over what decides the cost.

Widths 128 to 1280, 4 to 60 blocks, with and without grouped queries, some that fit in a last-level
cache and some that do not. For the jax engine some have shared blocks, and some are as small as
models trained for minutes: from 30 us a token to 15 ms, evenly in the logarithm.
"""

import dataclasses
import sys

from shapelaw.scaling.architecture import Architecture
from shapelaw.search.devices.engines.llamacpp import PRECISIONS


@dataclasses.dataclass(frozen=True)
class Case:
    """A shape at a weight precision."""

    architecture: Architecture
    weight_bits: float
    weight_format: str | None = None
    """Of a GGUF file."""

    @property
    def label(self) -> str:
        """Short, for progress and reports."""
        a = self.architecture
        shared = f"×{a.sharing}" if a.sharing > 1 else ""
        return (
            f"{a.n_blocks}{shared} blocks of {a.d_model}/{a.d_ff}, {a.n_heads}/{a.n_kv_heads} "
            f"heads, {self.weight_bits:g} bits"
        )


def shape(
    blocks: int, width: int, kv_heads: int, d_ff: int, *, sharing: int = 1, vocabulary: int = 32000
) -> Architecture:
    """A shape with heads of 64."""
    return Architecture(
        vocab_size=vocabulary,
        d_model=width,
        n_blocks=blocks,
        sharing=sharing,
        n_heads=width // 64,
        n_kv_heads=kv_heads,
        head_dim=64,
        d_ff=d_ff,
    )


# --- jax: (blocks, width, heads, kv heads, d_ff, sharing) -----------------------------------------

JAX_SMALL = (
    (2, 32, 2, 1, 96, 1),
    (12, 32, 4, 4, 64, 1),
    (1, 48, 4, 4, 256, 1),
    (5, 48, 4, 2, 128, 2),
    (6, 60, 6, 3, 160, 1),
    (8, 64, 2, 2, 192, 1),
    (4, 80, 4, 4, 208, 1),
    (2, 84, 6, 6, 240, 1),
    (1, 96, 4, 2, 512, 1),
    (24, 96, 4, 2, 256, 1),
    (2, 112, 4, 4, 320, 1),
    (6, 128, 2, 1, 384, 1),
)
JAX_SMALL_VOCABULARY = 256
JAX = (
    (8, 128, 2, 1, 384, 1),
    (40, 128, 2, 1, 384, 1),
    (20, 128, 2, 1, 384, 2),
    (48, 192, 3, 3, 512, 1),
    (24, 192, 3, 3, 512, 2),
    (56, 288, 4, 2, 800, 1),
    (28, 288, 4, 2, 800, 2),
    (16, 384, 6, 2, 1024, 1),
    (12, 384, 6, 2, 1024, 3),
    (8, 512, 8, 8, 1408, 1),
    (24, 512, 8, 8, 1408, 1),
    (12, 512, 8, 8, 1408, 2),
    (16, 768, 12, 4, 2048, 1),
    (8, 768, 12, 4, 2048, 2),
    (8, 1024, 16, 4, 2816, 1),
)
JAX_VOCABULARY = 8192
JAX_SMALL_QUICK = ((12, 32, 4, 4, 64, 1), (1, 48, 4, 4, 256, 1), (4, 80, 4, 4, 208, 1))
JAX_QUICK = (
    (40, 128, 2, 1, 384, 1),
    (20, 128, 2, 1, 384, 2),
    (24, 384, 6, 2, 1024, 1),
    (12, 384, 6, 2, 1024, 2),
    (8, 768, 12, 4, 2048, 1),
)

# --- llama.cpp: (blocks, width, kv heads, d_ff, bits) ---------------------------------------------

LLAMA_CPP = (
    (4, 512, 8, 1024, 8),
    (40, 256, 1, 704, 8),
    (10, 256, 4, 1024, 8),
    (60, 320, 1, 896, 8),
    (48, 384, 2, 1024, 8),
    (24, 512, 2, 1408, 8),
    (20, 640, 2, 2560, 8),
    (12, 768, 12, 2048, 8),
    (30, 576, 3, 768, 8),
    (8, 1024, 4, 2816, 8),
    (16, 960, 5, 2560, 8),
    (6, 1280, 5, 5120, 8),
    (36, 448, 7, 1280, 4),
    (12, 768, 4, 2048, 4),
    (8, 1024, 16, 2816, 4),
    (4, 512, 2, 1536, 4),
    (24, 320, 5, 896, 16),
    (8, 512, 2, 1408, 16),
    (6, 768, 4, 2048, 16),
    (40, 256, 4, 512, 16),
)
LLAMA_CPP_QUICK = (
    (4, 512, 8, 1024, 8),
    (40, 256, 1, 704, 8),
    (12, 512, 2, 1408, 8),
    (6, 768, 4, 2048, 8),
    (24, 384, 2, 1024, 4),
    (8, 512, 2, 1408, 4),
    (6, 512, 2, 1408, 16),
)


EXECUTORCH = (
    (8, 256, 2, 704, 1),
    (24, 128, 2, 384, 1),
    (4, 512, 4, 1408, 1),
    (12, 384, 2, 1024, 2),
    (16, 320, 1, 896, 1),
    (6, 256, 2, 704, 3),
    (4, 768, 4, 2048, 1),
    (20, 192, 1, 512, 1),
)
EXECUTORCH_QUICK = ((4, 128, 2, 384, 1), (2, 256, 2, 704, 1), (2, 128, 2, 384, 2))


def executorch_cases(*, quick: bool = False) -> list[Case]:
    """Shapes for ExecuTorch: few, since lowering one for XNNPACK takes tens of seconds."""
    return [
        Case(shape(blocks, width, kv, d_ff, sharing=sharing, vocabulary=JAX_VOCABULARY), 32.0)
        for blocks, width, kv, d_ff, sharing in (EXECUTORCH_QUICK if quick else EXECUTORCH)
    ]


MLX = (
    (8, 256, 2, 704, 1),
    (24, 128, 2, 384, 1),
    (4, 512, 4, 1408, 1),
    (12, 384, 2, 1024, 2),
    (16, 320, 1, 896, 1),
    (6, 768, 4, 2048, 1),
    (30, 576, 3, 1536, 1),
    (8, 1024, 8, 2816, 2),
)


def mlx_cases(*, quick: bool = False) -> list[Case]:
    """Shapes for MLX, each at 16, 8 and 4 bits in turn; at 16 alone where there is no Apple GPU:
    without one MLX multiplies packed weights hundreds of times more slowly."""
    listed = MLX[:3] if quick else MLX
    precisions = (16.0, 8.0, 4.0) if sys.platform == "darwin" else (16.0,)
    return [
        Case(
            shape(blocks, width, kv, d_ff, sharing=sharing, vocabulary=JAX_VOCABULARY),
            precisions[index % len(precisions)],
        )
        for index, (blocks, width, kv, d_ff, sharing) in enumerate(listed)
    ]


def jax_cases(bits: float, *, quick: bool = False) -> list[Case]:
    """Shapes for the jax engine, which runs one precision on a machine."""
    listed = (
        (JAX_SMALL_QUICK if quick else JAX_SMALL, JAX_SMALL_VOCABULARY),
        (JAX_QUICK if quick else JAX, JAX_VOCABULARY),
    )
    return [
        Case(
            Architecture(
                vocab_size=vocabulary,
                d_model=width,
                n_blocks=blocks,
                sharing=sharing,
                n_heads=heads,
                n_kv_heads=kv,
                head_dim=width // heads,
                d_ff=d_ff,
            ),
            bits,
        )
        for shapes, vocabulary in listed
        for blocks, width, heads, kv, d_ff, sharing in shapes
    ]


def llama_cpp_cases(*, quick: bool = False) -> list[Case]:
    """Shapes and precisions for llama.cpp: at most twenty."""
    return [
        Case(shape(blocks, width, kv, d_ff), float(bits), PRECISIONS[bits])
        for blocks, width, kv, d_ff, bits in (LLAMA_CPP_QUICK if quick else LLAMA_CPP)
    ]
