"""How fast a law's error grows as it leaves its runs, measured inside the table.

Forms are fitted to the smaller runs and predict the larger ones (`holdout.splits.rolled_forward`).
Each such block gives one estimate of γ² in

    error² = between² + noise² + γ²·h²

with h the distance from the block's training runs in spans of them (`extrapolation.distance`) and
`between` the spread of the stack's members. The rows of a block err together, so a block is worth
one degree of freedom; a prior of γ = USUAL·noise is worth PRIOR_BLOCKS more. USUAL was measured on
published run tables without their largest runs (`benchmarks.tables`).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.extrapolation import Drift, distance, size_range
from shapelaw.scaling.holdout.splits import Split, rolled_forward
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terms import Form
from shapelaw.scaling.uncertainty.bootstrap import NoiseModel
from shapelaw.scaling.uncertainty.sandwich import NORMAL

USUAL = 5.0
PRIOR_BLOCKS = 2.0
_QUANTILES = 41
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
    from scipy.special import stdtrit

    log_n, log_d = np.log(table.n), np.log(table.d)
    total, freedom = PRIOR_BLOCKS * (USUAL * usual) ** 2, PRIOR_BLOCKS
    for train, test, error, between in blocks:
        seen = size_range(log_n[train], log_d[train])
        away = distance(log_n[test], log_d[test], seen) ** 2
        outside = away > 1e-12
        if not outside.any():
            continue
        excess = error**2 - between - noise[test] ** 2
        total += max(0.0, float(excess[outside].sum() / away[outside].sum()))
        freedom += 1
    spread = np.sqrt(total / freedom)
    picks = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles = spread * stdtrit(max(freedom, _LEAST_FREEDOM), picks)
    return Drift(quantiles, size_range(np.log(range_of.n), np.log(range_of.d)))
