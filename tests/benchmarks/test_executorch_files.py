"""The rules of what ExecuTorch files hold give the sizes that their publishers state."""

import pytest

from benchmarks.executorch_files import published
from benchmarks.stored_bits import StoredBits
from shapelaw.search.architectures import load_architecture

GIB = 2.0**30


@pytest.mark.parametrize(
    ("model", "precision", "stated", "unit"),
    [
        ("llama-3.2-1b", "4-bit SpinQuant", 1.14, 1e9),
        ("llama-3.2-3b", "SpinQuant", 2.55, 1e9),
        ("llama-3.2-1b", "4-bit QAT+LoRA", 1.18, 1e9),
        ("llama-3.2-3b", "4-bit QAT+LoRA", 2.65, 1e9),
        ("smollm2-135m", "8da4w", 0.52, GIB),
        ("smollm2-360m", "8da4w", 1.27, GIB),
        ("smollm2-1.7b", "8da4w", 0.95, GIB),
        ("qwen3-0.6b", "8da4w", 0.47, GIB),
        ("qwen3-1.7b", "8da4w", 1.21, GIB),
        ("qwen3-4b", "8da4w", 2.50, GIB),
    ],
)
def test_sizes_are_those_stated(model: str, precision: str, stated: float, unit: float) -> None:
    a = load_architecture(model)
    stored = published(model, a, precision)
    assert isinstance(stored, StoredBits)
    assert stored.embedding is not None
    table = a.vocab_size * a.d_model
    bits = a.n_blocks * a.block_parameters * stored.blocks
    bits += table * (stored.head + stored.embedding)
    # Stated to two digits behind the point; masks and rotations of a few MB are not counted.
    assert bits / 8 / unit == pytest.approx(stated, abs=0.012)
