"""Fit a law to a table of runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, Model, predict_log_loss
from shapelaw.scaling.coordinates import to_natural
from shapelaw.scaling.derived_quantities import derived_quantities
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.estimate import Fitted, estimate_law
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import Optimum, best_fits
from shapelaw.scaling.fitting.newton import huber
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.form_choice import Choice
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.law import Law
from shapelaw.scaling.notebook_display import Displayed
from shapelaw.scaling.run_table import (
    RunTable,
    checked,
    clusters,
    some_of_each_run,
    without_duplicates,
)
from shapelaw.scaling.terms import Form
from shapelaw.scaling.uncertainty.bootstrap import (
    NoiseModel,
)
from shapelaw.scaling.uncertainty.diagnostics import (
    at_bound,
    condition_number,
    curvature,
    not_identified,
    outliers,
)
from shapelaw.scaling.uncertainty.profile_likelihood import Profile, profile
from shapelaw.scaling.user_files import shown

_MOST_OUTLIERS_SHOWN = 20
MOST_ROWS = 100_000
"""A larger table is fitted to so many of its rows. Intervals widen by at most the root of how many
times fewer they are; rows of a run err together, so what differs between runs loses less."""
MOST_REFITS = 100_000
FURTHER = 10.0
"""Times the largest compute seen, where the form next in line is compared."""
_OTHER_STARTS = 8  # draws from which the optimum without prior is sought too


HUBER = 1e-3
"""Threshold of the Huber terms in log loss: Hoffmann et al. (arXiv 2203.15556)."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit(Displayed):
    """A law and how it was found."""

    law: Law
    objective: float
    """Sum over rows of Huber terms (or half squares), without any prior."""
    intervals: dict[str, tuple[float, float]]
    """90 % interval of each parameter: what the runs alone say, without any prior."""
    diagnostics: dict[str, Any]
    holdout: dict[str, Any]
    runs: int
    """Rows fitted."""
    dropped: list[str]
    derived: dict[str, Any]
    table: RunTable
    residuals: Array
    """ln(observed / predicted) of each row."""

    def __repr__(self) -> str:
        return f"<Fit of {self.law.form} to {self.runs} runs: objective {self.objective:.4g}>"

    def to_rows(self) -> list[dict[str, Any]]:
        """Each row of the table with its observed loss, prediction and log error."""
        columns = {"run": self.table.run, "n": self.table.n, "d": self.table.d}
        columns |= {"loss": self.table.loss, "predicted": self.table.loss / np.exp(self.residuals)}
        columns |= {"log_error": -self.residuals, **self.table.shape}
        plain = {name: np.asarray(column).tolist() for name, column in columns.items()}
        return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]

    def report(self) -> dict[str, Any]:
        """The contract of `fit --json`, as plain values."""
        return {
            "form": self.law.form,
            "objective": self.objective,
            "parameters": dict(self.law.parameters),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "diagnostics": self.diagnostics,
            "holdout": self.holdout,
            "columns": dict(self.table.columns),
            "count": self.law.count,
            "runs": self.law.runs,
            "rows": len(self.table),
            "dropped": self.dropped,
            "remarks": list(self.table.remarks),
            "derived": self.derived,
        }


