"""Every form fitted below the held-out size and asked about it."""

import dataclasses

import numpy as np

from scaling.fit import Fit, fit_law
from scaling.forms import FORMS
from scaling.scores import spearman
from scaling.table import RunTable

BOOTSTRAP = 400


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """How one law did on the size it never saw."""

    form: str
    mean_abs_log: float
    bias_log: float
    rank: float | None
    """Spearman among shapes at fixed N and D, mean over budgets."""
    rank_interval: tuple[float, float] | None
    """90 % interval, by resampling the shapes."""
    coverage: float
    """Share of held-out runs inside their 90 % prediction interval."""
    fit: Fit


def _group_ranks(predicted: np.ndarray, observed: np.ndarray, budget: np.ndarray) -> float | None:
    values = [spearman(predicted[budget == one], observed[budget == one])
              for one in np.unique(budget)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def rank_at_fixed_size(
    predicted: np.ndarray, table: RunTable, draws: int = 1000
) -> tuple[float | None, tuple[float, float] | None]:
    """Spearman among the held-out shapes at each token budget, and its interval.

    Seeds of one shape are averaged first; the interval resamples shapes, since the budgets of one
    shape share a trunk.
    """
    shapes = np.stack([table.shape[name] for name in sorted(table.shape)], axis=1)
    _, shape = np.unique(shapes, axis=0, return_inverse=True)
    keys, inverse = np.unique(np.stack([shape.ravel(), table.d], axis=1), axis=0,
                              return_inverse=True)
    counts = np.bincount(inverse.ravel())
    observed = np.bincount(inverse.ravel(), np.log(table.loss)) / counts
    expected = np.bincount(inverse.ravel(), np.log(predicted)) / counts
    found = _group_ranks(expected, observed, keys[:, 1])
    if found is None:
        return None, None
    generator = np.random.default_rng(0)
    names = np.unique(keys[:, 0])
    values = []
    for _ in range(draws):
        picked = generator.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(keys[:, 0] == name) for name in picked])
        value = _group_ranks(expected[rows], observed[rows], keys[rows, 1])
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
    rank, interval = rank_at_fixed_size(predicted, table)
    return HeldOut(
        form=fit.law.form, mean_abs_log=float(np.abs(error).mean()), bias_log=float(error.mean()),
        rank=rank, rank_interval=interval,
        coverage=float(np.mean((low <= table.loss) & (table.loss <= high))), fit=fit,
    )


def compare(fitted: RunTable, held_out: RunTable) -> list[HeldOut]:
    """All forms and the automatic choice, the choice first."""
    names = ["auto", *FORMS]
    return [ask(fit_law(fitted, form=name, bootstrap=BOOTSTRAP, holdout=False), held_out)
            for name in names]
