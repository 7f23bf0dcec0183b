"""What the rows of a study say of its parameters (JAX)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.priors import USES
from benchmarks.evidence.studies import Study
from shapelaw.scaling.evidence.study_law import INDEX, LEVEL, level_log_loss, shape_penalty
from shapelaw.scaling.evidence.study_population import ROW_NOISE, RUN_NOISE

_CHECKPOINTS = 9
"""Checkpoints of a run that are used, evenly over ln D: neighbours say the same."""


def thinned(study: Study) -> Study:
    """At most _CHECKPOINTS budgets where all runs share them."""
    ln_d = study.runs.features["ln_d"]
    budgets = np.unique(ln_d)
    runs = int(study.runs.run.max()) + 1
    if runs == len(study) or len(budgets) * runs != len(study):
        return study
    wanted = np.linspace(budgets[0], budgets[-1], _CHECKPOINTS)
    kept = np.unique(np.abs(budgets[None] - wanted[:, None]).argmin(axis=1))
    return study.take(np.flatnonzero(np.isin(ln_d, budgets[kept])))


def own_parameters(study: Study) -> np.ndarray:
    """Numbers of the parameters [q] that a study's rows determine, ln noise of row and run last."""
    names = (*LEVEL, *USES.get(study.family, ()))
    repeated = bool(np.bincount(study.runs.run).max() > 1)
    return np.array([*(INDEX[name] for name in names), ROW_NOISE, *([RUN_NOISE] * repeated)])


def row_likelihood(studies: Sequence[Study]) -> Callable[[Any], Any]:
    """ln likelihood [s], up to a constant, of parameters [s, p + 2] of each study.

    Errors of rows, and of whole runs where rows share one, follow Student t with 4 degrees of
    freedom: what `Runs.log_likelihood` says of few runs. All rows stand in one array, whose
    parameters are products with a matrix of zeros and ones: gathers compile and differentiate
    slowly.
    """
    import jax.numpy as jnp

    order = sorted(range(len(studies)), key=lambda i: not studies[i].shape)
    parts = [studies[i].runs for i in order]
    of_row = np.repeat(order, [len(part.log_loss) for part in parts])
    features = {
        name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features
    }
    with_shape = sum(len(studies[i]) for i in order if studies[i].shape)
    shaped = {name: column[:with_shape] for name, column in features.items()}
    losses = np.concatenate([part.log_loss for part in parts])
    root_weight = np.sqrt(np.concatenate([part.weight for part in parts]))
    starts = np.cumsum([0, *(int(part.run.max()) + 1 for part in parts)])
    run = np.concatenate([part.run + start for part, start in zip(parts, starts, strict=False)])
    rows = np.bincount(run)
    alone = (rows[run] == 1).astype(float)
    repeated = np.flatnonzero(rows[run] > 1)
    runs, run_of = np.unique(run[repeated], return_inverse=True)
    share = np.zeros((len(runs), len(repeated)))
    share[run_of, np.arange(len(repeated))] = 1 / rows[runs][run_of]
    spread_over = (share > 0).T.astype(float)
    free = 1 - 1 / rows[runs][run_of]
    choose = (of_row[:, None] == np.arange(len(studies))).astype(float)
    choose_repeated = choose[repeated]
    choose_run = choose_repeated[np.unique(run_of, return_index=True)[1]] if len(runs) else None

    def student(z: Any) -> Any:
        return -2.5 * jnp.log1p(z * z / 4)

    def log_likelihood(theta: Any) -> Any:
        of_rows = choose @ theta

        def value(name: str) -> Any:
            return of_rows[:, INDEX[name]]

        def shaped_value(name: str) -> Any:
            return of_rows[:with_shape, INDEX[name]]

        penalty = jnp.zeros(len(losses) - with_shape)
        if with_shape:
            penalty = jnp.concatenate([shape_penalty(jnp, shaped_value, shaped), penalty])
        error = (losses - level_log_loss(jnp, value, features, penalty)) * root_weight
        ln_spread = of_rows[:, ROW_NOISE]
        total = (alone * (student(error * jnp.exp(-ln_spread)) - ln_spread)) @ choose
        if not len(runs):
            return total
        error, ln_spread = error[repeated], choose_repeated @ theta[:, ROW_NOISE]
        of_runs = choose_run @ theta[:, [ROW_NOISE, RUN_NOISE]]
        mean = share @ error
        variance = jnp.exp(2 * of_runs[:, 1]) + jnp.exp(2 * of_runs[:, 0]) / rows[runs]
        total += (student(mean / jnp.sqrt(variance)) - 0.5 * jnp.log(variance)) @ choose_run
        within = (error - spread_over @ mean) * jnp.exp(-ln_spread)
        return total + (free * (student(within) - ln_spread)) @ choose_repeated

    return log_likelihood
