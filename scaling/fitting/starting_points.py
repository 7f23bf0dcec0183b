"""Where fits start: variable projection.

A sum of power terms is linear in its coefficients once the exponents are known. So exponents are
spread over their ranges by a low-discrepancy sequence, and the coefficients of each start are the
non-negative least-squares solution on relative errors. The five-parameter Chinchilla problem has a
condition number near 1e11; projected onto its exponents, near 10.
"""

import itertools

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.terms import Parameter

_LARGEST_TERM = 1e100  # a power of huge numbers stays squarable
_SMALLEST_SHARE = 1e-3  # a term that projection drops starts as this share of the loss


def spread(count: int, dimensions: int) -> Array:
    """`count` points that fill the unit cube evenly, [count, dimensions] (the R sequence)."""
    root = 2.0
    for _ in range(40):  # the positive root of root^(dimensions + 1) = root + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps = root ** -np.arange(1, dimensions + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0


def starting_points(model: Model, loss: Array, weights: Array, count: int) -> Array:
    """`count` starting points for each fold, inner coordinates [folds, count, p].

    `weights` [folds, m] are the folds' row weights.
    """
    form = model.form
    linear = list(dict.fromkeys(term.coefficients[0] for term in form.terms))
    sampled = [p for p in form.parameters if p.name not in linear]
    theta = np.zeros((count, len(form.names)))
    unit = spread(count, max(len(sampled), 1))
    for column, parameter in enumerate(sampled):
        low, high = _range(parameter, model)
        theta[:, form.index(parameter.name)] = low + (high - low) * unit[:, column]
    scaled = _unit_terms(model, theta, linear) / loss  # relative errors
    scaled = np.minimum(scaled, _LARGEST_TERM)
    folds = np.empty((len(weights), count, theta.shape[1]))
    for fold, row_weights in enumerate(weights):
        weighted = scaled * row_weights
        gram = weighted @ scaled.transpose(0, 2, 1)
        target = weighted.sum(axis=2)
        solution = _non_negative(gram, target)
        floor = _SMALLEST_SHARE * row_weights.sum() / np.maximum(target, 1e-300)
        folds[fold] = theta
        for column, name in enumerate(linear):
            folds[fold, :, form.index(name)] = np.log(
                np.maximum(solution[:, column], floor[:, column])
            )
    return folds


def projected(model: Model, loss: Array, weights: Array, theta: Array, held: str) -> Array:
    """Points [S, p] with the coefficients that suit their exponents best; `held` stays as it is."""
    names = dict.fromkeys(term.coefficients[0] for term in model.form.terms)
    linear = [name for name in names if name != held]
    scaled = np.minimum(_unit_terms(model, theta, linear) / loss, _LARGEST_TERM)
    rest = np.ones((len(theta), model.rows))
    if held in names:
        only = theta.copy()
        only[:, [model.form.index(name) for name in linear]] = -1e4
        rest = 1 - np.minimum(np.exp(model.log_loss(model.centred(only))) / loss, _LARGEST_TERM)
    weighted = scaled * weights
    gram = weighted @ scaled.transpose(0, 2, 1)
    solution = _non_negative(gram, (weighted * rest[:, None, :]).sum(axis=2))
    floor = _SMALLEST_SHARE * weights.sum() / np.maximum(weighted.sum(axis=2), 1e-300)
    found = theta.copy()
    for column, name in enumerate(linear):
        found[:, model.form.index(name)] = np.log(np.maximum(solution[:, column], floor[:, column]))
    return found


def _range(parameter: Parameter, model: Model) -> tuple[float, float]:
    """The range to sample; an optimum's range is the range of its feature."""
    for piece in model.form.bowls:
        if piece.optimum == parameter.name:
            column = model.features[piece.feature]
            return float(np.quantile(column, 0.1)), float(np.quantile(column, 0.9))
    return parameter.start


def _unit_terms(model: Model, theta: Array, linear: list[str]) -> Array:
    """What each linear coefficient multiplies, [S, K, m], with that coefficient at one."""
    form = model.form
    at = [form.index(name) for name in linear]
    found = np.empty((len(theta), len(at), model.rows))
    for column, position in enumerate(at):
        only = theta.copy()
        only[:, at] = -1e4  # e^-1e4 = 0: the other coefficients are off
        only[:, position] = 0.0
        found[:, column] = np.exp(model.log_loss(model.centred(only)))
    return found


def _non_negative(gram: Array, target: Array) -> Array:
    """argmin ½cᵀGc − cᵀh over c ≥ 0 for each start, by trying every set of active terms."""
    starts, size = target.shape
    best = np.zeros((starts, size))
    best_value = np.zeros(starts)
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(range(size), k) for k in range(1, size + 1)
    ):
        pick = np.array(chosen)
        part = gram[:, pick[:, None], pick[None, :]]
        diagonal = np.einsum("skk->sk", part)
        scale = 1 / np.sqrt(np.maximum(diagonal, 1e-300))
        part = part * scale[:, :, None] * scale[:, None, :] + 1e-12 * np.eye(len(pick))
        right = target[:, pick] * scale
        inner = np.linalg.solve(part, right[:, :, None])[:, :, 0]
        value = -0.5 * np.einsum("sk,sk->s", inner, right)
        better = np.all(inner >= 0, axis=1) & (value < best_value)
        best[better] = 0.0
        rows = np.flatnonzero(better)
        best[rows[:, None], pick[None, :]] = (inner * scale)[better]
        best_value[better] = value[better]
    return best
