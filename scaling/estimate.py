"""A law estimated from a table: its forms, its noise, its drift and its draws."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, Model, predict_log_loss
from shapelaw.scaling.coordinates import to_natural
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.extrapolation import AXES, Drift
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import Optimum, best_fits
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.form_choice import Choice, choose
from shapelaw.scaling.holdout.splits import rehearsed, score_split, varying
from shapelaw.scaling.law import Law, OtherForm
from shapelaw.scaling.new_shapes import NewShapes
from shapelaw.scaling.noise import NoiseTrend, noise_trend
from shapelaw.scaling.run_table import RunTable, clusters, equal_rows, fingerprint_of
from shapelaw.scaling.terms import Form
from shapelaw.scaling.uncertainty.bootstrap import NoiseModel, noise_model, resample
from shapelaw.scaling.uncertainty.drift import drift_of
from shapelaw.scaling.uncertainty.shape_spread import new_shapes_of

_MEMBER_STARTS = 8  # of the other forms of a stack


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """One form of a law, fitted."""

    form: Form
    weight: float
    model: Model
    optimum: Optimum
    draws: Array
    """Inner coordinates [k, p]."""
    log_loss: Array
    """Predicted for each row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A law and what it was made of."""

    law: Law
    members: list[Fitted]
    """Its forms, the best one first."""
    noise: NoiseModel
    residuals: Array
    """ln(observed / predicted) of each row."""
    choice: Choice | None
    """How the forms were chosen; None where the user named one."""
    scores: dict[str, Any]
    """Split -> scores of held-out rows."""


def estimate_law(
    table: RunTable,
    form: str,
    *,
    bootstrap: int,
    delta: float,
    seed: int = 0,
    holdout: bool = True,
    weights: Array | None = None,
    starts: int = 32,
    label: str | None = None,
    source: str = "",
) -> Estimate:
    """Estimate a law of a checked table; arguments as for `fit.fit_law`, delta = ∞ for squares.

    Raises:
        BadInput: unknown form, or too few rows for it.
    """
    row_weights = np.ones(len(table)) if weights is None else weights
    features = table_features(table)
    informative = frozenset(varying(features))
    choice = choose(table, delta=delta) if form == "auto" else None
    name = form if choice is None else choice.form
    size = len(build_form(name, informative).names)
    if len(table) <= size:
        raise BadInput(
            f"rows = {len(table)}: form {name} has {size} parameters and needs more rows than that"
        )
    log_loss = np.log(table.loss)
    groups = clusters(table)
    members = [
        _member(
            one,
            weight,
            table,
            informative,
            row_weights,
            groups,
            delta,
            starts if one == name else _MEMBER_STARTS,
            bootstrap,
            seed,
        )
        for one, weight in _parts(choice, form)
    ]
    residuals = log_loss - sum(one.weight * one.log_loss for one in members)
    trend = noise_trend(features, residuals)
    noise = noise_model(
        log_loss,
        residuals / trend.scale(features),
        _configurations(features),
        table.run,
        groups,
        size,
    )
    scored: dict[str, Any] = {}
    drift, new_shapes = None, None
    if choice is not None:
        scored = dict(choice.scores.get("stack" if len(choice.forms) > 1 else name, {}))
        scored["candidates"] = choice.scores
        held_out = (choice.table, choice.splits, choice.predictions, members, noise, trend)
        drift = drift_of(table, *held_out)
        new_shapes = new_shapes_of(table, *held_out, drift)
    elif holdout:
        thin, splits, predictions = rehearsed(table, name, delta=delta)
        scored = {split: score_split(thin, values) for split, values in predictions.items()}
        held_out = (thin, splits, {name: predictions}, members, noise, trend)
        drift = drift_of(table, *held_out)
        new_shapes = new_shapes_of(table, *held_out, drift)
    law = _law(
        table,
        features,
        members,
        noise,
        trend,
        drift,
        new_shapes,
        label or name,
        source,
        informative,
    )
    return Estimate(law, members, noise, residuals, choice, scored)


def _parts(choice: Choice | None, form: str) -> list[tuple[str, float]]:
    if choice is None:
        return [(form, 1.0)]
    return list(zip(choice.forms, map(float, choice.weights), strict=True))


def _member(
    name: str,
    weight: float,
    table: RunTable,
    informative: frozenset[str],
    row_weights: Array,
    groups: Array,
    delta: float,
    starts: int,
    bootstrap: int,
    seed: int,
) -> Fitted:
    """Fit one form of a law; of the law's draws it has the share that its weight says."""
    form, features = build_form(name, informative), table_features(table)
    optimum = best_fits(
        form, features, table.loss, row_weights[None, :], delta=delta, starts=starts
    )[0]
    model, log_loss = Model(form, features), np.log(table.loss)
    count = round(bootstrap * weight)
    draws = resample(
        model,
        log_loss,
        optimum,
        row_weights,
        groups,
        count,
        delta=delta,
        seed=seed,
        of_all=bootstrap,
    )
    predicted = predict_log_loss(form, optimum.theta, features)
    return Fitted(form, weight, model, optimum, draws, predicted)


def _configurations(features: Mapping[str, Array]) -> Array:
    """Number of each row's configuration: rows of equal N, D and shape share one."""
    return equal_rows([np.nan_to_num(column, neginf=-1.0) for column in features.values()])[0]


def _law(
    table: RunTable,
    features: Mapping[str, Array],
    members: list[Fitted],
    noise: NoiseModel,
    trend: NoiseTrend,
    drift: Drift | None,
    new_shapes: NewShapes | None,
    label: str,
    source: str,
    informative: frozenset[str],
) -> Law:
    def parameters(one: Fitted) -> dict[str, float]:
        natural = to_natural(one.form, one.optimum.theta)
        return dict(zip(one.form.names, map(float, natural), strict=True))

    first = members[0]
    return Law(
        form=first.form.name,
        parameters=parameters(first),
        draws=to_natural(first.form, first.draws),
        others=tuple(
            OtherForm(one.form.name, one.weight, parameters(one), to_natural(one.form, one.draws))
            for one in members[1:]
        ),
        count=table.count,
        fingerprint=fingerprint_of(table),
        range={
            axis: (float(np.exp(features[name].min())), float(np.exp(features[name].max())))
            for name, axis in AXES.items()
            if name in features
        },
        label=label,
        source=source,
        features=tuple(sorted(informative)),
        residuals=noise.quantiles,
        noise=trend,
        drift=drift,
        new_shapes=new_shapes,
        runs=len(set(table.run)),
    )
