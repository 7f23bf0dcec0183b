"""The published forms fitted plainly: L-BFGS from random starts on an objective written out here.

Independent of the project's solver, so that a published form is never judged by a poor fit of it.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.run_table import RunTable

PUBLISHED = ("chinchilla", "morph", "gemstones")
STARTS = 4
DELTA = 1e-3


def plain_optimum(name: str, table: RunTable) -> tuple[float, Callable[[RunTable], Array]]:
    """Least objective of a published form by L-BFGS from random starts, and its prediction of ln L.

    Each form is ln Σ exp(X·θ), Morph's with ln(1 + exp(ε + γ·ln R)) added.
    """
    observed = np.log(table.loss)
    terms, factor = _design(name, table)
    size = terms.shape[2]

    def cost(theta: Array, delta: float) -> tuple[float, Array]:
        value, slope = _log_loss(terms, factor, theta)
        residual = value - observed
        score = np.clip(residual, -delta, delta)
        return float((score * (residual - 0.5 * score)).sum()), slope.T @ score

    generator = np.random.default_rng(0)
    best, least = np.zeros(size), np.inf
    for _ in range(STARTS):
        theta = _random_start(name, generator)
        for delta in (0.1, 0.01, DELTA):
            theta = minimize(
                cost, theta, args=(delta,), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
            ).x
        value = cost(theta, DELTA)[0]
        if value < least:
            best, least = theta, value
    return least, lambda other: _log_loss(*_design(name, other), best)[0]


def _design(name: str, table: RunTable) -> tuple[Array, Array]:
    """Terms [rows, terms, parameters] and Morph's factor [rows, parameters] (zeros elsewhere)."""
    ones, log_n, log_d = np.ones(len(table)), np.log(table.n), np.log(table.d)
    columns = [[(0, ones)], [(1, ones), (2, -log_n)], [(3, ones), (4, -log_d)]]
    if name == "gemstones":
        columns += [
            [(5, ones), (6, -np.log(table.shape["d_model"]))],
            [(7, ones), (8, -np.log(table.shape["n_layers"]))],
        ]
    size = {"chinchilla": 5, "morph": 7, "gemstones": 9}[name]
    terms = np.zeros((len(table), len(columns), size))
    for number, parts in enumerate(columns):
        for position, column in parts:
            terms[:, number, position] = column
    factor = np.zeros((len(table), size))
    if name == "morph":
        factor[:, 5] = 1.0
        factor[:, 6] = np.log(table.shape["d_model"] / table.shape["n_layers"])
    return terms, factor


def _log_loss(terms: Array, factor: Array, theta: Array) -> tuple[Array, Array]:
    exponents = terms @ theta
    top = exponents.max(axis=1, keepdims=True)
    raised = np.exp(exponents - top)
    total = raised.sum(axis=1)
    value = np.log(total) + top[:, 0]
    slope = np.einsum("mk,mkp->mp", raised / total[:, None], terms)
    if factor.any():
        height = factor @ theta
        value = value + np.logaddexp(0.0, height)
        slope = slope + factor * (1 / (1 + np.exp(-np.clip(height, -500, 500))))[:, None]
    return value, slope


def _random_start(name: str, generator: np.random.Generator) -> Array:
    start = [
        generator.uniform(-1, 1),
        generator.uniform(2, 8),
        generator.uniform(0.1, 0.7),
        generator.uniform(2, 8),
        generator.uniform(0.1, 0.7),
    ]
    if name == "morph":
        start += [generator.uniform(-8, -2), generator.uniform(0.2, 1.5)]
    if name == "gemstones":
        start += [generator.uniform(-2, 2), generator.uniform(0.1, 0.9)] * 2
    return np.array(start)
