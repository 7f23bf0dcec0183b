"""Fit a law to a table of runs."""

import dataclasses
from typing import Any

import numpy as np

from scaling.errors import BadInput
from scaling.features import table_features
from scaling.forms import build_form
from scaling.holdout import all_splits, held_out, varying
from scaling.law import AXES, Law, fingerprint_of, to_natural
from scaling.model import Array, Model
from scaling.solver import minimise
from scaling.starts import starting_points
from scaling.table import RunTable, checked, clusters, without_duplicates
from scaling.uncertainty import bootstrap as refit
from scaling.uncertainty import noise_floor, percentile_intervals, residual_quantiles

AT_OPTIMUM = 1e-6  # relative excess of the objective that still counts as the same optimum


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """A law and how it was found."""

    law: Law
    objective: float
    """Sum over rows of Huber terms (or half squares), without any prior."""
    intervals: dict[str, tuple[float, float]]
    """90 % interval of each parameter."""
    diagnostics: dict[str, Any]
    holdout: dict[str, Any]
    runs: int
    dropped: list[str]
    derived: dict[str, Any]
    table: RunTable
    residuals: Array
    """ln(observed / predicted) of each row."""

    def report(self) -> dict[str, Any]:
        """The contract of `fit --json`, as plain values."""
        return {
            "form": self.law.form, "objective": self.objective,
            "parameters": dict(self.law.parameters),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "diagnostics": self.diagnostics, "holdout": self.holdout, "runs": self.runs,
            "dropped": self.dropped, "derived": self.derived,
        }


def fit_law(
    table: RunTable, form: str = "auto", *, bootstrap: int = 1000, seed: int = 0,
    holdout: bool = True, objective: str = "huber",
    delta: float = 1e-3, starts: int = 48, label: str | None = None, source: str = "",
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
        starts: starting points.
        label: the law's name; the form's by default.
        source: where the runs come from.

    Raises:
        BadInput: unknown form, unusable numbers, or too few rows for the form.
    """
    if objective not in ("huber", "squared"):
        raise BadInput(f"objective = {objective}: huber or squared is needed")
    delta = delta if objective == "huber" else np.inf
    table, dropped = without_duplicates(checked(table))
    features = table_features(table)
    name = form if form != "auto" else "shape"
    declaration = build_form(name, frozenset(varying(features)))
    if len(table) <= len(declaration.names):
        raise BadInput(f"rows = {len(table)}: form {name} has {len(declaration.names)} parameters "
                       "and needs more rows than that")
    model = Model(declaration, features)
    log_loss = np.log(table.loss)
    weights = np.ones(len(table))
    begin = starting_points(model, table.loss, weights, starts)
    found = minimise(model, log_loss, begin, weights, delta=delta)
    best = int(found.penalised.argmin())
    theta = found.theta[best]
    at_optimum = found.penalised <= found.penalised[best] * (1 + AT_OPTIMUM)
    generator = np.random.default_rng(seed)
    draws = _draws(model, log_loss, theta, weights, clusters(table), bootstrap, delta, generator)
    residuals = log_loss - model.log_loss(model.centred(theta[None, :]))[0]
    configuration = np.unique(np.stack([*features.values()], axis=1), axis=0,
                              return_inverse=True)[1].ravel()
    floor = noise_floor(log_loss, configuration, table.run)
    natural = to_natural(declaration, theta)
    law = Law(
        form=name, parameters=dict(zip(declaration.names, map(float, natural), strict=True)),
        draws=to_natural(declaration, draws), range=_ranges(features),
        count=table.count, fingerprint=fingerprint_of(table), label=label or name, source=source,
        features=tuple(varying(features)),
        residuals=residual_quantiles(residuals, len(theta), floor[0] if floor else None),
        runs=len(set(table.run)),
    )
    low, high = percentile_intervals(law.draws) if len(draws) else (natural, natural)
    intervals = {key: (float(a), float(b))
                 for key, a, b in zip(declaration.names, low, high, strict=True)}
    diagnostics = {
        "gradient_norm": float(found.gradient_norm[best]),
        "condition_number": 0.0,
        "starts": starts, "starts_at_optimum": int(at_optimum.sum()),
        "at_bound": [], "not_identified": [],
    }
    scored = {}
    if holdout:
        for split in all_splits(table):
            scored[split.name] = held_out(table, name, split, delta=delta)
    return Fit(law=law, objective=float(found.objective[best]), intervals=intervals,
               diagnostics=diagnostics, holdout=scored, runs=len(table), dropped=dropped,
               derived={}, table=table, residuals=residuals)


def _draws(
    model: Model, log_loss: Array, theta: Array, weights: Array, groups: Array, draws: int,
    delta: float, generator: np.random.Generator,
) -> Array:
    if draws <= 0:
        return np.zeros((0, len(theta)))
    return refit(model, log_loss, theta, weights, groups, draws, delta=delta, prior=None,
                     generator=generator)


def _ranges(features: dict[str, Array]) -> dict[str, tuple[float, float]]:
    return {axis: (float(np.exp(features[name].min())), float(np.exp(features[name].max())))
            for name, axis in AXES.items() if name in features}



