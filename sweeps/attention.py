"""Causal attention that looks only where it may, with its own derivative.

Queries are taken in chunks; each chunk is multiplied with the keys it can see and no others, which
saves nearly half of the work (more under a window). The derivative keeps the unnormalised weights
and normalises the narrow output instead of the wide scores, which halves the passes over T × T
numbers that bound a small model on a CPU. Both leave the result what it was, up to rounding.

Axes: B batch, K key-value heads, G query heads per key-value head, Q queries, S keys, E head_dim.
"""

import jax
import jax.numpy as jnp
import numpy as np

LARGEST_CONSTANT_MASK = 2048
"""Keys; 16 MB."""


def causal_attention(
    query_BxKxGxTxE: jax.Array, key_BxKxTxE: jax.Array, value_BxKxTxE: jax.Array,
    *, window: int | None = None, chunk: int | None = None,
) -> jax.Array:
    """softmax(query · key) · value where key ≤ query, and query − key < window: [B, K, G, T, E].

    Queries are expected scaled by 1/√E. Scores and softmax are float32 whatever comes in.

    Args:
        window: how far back a position sees, itself included; None: to the beginning.
        chunk: queries at a time; None: all at once, the whole T × T matrix.
    """
    length = query_BxKxGxTxE.shape[3]
    mixed = []
    for first in range(0, length, chunk or length):
        end = min(length, first + (chunk or length))
        oldest = 0 if window is None or chunk is None else max(0, first - window + 1)
        mask_QxS = _mask(first, end, oldest, window)
        mixed.append(_attend(
            query_BxKxGxTxE[:, :, :, first:end], key_BxKxTxE[:, :, oldest:end],
            value_BxKxTxE[:, :, oldest:end], mask_QxS,
        ))
    return mixed[0] if len(mixed) == 1 else jnp.concatenate(mixed, axis=3)


def _mask(first: int, end: int, oldest: int, window: int | None) -> jax.Array:
    """[Q, S] of queries first..end-1 and keys oldest..end-1: 0 where seen, else very negative."""
    # A small mask is a constant of the program; a large one is cheaper to compute than to carry.
    library = np if end - oldest <= LARGEST_CONSTANT_MASK else jnp
    query, key = library.arange(first, end)[:, None], library.arange(oldest, end)[None, :]
    seen = key <= query
    if window is not None:
        seen = seen & (query - key < window)
    return jnp.asarray(library.where(seen, 0.0, -1e30), jnp.float32)


@jax.custom_vjp
def _attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """Attention of [B, K, G, Q, E] over [B, K, S, E] under an additive mask [Q, S]."""
    return _forward(query, key, value, mask)[0]


Saved = tuple[jax.Array, ...]


def _forward(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array
) -> tuple[jax.Array, Saved]:
    scores = jnp.einsum("bkgqe,bkse->bkgqs", query, key, preferred_element_type=jnp.float32)
    scores = scores + mask[None, None, None]
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(query.dtype)
    mixed = jnp.einsum("bkgqs,bkse->bkgqe", weights, value, preferred_element_type=jnp.float32)
    mixed = mixed / total
    return mixed.astype(query.dtype), (query, key, value, weights, total, mixed)


def _backward(saved: Saved, slope: jax.Array) -> tuple[jax.Array, ...]:
    """With w = exp(s), o = w·v/Σw and ō the slope on o: s̄ = w ∘ (ō·v/Σw − ō·o/Σw)."""
    query, key, value, weights, total, mixed = saved
    narrow = slope.astype(jnp.float32) / total
    along = jnp.sum(narrow * mixed, axis=-1, keepdims=True)
    narrow = narrow.astype(query.dtype)
    value_slope = jnp.einsum("bkgqs,bkgqe->bkse", weights, narrow)
    score_slope = jnp.einsum("bkgqe,bkse->bkgqs", narrow, value,
                             preferred_element_type=jnp.float32)
    score_slope = (weights * (score_slope - along)).astype(query.dtype)
    query_slope = jnp.einsum("bkgqs,bkse->bkgqe", score_slope, key)
    key_slope = jnp.einsum("bkgqs,bkgqe->bkse", score_slope, query)
    rows, columns = weights.shape[-2:]
    return query_slope, key_slope, value_slope, jnp.zeros((rows, columns), jnp.float32)


_attend.defvjp(_forward, _backward)
