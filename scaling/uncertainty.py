"""How sure a fit is: bootstrap by run, the noise of one run, and the floor that repeats set."""

import numpy as np

from scaling.model import Array, Model
from scaling.solver import Prior, minimise

RESIDUAL_QUANTILES = 41


def bootstrap_weights(groups: Array, draws: int, generator: np.random.Generator) -> Array:
    """Row weights [draws, rows]: how often each row's group was drawn with replacement."""
    count = int(groups.max()) + 1
    picks = generator.multinomial(count, np.full(count, 1 / count), size=draws)
    return picks[:, groups].astype(float)


def bootstrap(
    model: Model, log_loss: Array, theta: Array, weights: Array, groups: Array, draws: int, *,
    delta: float, prior: Prior | None, generator: np.random.Generator,
) -> Array:
    """Refit on `draws` resamples of the groups, from the optimum theta [p]; draws [draws, p]."""
    resampled = bootstrap_weights(groups, draws, generator) * weights
    start = np.repeat(theta[None, :], draws, axis=0)
    return minimise(model, log_loss, start, resampled, delta=delta, prior=prior, warm=True,
                    iterations=60).theta


def percentile_intervals(draws: Array, level: float = 0.9) -> tuple[Array, Array]:
    """Percentile interval of each column of draws [k, p]."""
    tail = 0.5 * (1 - level)
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def residual_quantiles(residual: Array, parameters: int, floor: float | None) -> Array:
    """Quantiles of the noise of one run, from fit residuals ln(observed / predicted) [m].

    Residuals of a fit are smaller than the noise, by √((m − p)/m) in the normal case, which is put
    back. `floor` is the standard deviation between repeated runs: noise is never less.
    """
    m = len(residual)
    scale = np.sqrt(m / max(m - parameters, 1))
    quantiles = np.quantile(residual * scale, np.linspace(0, 1, RESIDUAL_QUANTILES))
    spread = float(np.std(residual * scale))
    if floor is not None and 0 < spread < floor:
        quantiles = quantiles * (floor / spread)
    return quantiles


def noise_floor(
    log_loss: Array, configuration: Array, run: Array
) -> tuple[float, int] | None:
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
