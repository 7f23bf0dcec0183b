"""A form's numbers as people read them, and in the coordinates that the solver moves in."""

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.terms import Form


def to_inner(form: Form, values: Array) -> Array:
    """Natural values [..., p] to the solver's coordinates."""
    logs = np.array([p.log for p in form.parameters])
    return np.where(logs, np.log(np.where(logs, np.maximum(values, 1e-300), 1.0)), values)


def to_natural(form: Form, theta: Array) -> Array:
    """The solver's coordinates [..., p] to natural values."""
    logs = np.array([p.log for p in form.parameters])
    return np.where(logs, np.exp(np.where(logs, theta, 0.0)), theta)