def fit_law(
    table: RunTable,
    form: str = "auto",
    *,
    bootstrap: int = 400,
    seed: int = 0,
    holdout: bool = True,
    objective: str = "huber",
    delta: float = HUBER,
    weights: Array | None = None,
    starts: int = 32,
    label: str | None = None,
    source: str = "",
    dropped: list[str] | None = None,
) -> Fit:
    """Fit `form` to a table.

    Args:
        table: the runs.
        form: a name of `scaling.forms.FORMS`, or `auto` to choose by held-out error.
        bootstrap: refits on resampled runs, for intervals.
        seed: of the resampling.
        holdout: whether to score the form on held-out shapes and sizes too.
        objective: `huber` (sum of Huber terms of log residuals) or `squared` (sum of half squares).
        delta: Huber's threshold in log loss.
        weights: weight of each row in the objective, [rows]; 1 by default.
        starts: starting points.
        label: the law's name; the form's by default.
        source: where the runs come from.
        dropped: what reading the table already dropped, for the report.

    Raises:
        BadInput: unknown form or objective, unusable numbers, or too few rows for the form.
    """
    threshold = _threshold(objective, delta)
    if bootstrap < 0 or starts < 1:
        raise BadInput(f"bootstrap = {bootstrap}, starts = {starts}: at least 0 and 1 are needed")
    if bootstrap > MOST_REFITS:
        raise BadInput(f"bootstrap = {shown(bootstrap, 30)}: at most {MOST_REFITS} are taken")
    row_weights = _weights(weights, len(table))
    table = checked(table)
    if weights is None:
        table, repeated = without_duplicates(table)
        row_weights = np.ones(len(table))
    else:
        repeated = []
    _refuse_hopeless(table)
    if len(table) > MOST_ROWS:
        rows = some_of_each_run(table, MOST_ROWS)
        repeated.append(
            f"{len(table) - len(rows)} of {len(table)} rows, at random within each run: the law, "
            f"its intervals and its errors are those of the {len(rows)} rows left"
        )
        table, row_weights = table.take(rows), row_weights[rows]
    found = estimate_law(
        table,
        form,
        bootstrap=bootstrap,
        seed=seed,
        holdout=holdout,
        delta=threshold,
        weights=row_weights,
        starts=starts,
        label=label,
        source=source,
    )
    first, residuals = found.members[0], found.residuals
    declaration, model, optimum, draws = first.form, first.model, first.optimum, first.draws
    log_loss, groups = np.log(table.loss), clusters(table)
    told = profile(
        model, log_loss, optimum, draws[:_OTHER_STARTS], row_weights, groups, delta=threshold
    )
    diagnostics = _diagnostics(
        declaration, model, table, optimum, residuals, row_weights, told, threshold, found.noise
    )
    diagnostics["draws"] = sum(len(one.draws) for one in found.members)
    diagnostics["forms"] = {one.form.name: one.weight for one in found.members}
    if found.choice is not None:
        diagnostics["chosen"] = found.choice.reason
        told_apart = _runner_up(found.choice, found.members, table_features(table))
        if told_apart:
            diagnostics["runner_up"] = told_apart
    return Fit(
        law=found.law,
        objective=float(row_weights @ huber(residuals, threshold)[0]),
        intervals=_intervals(
            declaration, told, optimum.theta, draws, diagnostics["not_identified"]
        ),
        diagnostics=diagnostics,
        holdout=found.scores,
        runs=len(table),
        dropped=[*(dropped or []), *repeated],
        derived=derived_quantities(declaration, optimum.theta, draws, table_features(table)),
        table=table,
        residuals=residuals,
    )


def _threshold(objective: str, delta: float) -> float:
    if objective not in ("huber", "squared"):
        raise BadInput(f"objective = {objective}: huber or squared is needed")
    if not delta > 0:
        raise BadInput(f"delta = {delta}: more than 0 is needed")
    return delta if objective == "huber" else float("inf")


def _weights(weights: Array | None, rows: int) -> Array:
    if weights is None:
        return np.ones(rows)
    values = np.asarray(weights, dtype=float)
    if (
        values.shape != (rows,)
        or not np.all(np.isfinite(values) & (values >= 0))
        or not values.any()
    ):
        raise BadInput(f"weights: {rows} finite numbers, none negative, are needed")
    return values


def _refuse_hopeless(table: RunTable) -> None:
    """Raise where no law can be told from these rows, whatever its form."""
    if len(table) < 2:
        raise BadInput(
            f"rows = {len(table)}: one run says nothing about how loss scales; "
            "at least 6 runs that differ in N and D are needed"
        )
    if np.ptp(np.log(table.n)) < 1e-9 and np.ptp(np.log(table.d)) < 1e-9:
        raise BadInput(
            "n and d: neither varies between rows; runs of several sizes or token "
            "budgets are needed"
        )
    if np.ptp(np.log(table.loss)) < 1e-9:
        raise BadInput(
            f"loss = {table.loss[0]:g} in every row: it does not vary, so there is nothing to fit"
        )


