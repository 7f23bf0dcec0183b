"""Weak priors of a form, weighed against the noise of the table it is fitted to."""

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.fitting.newton import Prior
from shapelaw.scaling.terms import Form


def has_prior(form: Form) -> bool:
    """Whether any parameter carries one."""
    return any(p.prior or p.prior_of_least_loss for p in form.parameters)


def prior_shape(form: Form, least_loss: float) -> tuple[Array, Array]:
    """Mean and 1/width² of each parameter's prior, [p]; 0 where there is none."""
    mean, inverse = np.zeros((2, len(form.names)))
    for position, parameter in enumerate(form.parameters):
        if parameter.prior_of_least_loss is not None:
            shift, width = parameter.prior_of_least_loss
            mean[position], inverse[position] = np.log(least_loss) + shift, width**-2
        elif parameter.prior is not None:
            mean[position], width = parameter.prior
            inverse[position] = width**-2
    return mean, inverse


def unit_of(objective: float, rows: float, parameters: int, delta: float) -> float:
    """What one unit of log likelihood is worth in the objective.

    For residuals of a Laplace law with mean size b, −ln likelihood = Σ|r|/b, and the Huber sum is
    δ·Σ|r|: one unit is δ·b. For squares it is the variance. b is corrected for fitted parameters,
    and where rows hardly outnumber them only half of the rows count as spent.
    """
    free = max(rows - parameters, 0.5 * rows)
    per_row = objective / free if free > 0 else 0.0
    if np.isinf(delta):
        return max(2 * per_row, 1e-12)
    # Invert the Huber mean for a typical |r|: δ(|r| − δ/2) outside ±δ, r²/2 inside.
    typical = per_row / delta + 0.5 * delta if per_row > 0.5 * delta**2 else np.sqrt(2 * per_row)
    return max(min(delta, typical) * typical, 1e-12)


def weighed(shape: tuple[Array, Array], unit: float | Array) -> Prior:
    """The prior in units of the objective; `unit` one number, or [S, 1] for one a problem."""
    mean, inverse = shape
    return Prior(mean, inverse * unit)
