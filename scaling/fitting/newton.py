"""A damped Newton method for many robust fits at once.

Minimises Σ_i w_i·ρ(ln L_i(θ) − ln y_i) + ½ Σ_j P_j (θ_j − μ_j)² for S problems side by side, where
ρ is Huber's function, or the half square when delta is infinite. With δ = 1e-3 the objective is
nearly an L1 norm, on which quasi-Newton methods stall; so δ shrinks in steps from a smooth problem,
the step solves (exact Hessian + λ·robust Gauss–Newton matrix), and λ falls to zero near the
optimum, where Newton's method on the rows inside ±δ ends at a stationary point.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.bound_form import Array, Evaluation, Model

_CHUNK = 60_000  # elements [draws × rows] worked on at once: keeps temporaries in the cache
_LONGEST_STEP = 1.5  # in any inner coordinate: exponents and log coefficients
_DAMPING_GIVES_UP = 1e12
DELTA_STEPS = (0.1, 0.03, 0.01, 0.004, 0.002)  # smoother problems on the way to the wanted delta
_ON_THE_WAY = (60, 1e-7)  # iterations and tolerance of those
_TOLERANCE = 1e-13  # of the objective: a Newton step that promises less ends the fit
_FLAT = 1e-8  # of the objective: what a step of 1 in any coordinate may promise where all is flat


@dataclasses.dataclass(frozen=True)
class Prior:
    """A Gaussian prior in inner coordinates: mean and precision, [p] or [S, p].

    The precision is in units of the objective, so that it adds up with the data.
    """

    mean: Array
    precision: Array

    def broadcast(self, draws: int) -> "Prior":
        """With a row for each problem."""
        size = self.mean.shape[-1]
        return Prior(
            np.broadcast_to(self.mean, (draws, size)),
            np.broadcast_to(self.precision, (draws, size)),
        )

    def take(self, rows: Array | slice) -> "Prior":
        """The rows of some problems."""
        return Prior(self.mean[rows], self.precision[rows])


@dataclasses.dataclass(frozen=True)
class Solutions:
    """How S fits ended. Arrays over S; theta in inner (natural, not centred) coordinates."""

    theta: Array
    objective: Array
    """Σ w·ρ without the prior."""
    penalised: Array
    """The same with the prior: what was minimised."""
    gradient_norm: Array
    """Largest component of the gradient in free centred coordinates."""
    iterations: Array
    converged: Array
    """Whether the last Newton step promised no further decrease, or the gradient is next to 0 (a
    term that vanishes has no optimum to end at: its coefficient falls for ever)."""

    def take(self, rows: Array) -> "Solutions":
        """Some of the fits."""
        return Solutions(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def huber(residual: Array, delta: float) -> tuple[Array, Array]:
    """ρ and ρ'."""
    if np.isinf(delta):
        return 0.5 * residual**2, residual
    score = np.clip(residual, -delta, delta)
    return score * (residual - 0.5 * score), score


def _bends(residual: Array, score: Array, delta: float) -> tuple[Array, Array]:
    """ρ'' and ρ'/residual."""
    if np.isinf(delta):
        ones = np.ones_like(residual)
        return ones, ones
    size = np.abs(residual)
    return (size <= delta).astype(float), delta / np.maximum(size, delta)


def minimise(
    model: Model,
    log_loss: Array,
    theta: Array,
    weights: Array,
    *,
    delta: float,
    prior: Prior | None = None,
    warm: bool = False,
    iterations: int = 300,
    tolerance: float = _TOLERANCE,
) -> Solutions:
    """Fit from S starting points theta [S, p] with row weights [S, m] or [m].

    `warm` skips the smoother problems: for starts already near an optimum.
    """
    draws, size = theta.shape
    weights = np.broadcast_to(weights, (draws, model.rows))
    if prior is None:
        prior = Prior(np.zeros(size), np.zeros(size))
    prior = prior.broadcast(draws)
    chunk = max(1, _CHUNK // max(model.rows, 1))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        pieces = [
            _minimise_chunk(
                model,
                log_loss,
                theta[at : at + chunk],
                weights[at : at + chunk],
                delta,
                prior.take(slice(at, at + chunk)),
                warm,
                iterations,
                tolerance,
            )
            for at in range(0, draws, chunk)
        ]
    return Solutions(
        *(
            np.concatenate([getattr(piece, field.name) for piece in pieces])
            for field in dataclasses.fields(Solutions)
        )
    )


def _minimise_chunk(
    model: Model,
    log_loss: Array,
    theta: Array,
    weights: Array,
    delta: float,
    prior: Prior,
    warm: bool,
    iterations: int,
    tolerance: float,
) -> Solutions:
    # The prior stands on parameters that centring leaves alone (see Model.centring).
    state = model.centred(np.asarray(theta, dtype=float))
    weights = np.array(weights, dtype=float)
    for step in DELTA_STEPS:
        if step > delta and not warm:
            state = _newton(model, log_loss, state, weights, step, prior, *_ON_THE_WAY).theta
    end = _newton(model, log_loss, state, weights, delta, prior, iterations, tolerance)
    return dataclasses.replace(end, theta=model.natural(end.theta))