def _runner_up(
    choice: Choice, members: list[Fitted], features: Mapping[str, Array]
) -> dict[str, Any] | None:
    """What the form next in line would predict otherwise, at FURTHER times the largest compute."""
    name = choice.runner_up
    if name is None:
        return None
    form = build_form(name, frozenset(varying(table_features(choice.table))))
    row = int(np.argmax(features["ln_n"] + features["ln_d"]))
    step = 0.5 * np.log(FURTHER)
    growth = {"ln_n": 1.0, "ln_d": 1.0, "ln_width": 1 / 3, "ln_depth": 1 / 3, "ln_x": -1 / 6}
    where = {
        feature: column[row : row + 1] + step * growth.get(feature, 0.0)
        for feature, column in features.items()
    }
    ours = sum(
        one.weight * float(predict_log_loss(one.form, one.optimum.theta, where)[0])
        for one in members
    )
    theirs = predict_log_loss(form, choice.optima[name].theta, where)
    return {
        "form": name,
        "at": {"n": float(np.exp(where["ln_n"][0])), "d": float(np.exp(where["ln_d"][0]))},
        "loss": float(np.exp(theirs[0])),
        "chosen_loss": float(np.exp(ours)),
    }


def _intervals(
    form: Form, told: Profile, theta: Array, draws: Array, open_ones: list[str]
) -> dict[str, tuple[float, float]]:
    """In natural units.

    The runs alone do not tell a parameter that is not identified: its interval spans what the
    bootstrap with the prior says of it too, and the value itself.
    """
    low, high = told.low.copy(), told.high.copy()
    for position in (form.index(name) for name in open_ones):
        values = np.append(
            np.quantile(draws[:, position], [0.05, 0.95]) if len(draws) else [], theta[position]
        )
        low[position] = min(low[position], values.min())
        high[position] = max(high[position], values.max())
    return {
        name: (float(a), float(b))
        for name, a, b in zip(
            form.names, to_natural(form, low), to_natural(form, high), strict=True
        )
    }


def _diagnostics(
    form: Form,
    model: Model,
    table: RunTable,
    optimum: Optimum,
    residuals: Array,
    weights: Array,
    told: Profile,
    delta: float,
    noise: NoiseModel,
) -> dict[str, Any]:
    log_loss = np.log(table.loss)
    unknown = not_identified(form, model.features, told, optimum.theta)
    low, high = (to_natural(form, extreme(optimum.near, axis=0)) for extreme in (np.min, np.max))
    far = outliers(residuals, table.run)
    found: dict[str, Any] = {
        "gradient_norm": optimum.gradient_norm,
        "condition_number": condition_number(
            curvature(model, log_loss, optimum.theta, weights, delta)
        ),
        "starts": optimum.starts,
        "starts_at_optimum": optimum.starts_at_optimum,
        "at_bound": at_bound(form, model, optimum.theta),
        "not_identified": list(unknown),
        "not_identified_because": unknown,
        "converged": optimum.converged,
        "spread_near_optimum": {
            name: [float(a), float(b)] for name, a, b in zip(form.names, low, high, strict=True)
        },
        "mse": float(np.mean((np.exp(log_loss) - np.exp(log_loss - residuals)) ** 2)),
        "mean_abs_log": float(np.abs(residuals).mean()),
        "noise": noise.summary(),
        "outliers": far[:_MOST_OUTLIERS_SHOWN],
        "outlier_count": len(far),
    }
    rows = np.array([item["row"] - 1 for item in far], dtype=int)
    if 0 < len(rows) < len(table) - len(form.names):
        kept = weights.copy()
        kept[rows] = 0.0
        without = best_fits(form, model.features, table.loss, kept[None, :], delta=delta, starts=4)[
            0
        ]
        found["without_outliers"] = {
            "objective": without.objective,
            "parameters": dict(
                zip(form.names, map(float, to_natural(form, without.theta)), strict=True)
            ),
        }
    return found
