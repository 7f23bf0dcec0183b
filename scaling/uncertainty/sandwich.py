"""How far chance moves a fit: the sandwich covariance, where the rows of a run err together.

At an optimum, θ̂ − θ ≈ H⁻¹ Σ_g s_g with H the curvature of the objective and s_g the gradient of
the rows of run g, so the covariance is H⁻¹ (Σ_g s_g s_gᵀ) H⁻¹ (Huber 1967; Liang and Zeger 1986).
A fit bends towards each run, the more the less other runs resemble it; s_g is therefore taken at
the fit that leaves run g out, to first order: s_g ← (I − H_g H⁻¹)⁻¹ s_g (the jackknife, CR3 of Bell
and McCaffrey 2002). Without it a parameter that few runs tell, as in a design of one axis at a
time, looks surer than it is.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.newton import huber

_MOST_LEVERAGE = 0.9  # of one run: beyond it, leaving it out leaves next to nothing

NORMAL = 1.6449
"""95 % point of the normal distribution: half a 90 % interval."""

_FEW_RUNS = 2  # a parameter, below which runs cannot say how they differ


@dataclasses.dataclass(frozen=True)
class Local:
    """What the rows say close to an optimum, in inner coordinates."""

    inverse: Array
    """H⁻¹ [p, p]; 0 for parameters at a bound."""
    covariance: Array
    """Sandwich [p, p]; 0 for parameters at a bound."""
    free: Array
    """Which parameters are within their bounds [p]."""
    deviate: float
    """Half a 90 % interval in standard errors: Student's, for the runs left over."""

    @property
    def units(self) -> Array:
        """What one unit of log likelihood is worth in the objective, along each parameter [p].

        Twice the rise of the objective, all others refitted, is χ²(1) times this where the model
        holds (Chandler and Bate 2007): the noise's scale and its correlation within runs at once.
        """
        across, own = np.diag(self.covariance), np.diag(self.inverse)
        known = self.free & (own > 0) & (across > 0)
        if not known.any():
            return np.full(len(own), 1e-12)
        units = np.divide(across, own, out=np.zeros(len(own)), where=known)
        return np.where(known, units, np.median(units[known]))


def deviate(freedom: float) -> float:
    """95 % point of Student's distribution, by two terms of its expansion about the normal one."""
    z = NORMAL
    nu = max(freedom, 3.0)
    return z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)


def density_curvature(residual: Array, delta: float) -> Array:
    """Expected ρ'' of each row, from the density of residuals near 0 by a kernel; 1 if δ = ∞.

    Near an L1 norm the curvature is that density, not the share of rows that lie inside ±δ.
    """
    if np.isinf(delta):
        return np.ones_like(residual)
    low, high = np.quantile(residual, [0.25, 0.75])
    width = max(0.9 * (high - low) / 1.34 * len(residual) ** -0.2, delta)
    inside = float(np.mean(np.abs(residual) <= width))
    return np.full_like(residual, inside * min(1.0, delta / width))


def local(
    model: Model, log_loss: Array, theta: Array, weights: Array, groups: Array, delta: float
) -> Local:
    """Curvature and covariance at theta [p]; `groups` numbers the run of each row [m]."""
    size = len(theta)
    value, jacobian = model.log_loss_and_jacobian(model.centred(theta[None, :]))
    residual = value[0] - log_loss
    low = np.array([p.low for p in model.form.parameters])
    high = np.array([p.high for p in model.form.parameters])
    free = (theta > low + 1e-9) & (theta < high - 1e-9)
    at = np.flatnonzero(free)
    inner = jacobian[0] @ model.centring[:, at]
    scale = np.sqrt(np.maximum((inner**2).sum(axis=0), 1e-300))
    inner = inner / scale  # columns of unit length: pseudo-inverses then cut what is truly singular
    bend = weights * density_curvature(residual, delta)
    slopes = inner * (weights * huber(residual, delta)[1])[:, None]
    values, vectors = np.linalg.eigh((inner * bend[:, None]).T @ inner)
    kept = values > 1e-13 * max(float(values.max(initial=0.0)), 1e-300)
    root = vectors[:, kept] / np.sqrt(values[kept])  # H⁻¹ = root·rootᵀ
    sums = _left_out(inner @ root, slopes @ root, bend, groups)
    count = int(groups.max()) + 1
    if count < _FEW_RUNS * len(at):  # sums over so few runs nearly cancel: add the rows' own spread
        each = _left_out(inner @ root, slopes @ root, bend, np.arange(len(groups)))
        sums = np.concatenate([sums, each])
    spread = root @ (sums.T @ sums) @ root.T
    inverse, covariance = np.zeros((2, size, size))
    inverse[np.ix_(at, at)] = root @ root.T / np.outer(scale, scale)
    covariance[np.ix_(at, at)] = spread / np.outer(scale, scale)
    return Local(inverse, covariance, free, deviate(count - len(at)))


def _left_out(inner: Array, slopes: Array, bend: Array, groups: Array) -> Array:
    """Gradient of each run's rows at the fit without them [G, q], where H is the identity."""
    count, size = int(groups.max()) + 1, inner.shape[1]
    if not size:  # every parameter stands at a bound
        return np.zeros((count, 0))
    own = np.zeros((count, size, size))
    for column in range(size):
        for other in range(column + 1):
            part = np.bincount(groups, inner[:, column] * bend * inner[:, other], minlength=count)
            own[:, column, other] = own[:, other, column] = part
    sums = np.stack([np.bincount(groups, column, minlength=count) for column in slopes.T], axis=1)
    leverage, axes = np.linalg.eigh(own)
    along = np.einsum("gkq,gk->gq", axes, sums) / (1 - np.minimum(leverage, _MOST_LEVERAGE))
    return np.einsum("gkq,gq->gk", axes, along)
