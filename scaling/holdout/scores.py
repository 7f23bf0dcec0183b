"""Scores of predicted against observed log losses."""

import numpy as np

from shapelaw.scaling.bound_form import Array


def ranks(values: Array) -> Array:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]


def spearman(first: Array, second: Array) -> float | None:
    """Rank correlation; None where one of them does not vary or there are fewer than two."""
    if len(first) < 2:
        return None
    a, b = ranks(np.round(first, 12)), ranks(np.round(second, 12))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else None


def scores(predicted: Array, observed: Array) -> dict[str, float | None]:
    """Mean absolute log error, mean log error (predicted − observed) and rank correlation."""
    error = predicted - observed
    return {
        "mean_abs_log": float(np.abs(error).mean()),
        "bias_log": float(error.mean()),
        "spearman": spearman(predicted, observed),
    }


def matched_spearman(predicted: Array, observed: Array, log_n: Array, log_d: Array) -> float | None:
    """Rank correlation at fixed N and D: mean over groups of rows within 15 % in N and 5 % in D.

    Groups of fewer than three rows say nothing and are left out; None where none is left.
    """
    keys = np.stack([np.round(log_n / 0.3), np.round(log_d / 0.1)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    found = []
    for number in range(int(group.max(initial=-1)) + 1):
        rows = group.ravel() == number
        if rows.sum() >= 3:
            value = spearman(predicted[rows], observed[rows])
            if value is not None:
                found.append((value, int(rows.sum())))
    if not found:
        return None
    return float(sum(v * w for v, w in found) / sum(w for _, w in found))
