"""Weights of a stack: the mean of several forms' predictions that errs least on held-out rows.

Weights are never negative and sum to one (Breiman 1996). They minimise the mean absolute error, as
the fits do, plus a multiple of their divergence from equal weights: a few held-out blocks tell a
form that fails from one that does not, and hardly which of two good ones is better.
"""

import numpy as np

from shapelaw.scaling.bound_form import Array

EVENNESS = 0.5
"""What full agreement with one form costs, in shares of the best form's error per ln(forms)."""
_CORNER = 1e-4  # |error| is smoothed below this, in ln loss


def stack_weights(predicted: Array, observed: Array, importance: Array) -> Array:
    """Weights [forms] for predictions [rows, forms] of `observed` [rows], rows of `importance`."""
    from scipy.optimize import minimize

    forms = predicted.shape[1]
    if forms == 1:
        return np.ones(1)
    share = importance / importance.sum()
    errors = predicted - observed[:, None]
    scale = max(float((share @ np.abs(errors)).min()), 1e-12)

    def cost(logits: Array) -> tuple[float, Array]:
        weights = _softmax(logits)
        error = errors @ weights
        size = np.sqrt(error**2 + _CORNER**2)
        entropy = np.log(np.maximum(weights * forms, 1e-300))
        value = float(share @ size) / scale + EVENNESS * float(weights @ entropy)
        slope = errors.T @ (share * error / size) / scale + EVENNESS * (entropy + 1)
        return value, weights * (slope - weights @ slope)

    return _softmax(minimize(cost, np.zeros(forms), jac=True, method="L-BFGS-B").x)


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max())
    total: Array = raised / raised.sum()
    return total