def _newton(
    model: Model,
    log_loss: Array,
    theta: Array,
    weights: Array,
    delta: float,
    prior: Prior,
    iterations: int,
    tolerance: float,
) -> Solutions:
    """Newton damped by the robust Gauss–Newton matrix, per problem, in centred coordinates."""
    draws, size = theta.shape
    low = np.array([p.low for p in model.form.parameters])
    high = np.array([p.high for p in model.form.parameters])
    end = Solutions(
        np.array(theta),
        np.zeros(draws),
        np.zeros(draws),
        np.full(draws, np.inf),
        np.zeros(draws, dtype=int),
        np.zeros(draws, dtype=bool),
    )
    # Everything below is over the problems still running, whose numbers are in `active`.
    active = np.arange(draws)
    theta = np.clip(theta, low, high)
    damping = np.full(draws, 1.0)

    def measure(points: Array) -> tuple[Evaluation, Array, Array, Array, Array]:
        evaluation = model.evaluate(points)
        residual = evaluation.log_loss - log_loss
        value, score = huber(residual, delta)
        value *= weights
        objective = value.sum(axis=1)
        penalty = 0.5 * ((points - prior.mean) ** 2 * prior.precision).sum(axis=1)
        return evaluation, residual, score, objective, objective + penalty

    evaluation, residual, score, objective, penalised = measure(theta)
    diagonal = np.arange(size)
    for iteration in range(1, iterations + 1):
        bend, robust = _bends(residual, score, delta)
        gradient, exact, majorant = model.gradient_and_curvatures(
            theta, evaluation, weights * score, weights * bend, weights * robust
        )
        gradient += prior.precision * (theta - prior.mean)
        held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
        gradient = np.where(held, 0.0, gradient)
        norm = np.abs(gradient).max(axis=1, initial=0.0)
        across = majorant[:, diagonal, diagonal]
        exact += damping[:, None, None] * majorant
        ridge = 1e-10 * (across + across.max(axis=1, keepdims=True)) + 1e-300
        exact[:, diagonal, diagonal] += prior.precision + ridge
        if held.any():
            exact[held[:, :, None] | held[:, None, :]] = 0.0
            exact[:, diagonal, diagonal] = np.where(held, 1.0, exact[:, diagonal, diagonal])
        step = _solve(exact, -gradient)
        longest = np.abs(step).max(axis=1)
        step *= np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        trial = np.clip(theta + step, low, high)
        promised = -((trial - theta) * gradient).sum(axis=1)
        there = measure(trial)
        gain = penalised - there[4]
        better = gain > 0
        # A step that promises next to nothing ends the fit, whether or not rounding lets it gain.
        tiny = (promised >= 0) & (promised <= tolerance * np.maximum(penalised, 1e-30))
        settled = tiny & (damping <= 1.0)
        damping = np.where(
            better,
            np.maximum(damping * np.where(gain > 0.25 * promised, 0.1, 1.0), 1e-15),
            np.maximum(damping, 0.5) * 10.0,
        )
        if better.all():
            theta = trial
            evaluation, residual, score, objective, penalised = there
        else:
            theta = np.where(better[:, None], trial, theta)
            evaluation.replace(better, there[0])
            for mine, other in ((residual, there[1]), (score, there[2])):
                np.copyto(mine, other, where=better[:, None])
            for mine, other in ((objective, there[3]), (penalised, there[4])):
                np.copyto(mine, other, where=better)
        flat = norm <= _FLAT * penalised
        finished = settled | flat | (damping > _DAMPING_GIVES_UP)
        if iteration == iterations:
            finished[:] = True
        if finished.any():
            at = active[finished]
            end.theta[at] = theta[finished]
            end.objective[at], end.penalised[at] = objective[finished], penalised[finished]
            end.gradient_norm[at], end.iterations[at] = norm[finished], iteration
            end.converged[at] = (settled | flat)[finished]
            if finished.all():
                break
            rest = ~finished
            active, theta, damping = active[rest], theta[rest], damping[rest]
            weights, prior = weights[rest], prior.take(rest)
            evaluation, residual, score = evaluation.take(rest), residual[rest], score[rest]
            objective, penalised = objective[rest], penalised[rest]
    return end


def _solve(matrix: Array, right: Array) -> Array:
    """Solve each system; singular ones are answered by their pseudo-inverse."""
    try:
        return np.linalg.solve(matrix, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        return np.einsum("spq,sq->sp", np.linalg.pinv(matrix), right)
