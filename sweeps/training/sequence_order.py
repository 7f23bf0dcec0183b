"""The order of the text: which sequence a run reads at which place, by its seed alone.

Every shape of a seed reads the same sequences in the same order, whatever its batch; a smaller
budget reads a prefix of what a larger one reads. Each epoch is its own permutation.
"""

import numpy as np

_ROUNDS = 6
_ONE = np.uint64(1)


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every input bit moves every output bit."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permuted(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where `places` [n] in 0..size-1 go under the permutation of 0..size-1 that `key` names.

    A Feistel network over the next power of four, walked until it lands inside: no table, so a
    corpus of any size costs nothing to shuffle, and the same everywhere.
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    mask = (_ONE << half) - _ONE
    values = places.astype(np.uint64)
    waiting = np.ones(len(values), dtype=bool)
    # As array arithmetic: scalars would warn where 64-bit multiplication wraps, as it is meant to.
    keys = _mixed(
        np.array([key], dtype=np.uint64) * np.uint64(_ROUNDS) + np.arange(_ROUNDS, dtype=np.uint64)
    )
    while waiting.any():
        left, right = values[waiting] >> half, values[waiting] & mask
        for round_key in keys:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        values[waiting] = (left << half) | right
        waiting = values >= size
    return values.astype(np.int64)


def sequences(
    train: np.ndarray, seed: int, first: int, count: int, sequence_length: int
) -> np.ndarray:
    """Sequences number `first` to `first + count - 1` of a seed: [count, sequence_length + 1].

    One token more than the length, so that each has its next one as target.
    """
    windows = (len(train) - 1) // sequence_length
    numbers = np.arange(first, first + count, dtype=np.int64)
    epochs = numbers // windows
    starts = np.empty_like(numbers)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        key = int(_mixed(np.array([seed], dtype=np.int64).astype(np.uint64))[0]) + int(epoch)
        starts[here] = permuted(numbers[here] % windows, windows, key % 2**64)
    starts *= sequence_length
    return np.asarray(train[starts[:, None] + np.arange(sequence_length + 1)])
