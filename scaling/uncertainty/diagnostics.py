"""What a fit's optimum is worth: conditioning, bounds, identification, outliers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.newton import huber
from shapelaw.scaling.terms import Form, Term
from shapelaw.scaling.uncertainty.profile_likelihood import Profile

_FAR = {"coefficient": float(np.log(10)), "irreducible": float(np.log(2)), "exponent": 0.3}
"""How far from its estimate the runs may let a parameter that they tell, in inner coordinates."""
_HARDLY_FALLS = 0.05  # an exponent whose term falls by a tenth over a decade: nearly a constant
_COLLINEAR = 0.03  # scatter of ln D about a line in ln N below which one stands for the other
_OUTLIER = 6.0  # robust standard deviations
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
    found = [
        p.name
        for p, value in zip(form.parameters, theta, strict=True)
        if p.low < p.high and (value <= p.low + 1e-9 or value >= p.high - 1e-9)
    ]
    if form.log_linear:
        shares = model.evaluate(model.centred(theta[None, :])).parts
        for term, share in zip(form.terms, shares[: len(form.terms)], strict=True):
            if float(share.max()) < _GONE and term.coefficients[0] not in found:
                found.append(term.coefficients[0])
    return found


def _step(form: Form, position: int) -> float:
    parameter = form.parameters[position]
    width = parameter.prior or parameter.prior_of_least_loss
    kind = (
        "exponent"
        if not parameter.log
        else ("irreducible" if parameter.name == "E" else "coefficient")
    )
    return min(_FAR[kind], width[1] if width else np.inf)


def not_identified(
    form: Form, features: Mapping[str, Array], told: Profile, theta: Array
) -> dict[str, str]:
    """Parameters the runs do not tell, with the reason and what would tell them.

    `told` is what the runs alone say. A parameter that chance lets move far to either side, or
    further than the width of its prior, is known from elsewhere or not at all; so is one whose
    value theta is not among those the runs allow: its prior put it there.
    """
    found = _structural(form, features)
    for position, parameter in enumerate(form.parameters):
        if parameter.name in found or parameter.low >= parameter.high:
            continue
        low, high = told.low[position], told.high[position]
        far = _step(form, position)
        ends = f"{_shown(form, position, low)} to {_shown(form, position, high)}"
        # What fits as well holds the estimate too, which fits best with its prior.
        wide = (
            f"{_shown(form, position, min(low, theta[position]))} to "
            f"{_shown(form, position, max(high, theta[position]))}"
        )
        if told.theta[position] - low > far or high - told.theta[position] > far:
            found[parameter.name] = (
                f"anything from {wide} fits as well; {_would_tell(form, parameter.name)}"
            )
        elif not low - 1e-9 <= theta[position] <= high + 1e-9:
            found[parameter.name] = (
                f"the runs alone say {ends}, and what is expected of laws weighs against it; "
                f"{_would_tell(form, parameter.name)}"
            )
    for term in form.terms:
        falls = [
            power.parameter for power in term.powers if power.parameter in _exponents_of_size(term)
        ]
        if (
            "E" in form.names
            and "E" not in found
            and falls
            and all(told.low[form.index(name)] < _HARDLY_FALLS for name in falls)
        ):
            found["E"] = (
                f"{falls[0]} may be near 0, and the {term.name} term then stands in for "
                f"E; {_would_tell(form, falls[0])}"
            )
        open_ones = [
            power.parameter
            for power in term.powers
            if power.parameter in found and power.parameter in _exponents_of_size(term)
        ]
        if open_ones and term.coefficients[0] not in found:
            found[term.coefficients[0]] = (
                f"its unit depends on {open_ones[0]}, which is not identified"
            )
    return {name: found[name] for name in form.names if name in found}


def _exponents_of_size(term: Term) -> set[str]:
    """Exponents of columns that carry a unit: a change of theirs changes the coefficient's."""
    return {
        power.parameter
        for power in term.powers
        if power.feature in ("ln_n", "ln_d", "ln_width", "ln_depth", "ln_n_looped")
    }


_READ_AS = {
    "ln_n": "N",
    "ln_d": "tokens",
    "ln_width": "d_model",
    "ln_depth": "depth",
    "ln_aspect": "d_model / layers",
    "ln_x": "d_model / √N",
    "ln_r": "the MLP-to-attention ratio",
    "ln_g": "the GQA group",
    "ln_s": "sharing",
    "ln_n_looped": "sharing",
}


def _would_tell(form: Form, name: str) -> str:
    """What runs would settle a parameter: a wider range of the columns it acts through."""
    read: dict[str, None] = {}
    for term in form.terms:
        own = [power for power in term.powers if power.parameter == name]
        for power in own or (term.powers if name in term.coefficients else ()):
            if power.feature == "one":  # stands beside a power of the same term
                read.update(
                    (_READ_AS[p.feature], None)
                    for p in term.powers
                    if not p.centred and p.feature != "one"
                )
            else:
                read[_READ_AS[power.feature]] = None
    for piece in form.bowls:
        if name in (piece.strength, piece.optimum):
            read[_READ_AS[piece.feature]] = None
    if name == form.sharing_exponent:
        read["sharing"] = None
    if name == "E" or not read:
        return "larger models and more tokens would tell"
    return f"more runs over a wider range of {' and '.join(read)} would tell"


def _shown(form: Form, position: int, value: float) -> str:
    return f"{np.exp(value) if form.parameters[position].log else value:.3g}"


def _structural(form: Form, features: Mapping[str, Array]) -> dict[str, str]:
    """Parameters that a constant or a proportional column leaves open, whatever the losses."""
    found: dict[str, str] = {}
    plain = {"ln_n": "N", "ln_d": "tokens"}
    for term in form.terms:
        constant = [
            p
            for p in term.powers
            if p.feature in features and p.feature != "one" and np.ptp(features[p.feature]) < 1e-9
        ]
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
    return [
        {"row": int(row) + 1, "run": str(run[row]), "log_residual": float(residual[row])}
        for row in order
    ]
