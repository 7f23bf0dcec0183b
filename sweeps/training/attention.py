"""Causal attention that looks only where it may, with its own derivative.

Queries are taken in chunks; each chunk is multiplied with the keys it can see and no others, which
saves up to half of the work (more under a window). The derivative keeps the unnormalised weights
and normalises the narrow output instead of the wide scores, which halves the passes over T × T
numbers that bound a small model on a CPU; slopes of keys and values are made with positions
innermost, so that no T × T matrix is ever transposed. All this leaves the result what it was, up
to rounding.

Axes: B batch, K key-value heads, G query heads per key-value head, Q queries, S keys, E head_dim.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_CONSTANT_MASK = 2048
"""Keys; 16 MB."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def causal_attention(
    query_BxKxGxTxE: jax.Array,
    key_BxKxTxE: jax.Array,
    value_BxKxTxE: jax.Array,
    window: int | None = None,
    chunk: int | None = None,
) -> jax.Array:
    """softmax(query · key) · value where key ≤ query, and query − key < window: [B, K, G, T, E].

    Queries are expected scaled by 1/√E. Scores and softmax are float32 whatever comes in.

    Args:
        window: how far back a position sees, itself included; None: to the beginning.
        chunk: queries at a time; None: all at once, the whole T × T matrix.
    """
    return _forward(query_BxKxGxTxE, key_BxKxTxE, value_BxKxTxE, window, chunk)[0]


def _chunks(length: int, window: int | None, chunk: int | None) -> Iterator[tuple[int, int, int]]:
    """(first query, end of the queries, oldest key seen) of each chunk."""
    for first in range(0, length, chunk or length):
        end = min(length, first + (chunk or length))
        oldest = 0 if window is None or chunk is None else max(0, first - window + 1)
        yield first, end, oldest


def _mask(first: int, end: int, oldest: int, window: int | None) -> jax.Array:
    """[Q, S] of queries first..end-1 and keys oldest..end-1: 0 where seen, else very negative."""
    # A small mask is a constant of the program; a large one is cheaper to compute than to carry.
    library = np if end - oldest <= LARGEST_CONSTANT_MASK else jnp
    query, key = library.arange(first, end)[:, None], library.arange(oldest, end)[None, :]
    seen = key <= query
    if window is not None:
        seen = seen & (query - key < window)
    return jnp.asarray(library.where(seen, 0.0, -1e30), jnp.float32)


Saved = tuple[jax.Array, jax.Array, jax.Array, list[jax.Array], jax.Array, jax.Array]


def _forward(
    query: jax.Array, key: jax.Array, value: jax.Array, window: int | None, chunk: int | None
) -> tuple[jax.Array, Saved]:
    """The mixed values, and what the derivative needs."""
    all_weights, totals, outputs = [], [], []
    for first, end, oldest in _chunks(query.shape[3], window, chunk):
        scores = jnp.einsum(
            "bkgqe,bkse->bkgqs",
            query[:, :, :, first:end],
            key[:, :, oldest:end],
            preferred_element_type=jnp.float32,
        )
        scores = scores + _mask(first, end, oldest, window)[None, None, None]
        weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights.astype(query.dtype)
        mixed = jnp.einsum(
            "bkgqs,bkse->bkgqe",
            weights,
            value[:, :, oldest:end],
            preferred_element_type=jnp.float32,
        )
        all_weights.append(weights)
        totals.append(total)
        outputs.append(mixed / total)
    mixed, total = jnp.concatenate(outputs, axis=3), jnp.concatenate(totals, axis=3)
    return mixed.astype(query.dtype), (query, key, value, all_weights, total, mixed)


def _backward(
    window: int | None, chunk: int | None, saved: Saved, slope: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """With w = exp(s), o = w·v/Σw and ō the slope on o: s̄ = w ∘ (ō·v/Σw − ō·o/Σw)."""
    query, key, value, all_weights, total, mixed = saved
    narrow = slope.astype(jnp.float32) / total
    along = jnp.sum(narrow * mixed, axis=-1, keepdims=True)
    narrow = narrow.astype(query.dtype)
    length = query.shape[3]
    query_slopes = []
    key_slope_BxKxExT = value_slope_BxKxExT = jnp.zeros((), query.dtype)
    for weights, (first, end, oldest) in zip(
        all_weights, _chunks(length, window, chunk), strict=True
    ):
        here = narrow[:, :, :, first:end]
        score_slope = jnp.einsum(
            "bkgqe,bkse->bkgqs", here, value[:, :, oldest:end], preferred_element_type=jnp.float32
        )
        score_slope = weights * (score_slope - along[:, :, :, first:end])
        score_slope = score_slope.astype(query.dtype)
        query_slopes.append(jnp.einsum("bkgqs,bkse->bkgqe", score_slope, key[:, :, oldest:end]))
        around = ((0, 0), (0, 0), (0, 0), (oldest, length - end))
        key_slope_BxKxExT += jnp.pad(
            jnp.einsum("bkgqe,bkgqs->bkes", query[:, :, :, first:end], score_slope), around
        )
        value_slope_BxKxExT += jnp.pad(jnp.einsum("bkgqe,bkgqs->bkes", here, weights), around)
    return (
        jnp.concatenate(query_slopes, axis=3),
        key_slope_BxKxExT.swapaxes(2, 3),
        value_slope_BxKxExT.swapaxes(2, 3),
    )


causal_attention.defvjp(_forward, _backward)
