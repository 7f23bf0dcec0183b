"""How fast a law's error grows as it leaves its runs, measured inside the table.

Forms are fitted to the smaller runs and predict the larger ones (`holdout.splits.rolled_forward`).
Each such block gives one estimate of γ² in

    error² = between² + noise² + γ²·h² + δ²·k²

with h and k the distances of sizes and of budgets from the block's training runs, in spans of them
(`extrapolation.distances`), and `between` the spread of the stack's members. Rows of sizes that
were trained on tell δ, the others then γ. The rows of a block err together, so a block is worth one
degree of freedom; a prior of γ = USUAL·noise is worth PRIOR_BLOCKS more. What is usual was measured
on published run tables without their largest runs (`benchmarks.tables`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.extrapolation import Drift, distances, size_range
from shapelaw.scaling.holdout.splits import Split, rolled_forward
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terms import Form
from shapelaw.scaling.uncertainty.bootstrap import NoiseModel
from shapelaw.scaling.uncertainty.sandwich import NORMAL

USUAL_SIZES, USUAL_BUDGETS = 5.0, 3.0
PRIOR_BLOCKS = 2.0
_QUANTILES = 41
_INSIDE = 1e-6  # spans; rounding
_LEAST_FREEDOM = 3.0  # of Student's deviate: fewer have no variance


class Weighted(Protocol):
    """What is needed of a fitted form of a law."""

    @property
    def form(self) -> Form: ...
    @property
    def weight(self) -> float: ...


def drift_of(
    table: RunTable,
    rehearsal: RunTable,
    splits: Sequence[Split],
    predictions: Mapping[str, Mapping[str, Array]],
    members: Sequence[Weighted],
    noise: NoiseModel,
    trend: NoiseTrend,
) -> Drift:
    """The drift of a law fitted to `table`.

    Args:
        rehearsal: the table, or some of its rows, that the splits refer to.
        splits: those of `rolled_forward` are used, the others ignored.
        predictions: form -> split -> predicted ln L of the tested rows, NaN elsewhere.
        members: the law's forms.
        noise: of a typical run.
        trend: how the noise of a run changes with N and D.
    """
    names = {split.name for split in rolled_forward(rehearsal)}
    log_loss = np.log(rehearsal.loss)
    typical = noise.half_width / NORMAL
    each = typical * trend.scale({"ln_n": np.log(rehearsal.n), "ln_d": np.log(rehearsal.d)})
    blocks = []
    for split in splits:
        if split.name not in names or any(
            split.name not in predictions.get(one.form.name, {}) for one in members
        ):
            continue
        test = split.test[0]
        several = np.stack([predictions[one.form.name][split.name][test] for one in members])
        weights = np.array([one.weight for one in members])
        middle = weights @ several
        between = weights @ (several - middle) ** 2
        blocks.append((split.train[0], test, log_loss[test] - middle, between))
    return measured_drift(rehearsal, blocks, each, typical, table)


def measured_drift(
    table: RunTable,
    blocks: list[tuple[Array, Array, Array, Array]],
    noise: Array,
    usual: float,
    range_of: RunTable,
) -> Drift:
    """The drift of a law beyond the rows of `range_of`.

    Args:
        table: what the blocks' rows refer to.
        blocks: of each, masks of the rows trained on and tested, and for the tested rows the error
            ln(observed / predicted) and the variance between members.
        noise: standard deviation of each row's noise [rows].
        usual: the same at large.
    """
    log_n, log_d = np.log(table.n), np.log(table.d)
    away = [
        distances(log_n[test], log_d[test], size_range(log_n[train], log_d[train]))
        for train, test, _, _ in blocks
    ]
    excess = [error**2 - between - noise[test] ** 2 for _, test, error, between in blocks]
    of_budgets = [
        _slope(rest, far, (sizes < _INSIDE) & (far > _INSIDE))
        for rest, (sizes, far) in zip(excess, away, strict=True)
    ]
    budgets, budgets_freedom = _pooled(of_budgets, USUAL_BUDGETS * usual)
    of_sizes = [
        _slope(rest - budgets * far**2, sizes, sizes > _INSIDE)
        for rest, (sizes, far) in zip(excess, away, strict=True)
    ]
    sizes, sizes_freedom = _pooled(of_sizes, USUAL_SIZES * usual)
    return Drift(
        _quantiles_of(sizes, sizes_freedom),
        _quantiles_of(budgets, budgets_freedom),
        size_range(np.log(range_of.n), np.log(range_of.d)),
    )


def _slope(excess: Array, away: Array, rows: Array) -> float | None:
    """The square of the error a span, over some rows of a block; None without any."""
    if not rows.any():
        return None
    return max(0.0, float(excess[rows].sum() / (away[rows] ** 2).sum()))


def _pooled(slopes: list[float | None], usual: float) -> tuple[float, float]:
    """Mean square of blocks and prior, and its degrees of freedom."""
    known = [slope for slope in slopes if slope is not None]
    freedom = PRIOR_BLOCKS + len(known)
    return (PRIOR_BLOCKS * usual**2 + sum(known)) / freedom, freedom


def _quantiles_of(square: float, freedom: float) -> Array:
    from scipy.special import stdtrit

    picks = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles: Array = np.sqrt(square) * stdtrit(max(freedom, _LEAST_FREEDOM), picks)
    return quantiles
