"""What a fit's optimum is worth: conditioning, bounds, identification, outliers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.model import Array, Model
from scaling.optimum import Optimum
from scaling.prior import unit_of
from scaling.solver import Prior, huber, minimise
from scaling.terms import Form

_RISE = 1.35  # half of χ²(1) at 90 %: units of log likelihood a real change costs at least
_FAR = {"coefficient": float(np.log(10)), "irreducible": float(np.log(2)), "exponent": 0.3}
"""How far a parameter is moved, in inner coordinates."""
_PINNED = 1e9  # precision that holds a parameter in place, in units of log likelihood
_COLLINEAR = 0.03  # scatter of ln D about a line in ln N below which one stands for the other
_OUTLIER = 6.0  # robust standard deviations
_MOST_ROWS = 2_000  # of a profile: what so many rows do not tell apart is called unidentified
_GONE = 1e-7  # share of the loss below which a term has vanished


def curvature(model: Model, log_loss: Array, theta: Array, weights: Array, delta: float) -> Array:
    """Robust Gauss–Newton matrix [p, p] at theta, in inner (not centred) coordinates."""
    point = model.centred(theta[None, :])
    found = model.evaluate(point)
    residual = found.log_loss - log_loss
    _, score = huber(residual, delta)
    size = np.maximum(np.abs(residual), 1e-300)
    robust = weights * (np.abs(score) / size)
    matrix = model.gradient_and_curvatures(point, found, weights * score, robust, robust)[2][0]
    return model.centring.T @ matrix @ model.centring


def condition_number(matrix: Array) -> float:
    """Ratio of extreme singular values; infinite for a singular matrix."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0 else float("inf")


def at_bound(form: Form, model: Model, theta: Array) -> list[str]:
    """Parameters at a bound, and coefficients of terms that have vanished."""
    found = [p.name for p, value in zip(form.parameters, theta, strict=True)
             if p.low < p.high and (value <= p.low + 1e-9 or value >= p.high - 1e-9)]
    if form.log_linear:
        shares = model.evaluate(model.centred(theta[None, :])).parts
        for term, share in zip(form.terms, shares, strict=True):
            if float(share.max()) < _GONE and term.coefficients[0] not in found:
                found.append(term.coefficients[0])
    return found


def design_effect(residual: Array, groups: Array) -> float:
    """How many times more a mean of correlated rows varies than of independent ones (≥ 1)."""
    counts = np.bincount(groups).astype(float)
    if len(counts) < 2 or counts.max() == 1:
        return 1.0
    score = np.clip(residual, *np.quantile(residual, [0.02, 0.98]))
    score = score - score.mean()
    sums = np.bincount(groups, weights=score)
    total = float((score**2).sum())
    return max(1.0, float((sums**2).sum()) / total) if total > 0 else 1.0


def _step(form: Form, position: int) -> float:
    parameter = form.parameters[position]
    if parameter.name == "E":
        return _FAR["irreducible"]
    return _FAR["coefficient"] if parameter.log else _FAR["exponent"]


