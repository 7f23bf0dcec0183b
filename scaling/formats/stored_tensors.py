"""What a format stores, tensor by tensor, and sums over it for many architectures at once.

Bytes of a file, bytes that a decode step reads, seconds to unpack and the price in loss are all
sums over matrices of (weights) x (a value of the matrix's type). For one format the types depend on
the number of layers, on grouping, and on which row lengths are whole numbers of blocks: few
combinations, so that a table of them and one look-up a matrix serve a million shapes.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.formats.mixes import (
    BLOCK_ROLES,
    LLAMA_70B_LAYERS,
    LayerContext,
    Mix,
    Role,
)
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES, TensorType, resolved

GAIN_BYTES = 4
"""Norm gains stay in float32 in every file."""

Columns = np.ndarray
Values = tuple[tuple[str, float], ...]
"""A value for each tensor type."""


class StoredTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One matrix or gain as it lies in a file."""

    role: str
    """A `Role`, or `gain`."""
    layer: int | None
    """Layer from 0 within the file; None outside the blocks."""
    rows: int
    columns: int
    type: TensorType

    @property
    def weights(self) -> int:
        """Numbers in it."""
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        """Bytes, without padding."""
        return int(self.type.bytes_of(self.rows, self.columns))


class WeightSums(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity [n] of n architectures, by what a decode step does with the matrix."""

    blocks: np.ndarray
    """Over all stored blocks: read once a step (or more often, where sharing re-reads)."""
    embedding: np.ndarray
    """The token embedding, of which a step reads one row; 0 where the head stands for it."""
    head: np.ndarray
    """The output matrix, read once a step."""

    @property
    def stored(self) -> np.ndarray:
        """Over everything in the file."""
        return self.blocks + self.embedding + self.head

    @property
    def decode(self) -> np.ndarray:
        """Over what one decode step reads, each block once; the looked-up row is left out."""
        return self.blocks + self.head


def stored_layers(
    architecture: Architecture | ArchitectureBatch, *, shares_blocks: bool
) -> np.ndarray:
    """Layers in the file: distinct blocks where a block is kept once, else one an application."""
    return np.asarray(architecture.n_blocks if shares_blocks else architecture.depth)


def stored_tensors(
    mix: Mix, architecture: Architecture, *, shares_blocks: bool = False
) -> Iterator[StoredTensor]:
    """Every tensor of the file, in order: embedding, layer by layer, last gain, head.

    Args:
        mix: the format.
        architecture: its shape.
        shares_blocks: whether a shared block is stored once. A GGUF stores it as often as it is
            applied (`Architecture.depth` layers), and the twins may differ in type.
    """
    a = architecture
    layers = int(stored_layers(a, shares_blocks=shares_blocks))
    context = LayerContext(
        n_layers=layers, four_query_heads=a.gqa_group >= 4, grouped=a.gqa_group > 1
    )
    shapes: dict[Role, tuple[int, int]] = {role: shape(a) for role, shape in _SHAPES.items()}

    def tensor(role: Role, layer: int | None, name: str) -> StoredTensor:
        rows, columns = shapes[role]
        return StoredTensor(
            role=role, layer=layer, rows=rows, columns=columns, type=resolved(name, columns)
        )

    def gain(layer: int | None) -> StoredTensor:
        return StoredTensor(
            role="gain", layer=layer, rows=1, columns=a.d_model, type=TENSOR_TYPES["f32"]
        )

    one_matrix = a.tied_embeddings and not mix.head_apart
    yield tensor("embedding", None, mix.head if one_matrix else mix.embedding)
    for layer in range(layers):
        yield gain(layer)
        for role in BLOCK_ROLES:
            if role == "gate":
                yield gain(layer)
            yield tensor(role, layer, mix.block_type(role, layer, context))
    yield gain(None)
    if not one_matrix:
        yield tensor("head", None, mix.head)


def mix_of_types(
    mix: Mix, architecture: Architecture, *, shares_blocks: bool = False
) -> dict[str, float]:
    """Share of the block matrices' weights that each type holds; sums to 1."""
    found: dict[str, float] = {}
    for tensor in stored_tensors(mix, architecture, shares_blocks=shares_blocks):
        if tensor.role in BLOCK_ROLES:
            found[tensor.type.name] = found.get(tensor.type.name, 0.0) + tensor.weights
    total = sum(found.values())
    return {name: weights / total for name, weights in found.items()}


_SHAPES: dict[Role, Callable[..., tuple]] = {
    "embedding": lambda a: (a.vocab_size, a.d_model),
    "head": lambda a: (a.vocab_size, a.d_model),
    "q": lambda a: (a.query_width, a.d_model),
    "k": lambda a: (a.key_width, a.d_model),
    "v": lambda a: (a.key_width, a.d_model),
    "o": lambda a: (a.d_model, a.query_width),
    "gate": lambda a: (a.d_ff, a.d_model),
    "up": lambda a: (a.d_ff, a.d_model),
    "down": lambda a: (a.d_model, a.d_ff),
}
"""Rows and columns of each matrix; a row is what one output is made of."""

_PLAIN_ROLES: tuple[Role, ...] = ("q", "k", "gate", "up")
"""Matrices with rows of d_model that take the base type in every layer, in every format."""

_RULED_ROLES: tuple[Role, ...] = ("v", "o", "down")
"""Matrices that the rules of some formats single out, in some layers or in all."""


def sum_over_weights(
    mix: Mix,
    architectures: ArchitectureBatch,
    per_weight: Mapping[str, float],
    per_row: Mapping[str, float] | None = None,
    *,
    shares_blocks: bool = False,
) -> WeightSums:
    """Sums over matrices of weights x per_weight[type] + rows x per_row[type], for shapes [n].

    Gains are left out. With seconds a weight this is the time to unpack, with nats a weight the
    price.

    Args:
        mix: the format.
        architectures: shapes [n].
        per_weight: a value for each tensor type; absent ones count 0.
        per_row: likewise a value for each row.
        shares_blocks: as in `stored_tensors`.
    """
    a = architectures
    layers = stored_layers(a, shares_blocks=shares_blocks)
    depths, depth = _distinct(layers)
    # Only the value matrices of a few formats ask about grouping.
    grouping = (a.n_heads > a.n_kv_heads) + (a.n_heads >= 4 * a.n_kv_heads).astype(np.int64)
    key = depth * 3 + grouping
    levels = _level_columns(mix)

    def level(columns: Columns) -> Columns:
        found = np.zeros(np.shape(columns), dtype=np.int64)
        for block in levels:
            found += (columns & (block - 1)) != 0
        return found

    by_width = {"d": level(a.d_model), "o": level(a.query_width), "ff": level(a.d_ff)}
    columns_of = {"o": "o", "down": "ff"}

    place = key * (len(levels) + 1)
    weight_values, row_values = tuple(per_weight.items()), tuple((per_row or {}).items())

    def block_sum(roles: tuple[Role, ...], values: Values, amount: np.ndarray) -> np.ndarray:
        width = by_width[columns_of.get(roles[0], "d")]
        if _asked_types(mix, roles[0]) == {mix.base}:
            return amount * layers * _by_level(mix, mix.base, values)[width]
        return amount * _by_layers_and_level(mix, roles[0], values, depths)[place + width]

    blocks = np.zeros(len(a))
    for roles in (_PLAIN_ROLES, *((role,) for role in _RULED_ROLES)):
        shapes = [_SHAPES[role](a) for role in roles]
        weights = sum(rows * columns for rows, columns in shapes)
        blocks += block_sum(roles, weight_values, np.asarray(weights))
        if row_values:
            rows_of_all = np.asarray(sum(rows for rows, _ in shapes))
            blocks += block_sum(roles, row_values, rows_of_all)
    width = by_width["d"]
    one_matrix = (a.tied_embeddings != 0) & (not mix.head_apart)

    def matrix(name: str) -> np.ndarray:
        weights = a.vocab_size * a.d_model * _by_level(mix, name, weight_values)[width]
        if not row_values:
            return weights
        return weights + a.vocab_size * _by_level(mix, name, row_values)[width]

    return WeightSums(
        blocks=blocks,
        head=matrix(mix.head),
        embedding=np.where(one_matrix, 0.0, matrix(mix.embedding)),
    )


def weight_bytes(
    mix: Mix, architectures: ArchitectureBatch, *, shares_blocks: bool = False
) -> WeightSums:
    """Bytes of the stored tensors of shapes [n], gains with the blocks; without padding."""
    found = sum_over_weights(
        mix,
        architectures,
        {name: kind.bits / 8 for name, kind in TENSOR_TYPES.items()},
        {name: float(kind.row_bytes) for name, kind in TENSOR_TYPES.items() if kind.row_bytes}
        if _has_row_bytes(mix)
        else None,
        shares_blocks=shares_blocks,
    )
    layers = stored_layers(architectures, shares_blocks=shares_blocks)
    gains = GAIN_BYTES * (2 * layers + 1) * architectures.d_model
    return msgspec.structs.replace(found, blocks=found.blocks + gains)


def weights_by_type(
    mix: Mix, architectures: ArchitectureBatch, *, shares_blocks: bool = False
) -> dict[str, WeightSums]:
    """Weights that each type holds, for shapes [n]: what unpacking is paid for."""
    found = {
        name: sum_over_weights(mix, architectures, {name: 1.0}, shares_blocks=shares_blocks)
        for name in reachable_types(mix)
    }
    return {name: sums for name, sums in found.items() if np.any(sums.stored)}


def _distinct(counts: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """The distinct small whole numbers, and where each of `counts` stands among them."""
    present = np.bincount(counts)
    distinct = np.flatnonzero(present)
    place = np.zeros(len(present), dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return tuple(distinct.tolist()), place[counts]


@functools.cache
def _asked_types(mix: Mix, role: Role) -> frozenset[str]:
    """The types that the format asks for the role's matrices, in any layer of any stack."""
    contexts = [
        LayerContext(n_layers=n_layers, four_query_heads=four, grouped=True)
        for n_layers in (*range(1, 33), LLAMA_70B_LAYERS)
        for four in (False, True)
    ]
    return frozenset(
        mix.block_type(role, layer, context)
        for context in contexts
        for layer in range(context.n_layers)
    )


@functools.cache
def reachable_types(mix: Mix) -> tuple[str, ...]:
    """Every type a tensor of the format may get, fallbacks included."""
    asked = {mix.base, mix.embedding, mix.head}.union(
        *(_asked_types(mix, role) for role in _RULED_ROLES)
    )
    found: dict[str, None] = {}
    pending = sorted(asked)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = None
            if TENSOR_TYPES[name].block > 1:
                pending.append(TENSOR_TYPES[name].fallback)
    return tuple(sorted(found))


def _has_row_bytes(mix: Mix) -> bool:
    return any(TENSOR_TYPES[name].row_bytes for name in reachable_types(mix))


@functools.cache
def _level_columns(mix: Mix) -> tuple[int, ...]:
    """Block sizes in the format, largest first; each is a multiple of the next."""
    sizes = sorted({TENSOR_TYPES[name].block for name in reachable_types(mix)} - {1}, reverse=True)
    assert all(large % small == 0 for large, small in itertools.pairwise(sizes))
    return tuple(sizes)


@functools.lru_cache(maxsize=4096)
def _by_level(mix: Mix, name: str, values: Values) -> np.ndarray:
    """The value [levels] of the type that `name` becomes at each level of row length."""
    table = dict(values)
    return np.array(
        [table.get(resolved(name, columns).name, 0.0) for columns in (*_level_columns(mix), 1)]
    )


@functools.lru_cache(maxsize=256)
def _by_layers_and_level(
    mix: Mix, role: Role, values: Values, depths: tuple[int, ...]
) -> np.ndarray:
    """Values summed over the layers, flat: depths x 3 kinds of grouping x levels."""
    found = [
        sum(
            (
                count * _by_level(mix, name, values)
                for name, count in _counts(mix, role, n_layers, grouping).items()
            ),
            np.zeros(len(_level_columns(mix)) + 1),
        )
        for n_layers in depths
        for grouping in range(3)
    ]
    return np.concatenate([np.zeros(0), *found])


@functools.lru_cache(maxsize=16384)
def _counts(mix: Mix, role: Role, n_layers: int, grouping: int) -> dict[str, int]:
    context = LayerContext(n_layers=n_layers, four_query_heads=grouping == 2, grouped=grouping > 0)
    found: dict[str, int] = {}
    for layer in range(n_layers):
        name = mix.block_type(role, layer, context)
        found[name] = found.get(name, 0) + 1
    return found
