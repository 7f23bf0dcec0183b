"""How sure a fit is: bootstrap by run, the noise of one run, and the floor that repeats set."""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.best_fits import Optimum
from shapelaw.scaling.fitting.newton import Prior, huber, minimise
from shapelaw.scaling.uncertainty.sandwich import density_curvature, deviate

RESIDUAL_QUANTILES = 41
_MOST_EVENNESS = 0.1  # weights are a little more even than Dirichlet(1) where runs are few, since
# coverage measured on synthetic sweeps still errs to the wide side there
_DRAW_TOLERANCE = 1e-8  # of the objective: far below what one draw differs from another
ONE_STEP_ELEMENTS = 3_500_000  # a law's draws × rows beyond which each is one Newton step


def resample(
    model: Model,
    log_loss: Array,
    optimum: Optimum,
    weights: Array,
    groups: Array,
    draws: int,
    *,
    delta: float,
    seed: int,
    of_all: int | None = None,
) -> Array:
    """Refit on `draws` resamples of the groups; inner coordinates [draws, p].

    `of_all` draws is what all forms of the law have together: beyond ONE_STEP_ELEMENTS rows of
    them none is refitted, however few are this form's.

    Each draw weighs the groups (runs) at random, all rows of one alike: the Bayesian bootstrap.
    Drawing with replacement instead leaves out a third of the groups, and an L1-like fit of the few
    left nearly interpolates: its 90 % intervals then cover 98 to 100 % (5 parameters, 20 runs).
    Where the form has a prior, its mean is redrawn too: else what only the prior tells would look
    certain.
    """
    size = len(optimum.theta)
    if draws == 0:
        return np.zeros((0, size))
    generator = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    prior: Prior | None = optimum.prior
    if prior is not None:
        prior = Prior(
            prior.mean + optimum.prior_width * generator.standard_normal((draws, size)),
            np.repeat(prior.precision[None, :], draws, axis=0),
        )
    evenness = 1 + min(_MOST_EVENNESS, 0.5 * size / count)
    if max(draws, of_all or 0) * model.rows > ONE_STEP_ELEMENTS:
        return _one_step(model, log_loss, optimum, weights, groups, draws, delta, generator)
    found = np.empty((draws, size))
    block = max(1, 4_000_000 // model.rows)
    for at in range(0, draws, block):
        some = min(block, draws - at)
        picks = count * generator.dirichlet(np.full(count, evenness), size=some)
        start = np.repeat(optimum.theta[None, :], some, axis=0)
        found[at : at + some] = minimise(
            model,
            log_loss,
            start,
            picks[:, groups] * weights,
            delta=delta,
            prior=None if prior is None else prior.take(slice(at, at + some)),
            warm=True,
            iterations=80,
            tolerance=_DRAW_TOLERANCE,
        ).theta
    return found


def _one_step(
    model: Model,
    log_loss: Array,
    optimum: Optimum,
    weights: Array,
    groups: Array,
    draws: int,
    delta: float,
    generator: np.random.Generator,
) -> Array:
    """One Newton step a draw from the optimum: what refitting amounts to on a very large table.

    The gradient is a sum over many groups, so a resampled one is normal with the covariance of the
    groups' parts (the score bootstrap and its limit). A prior whose mean is redrawn adds its own.
    """
    point = model.centred(optimum.theta[None, :])
    value, jacobian = model.log_loss_and_jacobian(point)
    residual = value[0] - log_loss
    slopes = jacobian[0] * (weights * huber(residual, delta)[1])[:, None]
    count = int(groups.max()) + 1
    sums = np.stack(
        [np.bincount(groups, weights=column, minlength=count) for column in slopes.T], axis=1
    )
    # Near an L1 norm the curvature is the density of residuals at 0, not the rows inside ±δ.
    bend = weights * density_curvature(residual, delta)
    matrix = (jacobian[0] * bend[:, None]).T @ jacobian[0]
    told = np.zeros(len(matrix))
    if optimum.prior is not None:
        matrix = matrix + np.diag(optimum.prior.precision)
        told = optimum.prior.precision * optimum.prior_width
    inverse = np.linalg.pinv(matrix, hermitian=True)
    low = np.array([p.low for p in model.form.parameters])
    high = np.array([p.high for p in model.form.parameters])
    sums = sums - sums.mean(axis=0)
    spread = inverse @ (sums.T @ sums + np.diag(told**2)) @ inverse
    values, vectors = np.linalg.eigh(0.5 * (spread + spread.T))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    found = point + generator.standard_normal((draws, len(values))) @ root.T
    return model.natural(np.clip(found, low, high))


@dataclasses.dataclass(frozen=True)
class NoiseModel:
    """The noise of one run, in ln loss."""

    quantiles: Array
    """Quantiles of ln(observed / predicted)."""
    floor: float | None
    """Standard deviation between repeats of one configuration, where there are any."""
    repeats: int
    """Degrees of freedom behind the floor."""

    @property
    def half_width(self) -> float:
        """Half of the 90 % interval of one run's noise."""
        return float(np.quantile(np.abs(self.quantiles), 0.9))

    def summary(self) -> dict[str, Any]:
        """Plain values for a report."""
        return {
            "residual_standard_deviation": float(np.std(self.quantiles)),
            "repeat_standard_deviation": self.floor,
            "repeat_degrees_of_freedom": self.repeats,
        }


def noise_model(
    log_loss: Array,
    residual: Array,
    configuration: Array,
    run: Array,
    groups: Array,
    parameters: int,
) -> NoiseModel:
    """Noise from residuals [m] and from repeats.

    Residuals of a fit are smaller than the noise, by √((m − p)/m) in the normal case, which is put
    back; where few are left over their size is itself uncertain, which Student's deviate allows
    for. m is what the rows are worth where those of a run err together. Repeats set a floor.
    """
    m = len(residual) / design_effect(residual, groups)
    left = max(m - parameters, 0.25 * m)
    scale = np.sqrt(m / left) * deviate(left) / deviate(np.inf)
    quantiles = np.quantile(residual * scale, np.linspace(0, 1, RESIDUAL_QUANTILES))
    found = noise_floor(log_loss, configuration, run)
    spread = float(np.std(quantiles))
    if found is not None and 0 < spread < found[0]:
        quantiles = quantiles * (found[0] / spread)
    return NoiseModel(quantiles, found[0] if found else None, found[1] if found else 0)


def design_effect(residual: Array, groups: Array) -> float:
    """How many times more a mean of correlated rows varies than of independent ones (≥ 1)."""
    counts = np.bincount(groups)
    if len(counts) < 2 or counts.max() == 1:
        return 1.0
    score = np.clip(residual, *np.quantile(residual, [0.02, 0.98]))
    score = score - score.mean()
    total = float((score**2).sum())
    return max(1.0, float((np.bincount(groups, score) ** 2).sum()) / total) if total > 0 else 1.0


def noise_floor(log_loss: Array, configuration: Array, run: Array) -> tuple[float, int] | None:
    """Standard deviation of ln loss between runs of one configuration, and its degrees of freedom.

    `configuration` numbers rows of equal N, D and shape. None where nothing was repeated.
    """
    total, freedom = 0.0, 0
    order = np.argsort(configuration, kind="stable")
    edges = np.flatnonzero(np.diff(configuration[order])) + 1
    for rows in np.split(order, edges):
        if len(rows) > 1 and len(set(run[rows])) == len(rows):
            values = log_loss[rows]
            total += float(((values - values.mean()) ** 2).sum())
            freedom += len(rows) - 1
    return (float(np.sqrt(total / freedom)), freedom) if freedom else None
