"""What the weights of many architectures take on one engine: bytes by part, and packing.

Either by a format's mix of tensor types (shapelaw.scaling.formats), or by a plain number of bits a
weight, with the block scales that the profile states.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import MIXES, USUAL, Family, Mix, mix
from shapelaw.scaling.formats.stored_tensors import WeightSums, weight_bytes
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

UNPACKED_BITS = 15.0
"""From here on a weight is read as it is used."""

Formats = Sequence[Mix | None]
"""One entry a row group; None where only bits are known."""


@dataclasses.dataclass(frozen=True)
class StoredWeights:
    """Bytes and packing of n architectures. Arrays [n]."""

    nominal_bits: np.ndarray
    """Of the block matrices' base type, rounded: what unpacking is looked up by."""
    block_bytes: np.ndarray
    """One stored block with its norm gains, the mean over blocks."""
    head_bytes: np.ndarray
    """The output matrix with the last norm's gain."""
    embedding_bytes: np.ndarray
    """The token embedding where it is stored apart from the head; else 0."""
    row_bytes: np.ndarray
    """One row of the token embedding."""
    packed: np.ndarray
    """1 where weights have to be unpacked before use, else 0."""


def by_bits(
    bits: np.ndarray, stored_bits: np.ndarray, block: Any, vocab: Any, d_model: Any, tied: Any
) -> StoredWeights:
    """Every weight at the same number of bits.

    Args:
        bits: nominal bits [n].
        stored_bits: the same with block scales [n].
        block, vocab, d_model: weights of a block, rows of the vocabulary, width [n].
        tied: 1 where the embedding is the head [n].
    """
    each = stored_bits / 8
    return StoredWeights(
        nominal_bits=bits,
        block_bytes=block * each,
        head_bytes=(vocab * d_model + d_model) * each,
        embedding_bytes=vocab * d_model * (1 - tied) * each,
        row_bytes=d_model * each,
        packed=1.0 * (stored_bits < UNPACKED_BITS),
    )


def by_format(
    formats: Sequence[Mix], which: np.ndarray, a: ArchitectureBatch, *, shares_blocks: bool
) -> StoredWeights:
    """Bytes by the formats' mixes of tensor types.

    Args:
        formats: the formats that occur.
        which: index into them [n].
        a: shapes [n].
        shares_blocks: whether a shared block is kept once.
    """
    n = len(a)
    columns = {f.name: np.empty(n) for f in dataclasses.fields(StoredWeights)}
    for index, chosen in enumerate(formats):
        rows = np.flatnonzero(which == index) if len(formats) > 1 else np.arange(n)
        if not len(rows):
            continue
        part = a if len(rows) == n else _take(a, rows)
        sums = weight_bytes(chosen, part, shares_blocks=shares_blocks)
        for name, values in _columns(chosen, sums, part, shares_blocks=shares_blocks).items():
            columns[name][rows] = values
    return StoredWeights(**columns)


def _columns(
    chosen: Mix, sums: WeightSums, a: ArchitectureBatch, *, shares_blocks: bool
) -> dict[str, Any]:
    layers = a.n_blocks if shares_blocks else a.depth
    gain = 4.0 * a.d_model
    whole = np.where(sums.embedding > 0, sums.embedding, sums.head)
    return {
        "nominal_bits": nominal_bits(chosen),
        "block_bytes": (sums.blocks - gain) / layers,
        "head_bytes": sums.head + gain,
        "embedding_bytes": sums.embedding,
        "row_bytes": whole / a.vocab_size,
        "packed": 1.0 * (TENSOR_TYPES[chosen.base].bits < UNPACKED_BITS),
    }


def _take(a: ArchitectureBatch, rows: np.ndarray) -> ArchitectureBatch:
    return ArchitectureBatch(**{name: getattr(a, name)[rows] for name in FIELDS})


def nominal_bits(chosen: Mix) -> float:
    """Bits a weight of the format's base type, its scales left out: 4 for q4_k_m, 8 for q8_0."""
    return float(np.floor(TENSOR_TYPES[chosen.base].bits + 1e-9))


def formats_of(bits: np.ndarray, family: str) -> tuple[list[Mix], np.ndarray] | None:
    """The family's usual format at each nominal precision [n], or None where one has none."""
    names = USUAL[known_family(family)]
    found = np.unique(bits)
    if any(float(b) not in names for b in found):
        return None
    mixes = [MIXES[known_family(family)][names[int(b)]] for b in found]
    return mixes, np.searchsorted(found, bits)


def known_family(family: str) -> Family:
    """The family by name.

    Raises:
        BadInput: no such family.
    """
    for known in MIXES:
        if known == family:
            return known
    raise BadInput(f"engine.formats = {family!r}: one of {', '.join(MIXES)}")


def named_formats(names: str | Sequence[str], family: str) -> list[Mix]:
    """Formats by name, of one engine's family.

    Raises:
        BadInput: the engine's files know no such format.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    return [mix(name, known_family(family)) for name in wanted]
