"""Weights as a type stores them: for measuring what a type costs, and for training with it.

A matrix is rounded in rows of what one output is made of, as files keep it. Matrices that read the
same input are one here; with rows that are a whole number of blocks that changes nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shapelaw.scaling.formats.quantisers import rounded
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

Parameters = Any  # a pytree of arrays

TRAINED_TYPES: dict[str, str] = {"int4_g32": "int4_g32_f32"}
"""Formats that training can round to, and the tensor type of each."""
INT4_LARGEST = 7.5
"""Levels -8 .. 7: the greatest magnitude of a group lies half a level above the last."""
EMBEDDING = "embedding_VxD"


def rounded_parameters(parameters: Parameters, type_name: str) -> Parameters:
    """The tree with every matrix as the type would give it back; gains stay as they are.

    Args:
        parameters: of one model, a tree of arrays.
        type_name: one of `TENSOR_TYPES`.
    """

    def one(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        values = np.asarray(leaf, np.float32)
        is_embedding = EMBEDDING in jax.tree_util.keystr(path)
        if values.ndim < 2:
            return values
        rows = values if is_embedding else values.T
        found = rounded(rows, type_name, across_rows=True)
        return np.ascontiguousarray(found if is_embedding else found.T)

    return jax.tree_util.tree_map_with_path(one, parameters)


def straight_through(parameters: Parameters, weight_format: str) -> Parameters:
    """The tree with every matrix rounded, whose derivative is that of the tree itself.

    Straight-through estimation (arXiv 1308.3432): w + constant(rounded(w) - w).
    """
    type_name = TRAINED_TYPES[weight_format]

    def one(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if leaf.ndim < 2:
            return leaf
        rows = leaf if EMBEDDING in jax.tree_util.keystr(path) else leaf.T
        found = _int4(rows, TENSOR_TYPES[type_name].block)
        found = found if rows is leaf else found.T
        return leaf + jax.lax.stop_gradient(found - leaf)

    return jax.tree_util.tree_map_with_path(one, parameters)


def _int4(rows: jax.Array, group: int) -> jax.Array:
    """Four bits and a scale a group, as `scaling.formats.group_quants.symmetric` rounds.

    A negative entry that is the greatest of its group lies halfway between the last two levels, as
    far from one as from the other: compiled, it may take the one that the host does not.
    """
    flat = rows.reshape(-1)
    parts = jnp.pad(flat, (0, -flat.size % group)).reshape(-1, group)
    largest = jnp.max(jnp.abs(parts), axis=1, keepdims=True)
    scale = jnp.maximum(largest / INT4_LARGEST, np.finfo(np.float32).eps)
    level = jnp.clip(jnp.round(parts * (1.0 / scale)), -8, 7)
    return (level * scale).reshape(-1)[: flat.size].reshape(rows.shape)
