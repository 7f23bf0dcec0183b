"""Every form fitted below the held-out size and asked about it."""

import dataclasses
from typing import NamedTuple

import numpy as np

from shapelaw.scaling.estimate import estimate_law
from shapelaw.scaling.fit import HUBER, Fit, fit_law
from shapelaw.scaling.forms import FORMS
from shapelaw.scaling.holdout.scores import spearman
from shapelaw.scaling.run_table import RunTable

BOOTSTRAP = 400


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """How one law did on the size it never saw."""

    form: str
    mean_abs_log: float
    """Of single runs: even a perfect law is off by their noise."""
    mean_abs_log_of_means: float
    """Of the mean over seeds of each shape and budget."""
    bias_log: float
    rank: float | None
    """Spearman among shapes at fixed N and D, mean over budgets."""
    rank_interval: tuple[float, float] | None
    """90 % interval, by resampling the shapes."""
    coverage: float
    """Share of held-out runs inside their 90 % prediction interval."""
    fit: Fit


def _group_ranks(predicted: np.ndarray, observed: np.ndarray, budget: np.ndarray) -> float | None:
    values = [
        spearman(predicted[budget == one], observed[budget == one]) for one in np.unique(budget)
    ]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


class Means(NamedTuple):
    """The held-out runs with the seeds of a shape and budget averaged; all [m]."""

    predicted: np.ndarray
    observed: np.ndarray
    """Mean ln loss."""
    shape: np.ndarray
    """Number of the shape."""
    budget: np.ndarray
    """Training tokens."""


def mean_over_seeds(predicted: np.ndarray, table: RunTable) -> Means:
    """One point for each shape and budget."""
    columns = np.stack([table.shape[name] for name in sorted(table.shape)], axis=1)
    _, shape = np.unique(columns, axis=0, return_inverse=True)
    keys, inverse = np.unique(
        np.stack([shape.ravel(), table.d], axis=1), axis=0, return_inverse=True
    )
    counts = np.bincount(inverse.ravel())
    return Means(
        predicted=np.bincount(inverse.ravel(), np.log(predicted)) / counts,
        observed=np.bincount(inverse.ravel(), np.log(table.loss)) / counts,
        shape=keys[:, 0],
        budget=keys[:, 1],
    )


def rank_at_fixed_size(
    means: Means, draws: int = 1000
) -> tuple[float | None, tuple[float, float] | None]:
    """Spearman among the held-out shapes at each token budget, and its interval.

    The interval resamples shapes, since the budgets of one shape share a trunk.
    """
    found = _group_ranks(means.predicted, means.observed, means.budget)
    if found is None:
        return None, None
    generator = np.random.default_rng(0)
    names = np.unique(means.shape)
    values = []
    for _ in range(draws):
        picked = generator.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(means.shape == name) for name in picked])
        value = _group_ranks(means.predicted[rows], means.observed[rows], means.budget[rows])
        if value is not None:
            values.append(value)
    low, high = np.quantile(values, [0.05, 0.95])
    return found, (float(low), float(high))


def ask(fit: Fit, table: RunTable) -> HeldOut:
    """One fitted law, asked about the held-out size."""
    answer = fit.law.predict_table(table)
    predicted = np.array([row["loss"] for row in answer["rows"]])
    low, high = np.array([row["interval"] for row in answer["rows"]]).T
    error = np.log(predicted / table.loss)
    means = mean_over_seeds(predicted, table)
    rank, interval = rank_at_fixed_size(means)
    return HeldOut(
        form=fit.law.form,
        mean_abs_log=float(np.abs(error).mean()),
        mean_abs_log_of_means=float(np.abs(means.predicted - means.observed).mean()),
        bias_log=float(error.mean()),
        rank=rank,
        rank_interval=interval,
        coverage=float(np.mean((low <= table.loss) & (table.loss <= high))),
        fit=fit,
    )


def compare(fitted: RunTable, held_out: RunTable) -> tuple[list[HeldOut], str]:
    """All forms, and which of them `auto` takes."""
    chosen = estimate_law(fitted, "auto", bootstrap=0, delta=HUBER, holdout=False).law.form
    return [
        ask(fit_law(fitted, form=name, bootstrap=BOOTSTRAP, holdout=False), held_out)
        for name in FORMS
    ], chosen
