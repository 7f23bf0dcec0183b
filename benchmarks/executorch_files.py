"""What published ExecuTorch files hold, matrix by matrix: not what their mean of bits suggests.

torchao's 8da4w keeps int4 groups with a scale each and leaves a matrix in 32 bits whose rows are no
whole number of groups; head and embedding are stored apart even where they are tied, and a step
reads one row of the embedding. The rules here give the publishers' sizes:

- Llama 3.2 SpinQuant (1.14, 2.55 GB) and QAT+LoRA (1.18, 2.65 GB) by Meta: groups of 32 with a
  32-bit scale, 8 bits a row in head and embedding, adapters of rank 16 in 32 bits
  (pytorch/executorch, examples/models/llama/README.md; meta-llama/Llama-3.2-1B-Instruct-SpinQuant).
- SmolLM2 135M, 360M, 1.7B 8da4w (.52, 1.27, .95 GiB) by Software Mansion: groups of 128 with a
  32-bit scale; rows of 576 and 960 are no multiple of 128, so that those two files are larger than
  their 16-bit siblings (.25, .67 GiB).
- Qwen3 0.6B, 1.7B, 4B 8da4w (.47, 1.21, 2.50 GiB) by Software Mansion: groups of 32 with a 16-bit
  scale, embedding at 8.5 bits (software-mansion/react-native-executorch,
  docs/docs/02-benchmarks/model-size.md, commit 04852be).
"""

import dataclasses
import re

from benchmarks.stored_bits import StoredBits
from shapelaw.scaling.architecture import Architecture

UNQUANTISED = 32.0
SCALE = 32.0
"""Bits of a group's scale in 8da4w files."""
ADAPTER_RANK = 16


def stored_in_groups(
    a: Architecture,
    group: int,
    *,
    scale: float = SCALE,
    head: float | None = None,
    embedding: float | None = None,
) -> StoredBits:
    """int4 in groups along each row, 32 bits where a row is no whole number of groups.

    Args:
        head, embedding: bits a weight; None: as a matrix of that width, and as the head.
    """

    def bits(columns: int) -> float:
        return UNQUANTISED if columns % group else 4 + scale / group

    matrices = _matrices(a)
    total = sum(rows * columns for rows, columns in matrices)
    own = bits(int(a.d_model)) if head is None else head
    return StoredBits(
        blocks=sum(rows * columns * bits(columns) for rows, columns in matrices) / total,
        head=own,
        embedding=own if embedding is None else embedding,
        packed=sum(rows * columns for rows, columns in matrices if columns % group == 0) / total,
    )


def with_adapters(a: Architecture, stored: StoredBits) -> StoredBits:
    """With adapters of rank 16 in 32 bits on every matrix of the blocks."""
    matrices = _matrices(a)
    added = ADAPTER_RANK * sum(rows + columns for rows, columns in matrices)
    total = sum(rows * columns for rows, columns in matrices)
    return dataclasses.replace(stored, blocks=stored.blocks + UNQUANTISED * added / total)


def published(model: str, a: Architecture, precision: str) -> StoredBits | None:
    """What the file of a known publisher holds; None where only its mean is known."""
    words = precision.lower()
    if "spinquant" in words:
        return stored_in_groups(a, 32, head=8.0, embedding=8.0)
    if "qat+lora" in words:
        return with_adapters(a, stored_in_groups(a, 32, head=8.0, embedding=8.0))
    if words == "8da4w" and model.startswith("smollm2"):
        whole = a.d_model % 128 == 0
        return stored_in_groups(a, 128, embedding=8.5 if whole else None)
    if words == "8da4w" and model.startswith("qwen3"):
        return stored_in_groups(a, 32, scale=16.0, embedding=8.5)
    grouped = re.fullmatch(r"4-?bit g(\d+)", words)
    return stored_in_groups(a, int(grouped[1]), embedding=4.5) if grouped else None


def _matrices(a: Architecture) -> list[tuple[int, int]]:
    """Rows and columns of a block's matrices."""
    width, d_ff = int(a.d_model), int(a.d_ff)
    query, key = int(a.query_width), int(a.key_width)
    return [
        *((rows, width) for rows in (query, key, key, d_ff, d_ff)),
        (width, query),
        (width, d_ff),
    ]
