"""A damped Newton method for many robust fits at once.

Minimises Σ_i w_i·ρ(ln L_i(θ) − ln y_i) + ½ Σ_j P_j (θ_j − μ_j)² for S problems side by side, where ρ
is Huber's function, or the half square when delta is infinite. With δ = 1e-3 the objective is nearly
an L1 norm, on which quasi-Newton methods stall; so δ shrinks in steps from a smooth problem, the step
solves (exact Hessian + λ·robust Gauss–Newton matrix), and λ falls to zero near the optimum, where
Newton's method on the rows inside ±δ ends at a stationary point to machine precision.
"""

import dataclasses

import numpy as np

from scaling.model import Array, Model

_CHUNK = 400_000  # elements [draws × rows] worked on at once: keeps temporaries near the cache
_LONGEST_STEP = 1.5  # in any inner coordinate: exponents and log coefficients
DELTA_STEPS = (0.1, 0.02, 0.004)  # smoother problems solved on the way to the wanted delta


@dataclasses.dataclass(frozen=True)
class Prior:
    """A Gaussian prior in inner coordinates: mean [p] and precision [p] in units of the objective."""

    mean: Array
    precision: Array


@dataclasses.dataclass(frozen=True)
class Solutions:
    """How S fits ended. Arrays over S; theta in inner (natural, not centred) coordinates."""

    theta: Array
    objective: Array
    """Σ w·ρ without the prior."""
    penalised: Array
    """The same with the prior: what was minimised."""
    gradient_norm: Array
    """Largest component of the gradient in free coordinates."""
    iterations: Array
    converged: Array
    """Whether the last Newton step promised no further decrease."""


def huber(residual: Array, delta: float) -> tuple[Array, Array, Array, Array]:
    """ρ, ρ', ρ'' and ρ'/residual."""
    if np.isinf(delta):
        ones = np.ones_like(residual)
        return 0.5 * residual**2, residual, ones, ones
    size = np.abs(residual)
    score = np.clip(residual, -delta, delta)
    inside = size <= delta
    value = score * (residual - 0.5 * score)
    return value, score, inside.astype(float), delta / np.maximum(size, delta)


