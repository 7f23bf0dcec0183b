"""How much of a working set that is read over and over a cache still holds.

A cache that evicts at random and is swept cyclically by a working set w times its size keeps the
share h that solves h = exp(−(1 − h)·w): between two reads of a line (1 − h)·w·lines misses each
evict one line at random. h = 1 up to w = 1, .42 at w = 1.5, .20 at 2, .02 at 4: neither the cliff
of strict LRU nor a line. Real caches lie close because their replacement is not strict.
"""

import functools

import numpy as np

LARGEST = 40.0
"""Beyond this many times the cache's size nothing is left (h < 1e-17)."""


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray]:
    """h on a grid of w, by Newton's method from the left of the smaller root."""
    w = np.concatenate([np.linspace(1.0, 1.2, 400), np.geomspace(1.2, LARGEST, 1200)[1:]])
    h = np.exp(-w)
    for _ in range(200):
        value = np.exp(-(1 - h) * w)
        slope = w * value - 1
        step = np.where(np.abs(slope) > 1e-9, (value - h) / np.where(slope == 0, 1, slope), 0.0)
        h = np.clip(h - step, 0.0, 1.0)
    h[0] = 1.0
    return w, np.minimum.accumulate(h)


def resident_share(working_set: np.ndarray, capacity: float) -> np.ndarray:
    """Share of the bytes found in the cache at each sweep. [n] bytes and bytes -> [n] in 0..1."""
    w, h = _table()
    return np.interp(working_set / capacity, w, h, left=1.0, right=0.0)
