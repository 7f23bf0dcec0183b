"""Which rows of a table belong together: checkpoints along a run, and whether schedules ended.

Rows of one run are correlated: they are resampled and held out together (arXiv 2502.06857 shows
what leaving rows out instead of shapes hides). Where no column names the run, tokens that rise
within equal N and shape tell it.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from shapelaw.scaling.run_table import RunTable, equal_rows, numbered

MANY_ROWS = 5
"""Rows of one N and shape, in the median, beyond which rising tokens look like checkpoints."""
EVENLY_SPACED_ROWS = 4
EVEN = 0.05
"""Relative spread of the steps in D up to which they are evenly spaced."""
STEEPER = 1.25
"""Times as fast that a decayed schedule's loss falls at its end as before; below 1 at a constant
learning rate, where ln loss is convex in ln D."""


def with_runs(table: RunTable, named: bool, step: np.ndarray | None) -> RunTable:
    """The table with its rows grouped into runs, and what was found said in its remarks.

    Args:
        table: `run` as a column gave it where `named`; otherwise one name a row.
        step: a column of training steps [rows], where there is one.
    """
    if not len(table):
        return table
    if named:
        names = np.unique(table.run)
        if len(names) == 1 and len(table) > 1:
            found = _by_shape(dataclasses.replace(table, run=_each_row(len(table))), step)
            return said(
                found,
                f"all rows have the run name {str(names[0])[:40]!r}: one name is no "
                "clustering and is not used",
            )
        return _with_schedule(table, step)
    return _by_shape(table, step)


def said(table: RunTable, *remarks: str) -> RunTable:
    """The table with these remarks added."""
    return dataclasses.replace(table, remarks=(*table.remarks, *remarks))


def _each_row(rows: int) -> np.ndarray:
    return np.array([f"row {row + 1}" for row in range(rows)])


def _by_shape(table: RunTable, step: np.ndarray | None) -> RunTable:
    """Runs from N and shape: checkpoints where the tokens say so, else rows of one shape."""
    group, first = equal_rows([table.n, *(table.shape[name] for name in sorted(table.shape))])
    if len(first) == 1 or len(first) == len(table):
        return table
    named = np.array([f"shape {number + 1}" for number in range(len(first))])[group]
    grouped = dataclasses.replace(table, run=named)
    sizes = np.bincount(group)
    rising = _share(grouped, lambda rows: bool(np.all(np.diff(table.d[rows]) > 0)))
    even = _share(grouped, lambda rows: _evenly_spaced(np.sort(table.d[rows])))
    typical = float(np.median(sizes))
    stepped = (
        step is not None
        and _share(grouped, lambda rows: bool(np.all(np.diff(step[rows]) > 0))) > 0.5
        and typical >= 2
    )
    if stepped or (even > 0.5 and typical >= EVENLY_SPACED_ROWS):
        return _with_schedule(grouped, step)
    if rising > 0.5 and typical > MANY_ROWS:
        return said(
            grouped,
            f"tokens rise within equal N{' and shape' if table.shape else ''}: the "
            f"{len(table)} rows are taken as checkpoints along {len(first)} runs, resampled "
            "and held out together; a run column (--columns run=NAME) says otherwise",
        )
    return grouped if table.shape else table


def _share(table: RunTable, holds: Callable[[np.ndarray], bool]) -> float:
    """Share of the runs of several rows for which `holds(rows)` is true."""
    answers = [holds(rows) for rows in run_rows(table) if len(rows) > 1]
    return float(np.mean(answers)) if answers else 0.0


def run_rows(table: RunTable) -> list[np.ndarray]:
    """The rows of each run, in the order of the table."""
    number = numbered(table.run)
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _evenly_spaced(tokens: np.ndarray) -> bool:
    steps = np.diff(tokens)
    return bool(
        len(steps) >= 2
        and steps.min() > 0
        and steps.max() - steps.min() <= 2 * EVEN * np.median(steps)
    )


def _with_schedule(table: RunTable, step: np.ndarray | None) -> RunTable:
    """Remarks on runs of several rows: that they are checkpoints, and how their schedules end."""
    runs = [rows for rows in run_rows(table) if len(rows) > 1]
    along = [
        rows
        for rows in runs
        if len(np.unique(table.n[rows])) == 1 and len(np.unique(table.d[rows])) == len(rows)
    ]
    if len(along) < 0.5 * max(1, len(runs)) or not along:
        return table
    rows = sum(map(len, along))
    remarks = [
        f"{rows} rows are checkpoints along {len(along)} runs (tokens rise within a run): "
        "they are resampled and held out together"
    ]
    mid_run = step is not None or any(_evenly_spaced(np.sort(table.d[r])) for r in along)
    if not mid_run or not np.isfinite(table.loss).all():
        return said(table, *remarks)
    steeper = [
        ratio for r in along if (ratio := _steepening(table.d[r], table.loss[r])) is not None
    ]
    if not steeper:
        ending = "too few rows a run to see whether the schedules end"
    elif float(np.median(steeper)) > STEEPER:
        ending = (
            "losses fall faster at the end of a run, as where the learning rate decays: only "
            "the last row of each run is a final loss; keep those for a law of final losses"
        )
    else:
        ending = (
            "no drop at the end of the runs: a constant learning rate, or a decay that does "
            "not show"
        )
    return said(
        table,
        *remarks,
        "checkpoints of one schedule are not final losses: they lie above "
        f"what a schedule ended at that point would reach ({ending})",
    )


def _steepening(d: np.ndarray, loss: np.ndarray) -> float | None:
    """How many times as fast ln loss falls, per ln D, in a run's last fifth as before it.

    None with fewer than six rows beyond a third of the run, or a loss that does not fall before.
    """
    order = np.argsort(d)
    d, loss = d[order], loss[order]
    late = d >= d[-1] / 3
    d, loss = d[late], loss[late]
    if len(d) < 6:
        return None
    end = d >= 0.8 * d[-1]
    end[-3:] = True
    before = _slope(d[~end], loss[~end])
    if before is None or before >= -1e-6:
        return None
    after = _slope(d[end], loss[end])
    return None if after is None else after / before


def _slope(d: np.ndarray, loss: np.ndarray) -> float | None:
    if len(d) < 3:
        return None
    return float(np.polyfit(np.log(d), np.log(loss), 1)[0])
