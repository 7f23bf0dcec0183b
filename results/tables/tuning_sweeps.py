"""Sweeps over settings that a law does not model: of several runs at one N, D and shape, the best.

A law is about runs trained well. Where a table holds many learning rates or batches at one point,
the middle of them would be fitted otherwise. Repeated seeds are not a sweep: the best of them would
be luck, so they stay.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shapelaw.results.tables.checkpoints import said
from shapelaw.results.tables.column_names import SEEDS, TUNED, find, spellings
from shapelaw.scaling.run_table import RunTable, equal_rows

SAME_TOKENS = 0.01
"""Relative difference in D up to which runs of several batches count as of equal tokens."""
UNNAMED_ROWS = 3
UNNAMED_SPREAD = 0.03
"""Spread of losses at one point, relative, beyond that of seeds: several settings, unnamed."""


def best_of_sweeps(
    table: RunTable, cells: Mapping[str, Sequence[Any]], rows: np.ndarray
) -> RunTable:
    """The table with the best row of each sweep, and what was done said in its remarks.

    Args:
        table: the runs.
        cells: all columns of the file.
        rows: the file's rows that the table holds.
    """
    tuned = [name for name in cells if any(s in TUNED for s in spellings(name))]
    settings = {name: _codes(cells[name], rows) for name in tuned}
    seed = find(cells, SEEDS)
    point = _points(
        table, None if seed is None else _codes(cells[seed], rows), SAME_TOKENS if settings else 0.0
    )
    varied = [name for name, codes in settings.items() if _varies_within(codes, point)]
    counts = np.bincount(point)
    if not varied and not _unnamed_sweep(table.loss, point, counts):
        return table
    if counts.max() == 1:
        return table
    order = np.lexsort((table.loss, point))
    first = np.append(True, np.diff(point[order]) > 0)
    best = np.sort(order[first])
    what = (
        f"over {', '.join(repr(name) for name in varied[:4])}"
        if varied
        else "of a setting that no column names"
    )
    return said(
        table.take(best),
        f"{len(table)} rows hold a sweep {what} at equal N, D and shape: "
        f"the best loss at each of the {len(best)} points is kept",
    )


def _codes(values: Sequence[Any], rows: np.ndarray) -> np.ndarray:
    """The column's values as whole numbers [rows]; equal values are equal numbers."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(str(values[row]), len(known)) for row in rows])


def _points(table: RunTable, seed: np.ndarray | None, tolerance: float) -> np.ndarray:
    """Number of each row's point: equal N, shape and seed, and D within the tolerance."""
    keys = [table.n, *(table.shape[name] for name in sorted(table.shape))]
    if seed is not None:
        keys.append(seed.astype(float))
    group, _ = equal_rows(keys)
    order = np.lexsort((table.d, group))
    tokens = table.d[order]
    fresh = np.append(
        True, (np.diff(group[order]) > 0) | (tokens[1:] > tokens[:-1] * (1 + tolerance))
    )
    point = np.empty(len(table), dtype=np.int64)
    point[order] = np.cumsum(fresh) - 1
    return point


def _varies_within(codes: np.ndarray, point: np.ndarray) -> bool:
    """Whether the setting has several values within some points."""
    return len(equal_rows([point, codes])[1]) > len(np.unique(point))


def _unnamed_sweep(loss: np.ndarray, point: np.ndarray, counts: np.ndarray) -> bool:
    if np.median(counts) < UNNAMED_ROWS:
        return False
    low = np.full(len(counts), np.inf)
    high = np.full(len(counts), -np.inf)
    np.minimum.at(low, point, loss)
    np.maximum.at(high, point, loss)
    return float(np.median(high / low - 1)) > UNNAMED_SPREAD
