"""Sizes and mixes against files that others published, and against llama.cpp's stated rules."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import FAMILIES, MIXES, mix, usual_format
from shapelaw.scaling.formats.stored_tensors import (
    mix_of_types,
    stored_tensors,
    sum_over_weights,
    weight_bytes,
    weights_by_type,
)
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES, resolved

SIZES = Path(__file__).parents[4] / "shared" / "data" / "formats" / "file_sizes.csv"

SMOLLM2_135M = Architecture(
    vocab_size=49152, d_model=576, n_blocks=30, n_heads=9, n_kv_heads=3, head_dim=64, d_ff=1536
)
LLAMA_32_1B = Architecture(
    vocab_size=128256, d_model=2048, n_blocks=16, n_heads=32, n_kv_heads=8, head_dim=64, d_ff=8192
)
LLAMA_32_3B = Architecture(
    vocab_size=128256, d_model=3072, n_blocks=28, n_heads=24, n_kv_heads=8, head_dim=128, d_ff=8192
)
TINYLLAMA = Architecture(
    vocab_size=32000,
    d_model=2048,
    n_blocks=22,
    n_heads=32,
    n_kv_heads=4,
    head_dim=64,
    d_ff=5632,
    tied_embeddings=False,
)


def stored_bytes(name: str, architecture: Architecture) -> int:
    return sum(tensor.bytes for tensor in stored_tensors(mix(name), architecture))


@pytest.mark.parametrize(
    ("architecture", "name", "megabytes"),
    [
        # Model cards on the Hugging Face hub, three digits.
        (SMOLLM2_135M, "q2_k", 88.2),
        (SMOLLM2_135M, "q4_0", 91.7),
        (SMOLLM2_135M, "q4_k_s", 102),
        (SMOLLM2_135M, "q8_0", 145),
        (LLAMA_32_1B, "q2_k", 581),
        (LLAMA_32_1B, "q3_k_m", 691),
        (LLAMA_32_1B, "q4_k_m", 808),
        (LLAMA_32_1B, "f16", 2480),
        (TINYLLAMA, "q3_k_l", 592),
        (TINYLLAMA, "q5_k_m", 782),
    ],
)
def test_published_gguf_files_weigh_what_the_rules_say(
    architecture: Architecture, name: str, megabytes: float
) -> None:
    assert gguf_file_bytes(mix(name), architecture) / 1e6 == pytest.approx(megabytes, rel=2.5e-3)


def test_published_executorch_files_weigh_what_the_rules_say() -> None:
    """examples/models/llama of ExecuTorch: SpinQuant files of 1083 and 2435 MiB."""
    assert stored_bytes("int4_g32", LLAMA_32_1B) / 2**20 == pytest.approx(1083, rel=2e-3)
    assert stored_bytes("int4_g32", LLAMA_32_3B) / 2**20 == pytest.approx(2435, rel=2e-3)


@pytest.mark.skipif(not SIZES.exists(), reason="the table of published sizes is not at hand")
def test_the_table_of_published_files() -> None:
    errors = []
    with SIZES.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            names = ("vocab_size", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff")
            fields: dict[str, Any] = {name: int(row[name]) for name in names}
            architecture = Architecture(
                **fields,
                n_blocks=int(row["n_layers"]),
                tied_embeddings=row["tied_embeddings"] == "True",
            )
            found = gguf_file_bytes(mix(row["format"]), architecture) / 1e6
            errors.append(abs(found / float(row["megabytes"]) - 1))
    assert max(errors) < 6e-3
    assert np.mean(errors) < 2e-3


def test_ggml_says_the_same_of_its_types() -> None:
    gguf = pytest.importorskip("gguf")
    compared = 0
    for name, found in TENSOR_TYPES.items():
        if name.upper() in gguf.GGMLQuantizationType.__members__:
            kind = gguf.GGMLQuantizationType[name.upper()]
            assert gguf.GGML_QUANT_SIZES[kind] == (found.block, found.block_bytes), name
            compared += 1
    assert compared >= 15


def test_rows_that_are_no_whole_blocks_fall_back() -> None:
    assert resolved("q4_k", 512).name == "q4_k"
    assert resolved("q4_k", 576).name == "q5_0"
    assert resolved("q3_k", 576).name == "iq4_nl"
    assert resolved("q6_k", 960).name == "q8_0"
    assert resolved("q4_0", 100).name == "f16"
    # Width 576: no k-quant but the down matrices, whose rows have 1536 weights.
    shares = mix_of_types(mix("q4_k_m"), SMOLLM2_135M)
    assert sum(shares.values()) == pytest.approx(1)
    down = 1536 * 576 / (3 * 1536 * 576 + 576 * 64 * 24)
    assert shares["q4_k"] + shares["q6_k"] == pytest.approx(down)


def test_first_and_last_eighth_and_every_third_between_get_more_bits() -> None:
    tensors = stored_tensors(mix("q4_k_m"), LLAMA_32_1B)
    down = [tensor.type.name for tensor in tensors if tensor.role == "down"]
    assert [layer for layer, name in enumerate(down) if name == "q6_k"] == [
        0,
        1,
        4,
        7,
        10,
        13,
        14,
        15,
    ]


def test_shared_blocks_are_twins_in_a_gguf_and_one_elsewhere() -> None:
    twice = Architecture(**(SMOLLM2_135M.to_dict() | {"n_blocks": 15, "sharing": 2}))
    assert gguf_file_bytes(mix("q8_0"), twice) == gguf_file_bytes(mix("q8_0"), SMOLLM2_135M)
    batch = ArchitectureBatch.of([twice, SMOLLM2_135M])
    once = weight_bytes(mix("int8"), batch, shares_blocks=True)
    assert once.blocks[0] == pytest.approx(once.blocks[1] / 2, rel=1e-3)
    assert weight_bytes(mix("int8"), batch, shares_blocks=False).blocks[0] == once.blocks[1]


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    kv = draw(st.sampled_from([1, 2, 3, 8]))
    return Architecture(
        vocab_size=draw(st.sampled_from([256, 1000, 32000])),
        d_model=draw(st.sampled_from([64, 100, 576, 768, 1024])),
        n_blocks=draw(st.integers(1, 90)),
        sharing=draw(st.sampled_from([1, 2, 3])),
        n_kv_heads=kv,
        n_heads=kv * draw(st.integers(1, 5)),
        head_dim=draw(st.sampled_from([32, 40, 64])),
        d_ff=draw(st.sampled_from([96, 100, 512, 1536, 2816])),
        tied_embeddings=draw(st.booleans()),
    )


EVERY_MIX = [
    found
    for family in FAMILIES
    for name, found in MIXES[family].items()
    if name not in ("f32", "bf16")
]


@pytest.mark.parametrize("shares_blocks", [False, True])
@settings(deadline=None, max_examples=25)
@given(batch=st.lists(architectures(), min_size=1, max_size=3))
def test_a_batch_sums_what_the_tensors_hold(batch: list[Architecture], shares_blocks: bool) -> None:
    stacked = ArchitectureBatch.of(batch)
    found = [(each, weight_bytes(each, stacked, shares_blocks=shares_blocks)) for each in EVERY_MIX]
    for number, architecture in enumerate(batch):
        for each, sums in found:
            tensors = list(stored_tensors(each, architecture, shares_blocks=shares_blocks))
            assert sums.stored[number] == pytest.approx(sum(t.bytes for t in tensors), abs=0.5)
            read = sum(
                t.bytes for t in tensors if t.role != "embedding" or sums.embedding[number] == 0
            )
            assert sums.decode[number] == pytest.approx(read, abs=0.5)


def test_no_shapes_weigh_nothing() -> None:
    none = ArchitectureBatch.of([SMOLLM2_135M]).take(np.zeros(0, dtype=np.int64))
    assert len(weight_bytes(mix("q4_k_m"), none).stored) == 0


@pytest.mark.parametrize("name", ["q4_k_m", "q2_k", "int4_g32", "fp8"])
def test_weights_by_type_add_up(name: str) -> None:
    batch = ArchitectureBatch.of([SMOLLM2_135M, LLAMA_32_1B, TINYLLAMA])
    by_type = weights_by_type(mix(name), batch)
    total = sum(sums.stored for sums in by_type.values())
    assert np.array_equal(
        total, sum_over_weights(mix(name), batch, dict.fromkeys(TENSOR_TYPES, 1.0)).stored
    )
    for number, architecture in enumerate([SMOLLM2_135M, LLAMA_32_1B, TINYLLAMA]):
        tensors = [t for t in stored_tensors(mix(name), architecture) if t.role != "gain"]
        for kind, sums in by_type.items():
            assert sums.stored[number] == sum(t.weights for t in tensors if t.type.name == kind)


def test_formats_by_name_and_by_bits() -> None:
    assert mix("Q4_K_M").base == "q4_k"
    assert mix("int8").family == "executorch"
    assert mix("int8", "safetensors").head == "f16"
    assert usual_format(8, "gguf").name == "q8_0"
    assert usual_format(4, "mlx").name == "int4_g64"
    with pytest.raises(BadInput, match=r"q9_0.*q8_0"):
        mix("q9_0")
    with pytest.raises(BadInput, match=r"mlx.*int4_g64"):
        mix("q4_k_m", "mlx")
    with pytest.raises(BadInput, match="bits = 7"):
        usual_format(7, "gguf")