def minimise(
    model: Model, log_loss: Array, theta: Array, weights: Array, *, delta: float,
    prior: Prior | None = None, warm: bool = False, iterations: int = 150,
) -> Solutions:
    """Fit from S starting points theta [S, p] with row weights [S, m] or [m].

    `warm` skips the smoother problems: for starts already near an optimum.
    """
    weights = np.broadcast_to(weights, (len(theta), model.rows))
    chunk = max(1, _CHUNK // max(model.rows, 1))
    pieces = [
        _minimise_chunk(model, log_loss, theta[at:at + chunk], weights[at:at + chunk], delta, prior,
                        warm, iterations)
        for at in range(0, len(theta), chunk)
    ]
    return Solutions(*(np.concatenate([getattr(piece, field.name) for piece in pieces])
                       for field in dataclasses.fields(Solutions)))


def _minimise_chunk(
    model: Model, log_loss: Array, theta: Array, weights: Array, delta: float,
    prior: Prior | None, warm: bool, iterations: int,
) -> Solutions:
    state = model.centred(np.asarray(theta, dtype=float))
    deltas = [step for step in DELTA_STEPS if step > delta] if not warm else []
    for step in deltas:
        state = _newton(model, log_loss, state, weights, step, prior, 12, 1e-4)[0]
    state, objective, penalised, norm, used, done = _newton(
        model, log_loss, state, weights, delta, prior, iterations, 1e-13)
    return Solutions(model.natural(state), objective, penalised, norm, used, done)


def _newton(
    model: Model, log_loss: Array, theta: Array, weights: Array, delta: float,
    prior: Prior | None, iterations: int, tolerance: float,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Newton with damping by the robust Gauss–Newton matrix, per problem, in centred coordinates."""
    draws, size = theta.shape
    low = np.array([p.low for p in model.form.parameters])
    high = np.array([p.high for p in model.form.parameters])
    mean = np.zeros(size) if prior is None else prior.mean
    precision = np.zeros(size) if prior is None else prior.precision
    theta = np.clip(theta, low, high)
    damping = np.full(draws, 1.0)
    norm = np.full(draws, np.inf)
    used = np.zeros(draws, dtype=int)
    done = np.zeros(draws, dtype=bool)

    def penalty(points: Array) -> Array:
        return 0.5 * ((points - mean) ** 2 @ precision)

    def value_of(points: Array, at: Array) -> Array:
        value = huber(model.log_loss(points) - log_loss, delta)[0]
        return np.einsum("sm,sm->s", weights[at], value)

    everyone = np.arange(draws)
    objective = value_of(theta, everyone)
    penalised = objective + penalty(theta)
    gradient = np.zeros((draws, size))
    exact, majorant = np.zeros((2, draws, size, size))
    stale = np.ones(draws, dtype=bool)
    for _ in range(iterations):
        active = np.flatnonzero(~done)
        if active.size == 0:
            break
        fresh = active[stale[active]]
        if fresh.size:
            points, weight = theta[fresh], weights[fresh]
            residual = model.log_loss(points) - log_loss
            _, score, bend, robust = huber(residual, delta)
            gradient[fresh], exact[fresh], majorant[fresh] = model.gradient_and_curvatures(
                points, weight * score, weight * bend, weight * robust)
            gradient[fresh] += precision * (points - mean)
            stale[fresh] = False
        used[active] += 1
        points, slope = theta[active], gradient[active]
        held = ((points <= low) & (slope > 0)) | ((points >= high) & (slope < 0))
        free_slope = np.where(held, 0.0, slope)
        norm[active] = np.abs(free_slope).max(axis=1, initial=0.0)
        matrix = exact[active] + damping[active, None, None] * majorant[active]
        diagonal = np.einsum("spp->sp", majorant[active])
        ridge = precision + 1e-10 * (diagonal + diagonal.max(axis=1, keepdims=True)) + 1e-300
        at = np.arange(size)
        matrix[:, at, at] += ridge
        blocked = held[:, :, None] | held[:, None, :]
        matrix = np.where(blocked, 0.0, matrix)
        matrix[:, at, at] = np.where(held, 1.0, matrix[:, at, at])
        step = _solve(matrix, -free_slope)
        longest = np.abs(step).max(axis=1)
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        trial = np.clip(points + step, low, high)
        promised = -np.einsum("sp,sp->s", free_slope, trial - points)
        trial_objective = value_of(trial, active)
        trial_penalised = trial_objective + penalty(trial)
        gain = penalised[active] - trial_penalised
        scale = np.maximum(penalised[active], 1e-30)
        better = (gain > 0) & np.isfinite(trial_penalised)
        # A step that promises next to nothing ends the fit, whether or not rounding lets it gain.
        tiny = (promised >= 0) & (promised <= tolerance * scale) & (damping[active] <= 1.0)
        hopeless = damping[active] > 1e12
        winners = active[better]
        theta[winners] = trial[better]
        objective[winners] = trial_objective[better]
        penalised[winners] = trial_penalised[better]
        stale[winners] = True
        damping[active] = np.where(
            better, np.maximum(damping[active] * np.where(gain > 0.25 * promised, 0.1, 1.0), 1e-15),
            np.maximum(damping[active], 1e-3) * 6.0)
        done[active] = tiny | hopeless
    settled = done & (damping <= 1e12)
    return theta, objective, penalised, norm, used, settled


def _solve(matrix: Array, right: Array) -> Array:
    """Solve each system; a singular one is answered by its pseudo-inverse."""
    try:
        return np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return np.einsum("spq,sq->sp", np.linalg.pinv(matrix), right)
