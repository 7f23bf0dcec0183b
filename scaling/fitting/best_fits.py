"""The best fit of a form on each of several folds of a table, all at once.

A fold is a set of row weights: the whole table, a training part, or a resample.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.newton import Prior, Solutions, minimise
from shapelaw.scaling.fitting.priors import has_prior, prior_shape, unit_of, weighed
from shapelaw.scaling.fitting.starting_points import starting_points
from shapelaw.scaling.forms import CHINCHILLA
from shapelaw.scaling.terms import Form

AT_OPTIMUM = 1e-6  # relative excess of the objective that still counts as the same optimum
_EXACT = 1e-14  # an objective this small is a fit without residuals
_ROUNDS = 2  # of weighing the prior against the noise of its own fit
_SIMPLE_STARTS = 8  # for the Chinchilla fit that gives a first idea of the noise
_LARGE_TABLE, _ROWS_FOR_STARTS = 4_000, 2_000  # beyond it, starts are tried on a subset of rows


@dataclasses.dataclass(frozen=True)
class Optimum:
    """The best of the starts of one fold."""

    theta: Array
    """Inner coordinates [p]."""
    objective: float
    """Sum of ρ, without the prior."""
    gradient_norm: float
    converged: bool
    prior: Prior | None
    """As it was weighed in the end."""
    prior_width: Array
    """Width of each parameter's prior [p]; 0 where there is none."""
    starts: int
    starts_at_optimum: int
    near: Array
    """Theta of the starts within 0.1 % of the optimum [k, p]: how sharply it is defined."""


def best_fits(
    form: Form,
    features: Mapping[str, Array],
    loss: Array,
    weights: Array,
    *,
    delta: float,
    starts: int,
    begin: Array | None = None,
) -> list[Optimum]:
    """Fit `form` on each fold. `weights` [folds, m] of rows; returns one optimum a fold.

    `begin` [k, p] are starting points beside the `starts` that are spread over the ranges.

    Raises:
        BadInput: the features lack one the form reads.
    """
    model = Model(form, features)
    log_loss = np.log(loss)
    folds = len(weights)
    small = _subset(model.rows)
    if small is not None:
        part = {name: column[small] for name, column in model.features.items()}
        coarse = best_fits(form, part, loss[small], weights[:, small], delta=delta, starts=starts)
        points = np.stack([optimum.theta for optimum in coarse])[:, None, :]
    else:
        coarse = []
        points = starting_points(model, loss, weights, starts)
    if begin is not None:
        points = np.concatenate([points, np.broadcast_to(begin, (folds, *begin.shape))], axis=1)
    units = None
    shapes: tuple[Array, Array] | None = None
    if has_prior(form):
        simple = (
            best_fits(CHINCHILLA, features, loss, weights, delta=delta, starts=_SIMPLE_STARTS)
            if small is None
            else coarse
        )
        size = len(form.names if small is not None else CHINCHILLA.names)
        scale = model.rows / (model.rows if small is None else len(small))
        units = np.array(
            [
                unit_of(optimum.objective * scale, row.sum(), size, delta)
                for optimum, row in zip(simple, weights, strict=True)
            ]
        )
        least = [float(loss[row > 0].min()) for row in weights]
        found = [prior_shape(form, value) for value in least]
        shapes = (np.stack([pair[0] for pair in found]), np.stack([pair[1] for pair in found]))
    solutions: Solutions | None = None
    prior: Prior | None = None
    each = points.shape[1]
    for attempt in range(_ROUNDS if units is not None else 1):
        if shapes is not None and units is not None:
            prior = weighed(
                (np.repeat(shapes[0], each, axis=0), np.repeat(shapes[1], each, axis=0)),
                np.repeat(units, each)[:, None],
            )
        again = solutions is not None
        solutions = minimise(
            model,
            log_loss,
            solutions.theta if solutions else points.reshape(folds * each, -1),
            np.repeat(weights, each, axis=0),
            delta=delta,
            prior=prior,
            warm=again or bool(coarse),
        )
        if units is not None and attempt + 1 < _ROUNDS:
            best = solutions.penalised.reshape(folds, each).argmin(axis=1) + each * np.arange(folds)
            units = np.array(
                [
                    unit_of(solutions.objective[k], row.sum(), len(form.names), delta)
                    for k, row in zip(best, weights, strict=True)
                ]
            )
    assert solutions is not None
    return [
        _best_of(
            solutions.take(np.arange(fold * each, (fold + 1) * each)),
            None if prior is None else prior.take(slice(fold * each, fold * each + 1)),
            np.zeros(len(form.names)) if shapes is None else _widths(shapes[1][fold]),
            coarse[fold] if coarse else None,
        )
        for fold in range(folds)
    ]


def _subset(rows: int) -> Array | None:
    """Evenly spread rows to try the starts on; None where the table is small enough."""
    if rows <= _LARGE_TABLE:
        return None
    return np.sort(np.random.default_rng(0).choice(rows, _ROWS_FOR_STARTS, replace=False))


def _widths(inverse_squares: Array) -> Array:
    known = inverse_squares > 0
    return np.where(known, 1 / np.sqrt(np.where(known, inverse_squares, 1.0)), 0.0)


def _best_of(
    solutions: Solutions, prior: Prior | None, prior_width: Array, coarse: Optimum | None
) -> Optimum:
    best = int(solutions.penalised.argmin())
    least = solutions.penalised[best]
    same = solutions.penalised <= least * (1 + AT_OPTIMUM) + _EXACT
    near = solutions.theta[solutions.penalised <= least * 1.001]
    return Optimum(
        theta=solutions.theta[best],
        objective=float(solutions.objective[best]),
        gradient_norm=float(solutions.gradient_norm[best]),
        converged=bool(solutions.converged[best]),
        prior=None if prior is None else Prior(prior.mean[0], prior.precision[0]),
        prior_width=prior_width,
        starts=coarse.starts if coarse else len(same),
        starts_at_optimum=coarse.starts_at_optimum if coarse else int(same.sum()),
        near=coarse.near if coarse else near,
    )