def not_identified(
    form: Form, model: Model, log_loss: Array, optimum: Optimum, weights: Array, groups: Array, *,
    delta: float,
) -> dict[str, str]:
    """Parameters the runs do not tell, with the reason.

    Each is moved far to either side and all others are fitted again, without any prior (profile
    likelihood): where that costs less than chance on either side, the runs do not tell it. Rows of
    one run count as one as far as they err together.
    """
    found = _structural(form, model.features)
    size = len(form.names)
    if model.rows > _MOST_ROWS:
        some = np.random.default_rng(0).choice(model.rows, _MOST_ROWS, replace=False)
        model = Model(form, {name: column[some] for name, column in model.features.items()})
        log_loss, weights = log_loss[some], weights[some]
        groups = np.unique(groups[some], return_inverse=True)[1].ravel()
    rows = float(weights.sum())
    residual = model.log_loss(model.centred(optimum.theta[None, :]))[0] - log_loss
    objective = float((weights * huber(residual, delta)[0]).sum())
    unit = unit_of(objective, rows, size, delta) * design_effect(residual, groups)
    free = [k for k, p in enumerate(form.parameters) if p.name not in found and p.low < p.high]
    if not free:
        return found
    targets = np.array([(k, side) for k in free for side in (-1.0, 1.0)])
    start = np.repeat(optimum.theta[None, :], len(targets) + 1, axis=0)
    mean, precision = np.zeros_like(start), np.zeros_like(start)
    pinned = np.zeros(len(targets), dtype=bool)
    for row, (k, side) in enumerate(targets):
        position = int(k)
        parameter = form.parameters[position]
        wanted = optimum.theta[position] + side * _step(form, position)
        value = float(np.clip(wanted, parameter.low, parameter.high))
        pinned[row] = abs(value - optimum.theta[position]) < 0.05 * _step(form, position)
        mean[row], precision[row, position] = 0.0, _PINNED * unit
        mean[row, position] = start[row, position] = value
    # Centring mixes coefficients with exponents; a pinned coefficient must stay one coordinate.
    plain = Model(form, model.features, centre=False)
    ends = minimise(plain, log_loss, start, weights, delta=delta, prior=Prior(mean, precision),
                    warm=True, iterations=60)
    base = min(float(ends.objective[-1]), objective)
    for row, (k, _) in enumerate(targets):
        rise = (float(ends.objective[row]) - base) / unit
        name = form.parameters[int(k)].name
        if rise < _RISE and not pinned[row] and name not in found:
            found[name] = (f"moved from {_shown(form, int(k), optimum.theta[int(k)])} to "
                           f"{_shown(form, int(k), ends.theta[row, int(k)])} it fits as well")
    return found


def _shown(form: Form, position: int, value: float) -> str:
    return f"{np.exp(value) if form.parameters[position].log else value:.3g}"


def _structural(form: Form, features: Mapping[str, Array]) -> dict[str, str]:
    """Parameters that a constant or a proportional column leaves open, whatever the losses."""
    found: dict[str, str] = {}
    plain = {"ln_n": "N", "ln_d": "tokens"}
    for term in form.terms:
        constant = [p for p in term.powers
                    if p.feature in features and p.feature != "one"
                    and np.ptp(features[p.feature]) < 1e-9]
        for power in constant:
            what = plain.get(power.feature, power.feature)
            found[power.parameter] = f"{what} does not vary"
            if len(constant) == len(term.powers):
                found[term.coefficients[0]] = f"{what} does not vary"
                found["E"] = f"{what} does not vary"
    for piece in form.bowls:
        if np.ptp(features[piece.feature]) < 1e-9:
            found[piece.strength] = found[piece.optimum] = f"{piece.feature} does not vary"
    ln_n, ln_d = features.get("ln_n"), features.get("ln_d")
    if ln_n is not None and ln_d is not None and np.ptp(ln_n) > 1e-9 and np.ptp(ln_d) > 1e-9:
        slope, level = np.polyfit(ln_n - ln_n.mean(), ln_d, 1)
        scatter = float(np.std(ln_d - level - slope * (ln_n - ln_n.mean())))
        if scatter < _COLLINEAR:
            why = f"tokens follow N^{slope:.2f}: the two terms cannot be told apart"
            for term in form.terms:
                for power in term.powers:
                    if power.feature in ("ln_n", "ln_d"):
                        found[power.parameter] = found[term.coefficients[0]] = why
    return {name: why for name, why in found.items() if name in form.names}


def outliers(residual: Array, run: Array) -> list[dict[str, Any]]:
    """Rows further off than six robust standard deviations, worst first."""
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    if spread <= 0:
        return []
    far = np.flatnonzero(np.abs(residual) > _OUTLIER * spread)
    order = far[np.argsort(-np.abs(residual[far]))]
    return [{"row": int(row) + 1, "run": str(run[row]), "log_residual": float(residual[row])}
            for row in order]
