"""What follows from a law: compute-optimal allocation, the best shape and its drift, φ of sharing.

Each quantity is computed for the fit and for its bootstrap draws, and carries their 90 % interval.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.terms import Form

_MOST_DRAWS = 100
_GRID = 241  # points of a one-dimensional search, refined by a parabola
_SPAN = 6.0  # in ln N, to either side of √(N·D), that the best allocation is sought in
_STEP = 0.5  # in ln C, to either side, for a local exponent
_FARTHEST_RATIO = float(np.log(100))
_EDGE = 3.0  # how far, in ln, a best ratio is sought beyond the ratios seen

Quantity = dict[str, Any]


def derived_quantities(
    form: Form, theta: Array, draws: Array, features: Mapping[str, Array]
) -> dict[str, Quantity]:
    """Name -> {value, interval, meaning}; theta [p] and draws [k, p] in inner coordinates."""
    found: dict[str, Quantity] = {}
    index = {name: k for k, name in enumerate(form.names)}

    def add(name: str, of: Callable[[Array], float], meaning: str) -> None:
        value = of(theta)
        if not np.isfinite(value):
            return
        quantity: Quantity = {"value": float(value), "meaning": meaning}
        if len(draws):
            several = np.array([of(draw) for draw in draws[:_MOST_DRAWS]])
            several = several[np.isfinite(several)]
            if len(several):
                low, high = np.quantile(several, [0.05, 0.95])
                quantity["interval"] = [float(low), float(high)]
        found[name] = quantity

    middle = {name: float(np.mean(column)) for name, column in features.items()}
    varies = np.ptp(features["ln_n"]) > 1e-9 and np.ptp(features["ln_d"]) > 1e-9
    if varies:
        log_c = float(np.mean(features["ln_n"] + features["ln_d"]))
        add(
            "compute_optimal_exponent_N",
            lambda t: _allocation_exponent(form, t, middle, log_c),
            "N_opt grows as C^this, C = 6·N·D, at the middle of the runs' compute",
        )
        add(
            "compute_optimal_exponent_D",
            lambda t: 1 - _allocation_exponent(form, t, middle, log_c),
            "D_opt grows as C^this",
        )
        add(
            "compute_optimal_tokens_per_parameter",
            lambda t: float(np.exp(log_c - 2 * _optimal_log_n(form, t, middle, log_c))),
            "D/N of the best allocation at the middle of the runs' compute",
        )
    if "x_opt" in index:
        add(
            "best_width_ratio",
            lambda t: float(np.exp(t[index["x_opt"]])),
            "d_model/√N of least loss",
        )
    if "r_opt" in index:
        add(
            "best_mlp_attention_ratio",
            lambda t: float(np.exp(t[index["r_opt"]])),
            "MLP/attention parameters of least loss",
        )
    if {"rho", "tau"} <= set(index):
        add(
            "best_mlp_attention_ratio",
            lambda t: _ratio(t[index["tau"]], t[index["rho"]]),
            "MLP/attention parameters of least loss, sought between "
            f"{np.exp(-_FARTHEST_RATIO):.2g} and {np.exp(_FARTHEST_RATIO):.3g}: at an end none "
            "is best",
        )
    if {"ln_width", "ln_depth"} <= set(form.features):
        low, high = (float(f(features["ln_n"])) for f in (np.min, np.max))
        for name, log_n in (("smallest", low), ("largest", high)):
            add(
                f"best_aspect_ratio_{name}",
                _AspectAt(form, features, middle, log_n),
                f"d_model/layers of least loss at N = {np.exp(log_n):.3g}",
            )
        if high - low > 0.1:
            add(
                "best_aspect_ratio_drift",
                lambda t: (
                    (
                        _best_aspect(form, t, features, middle, high)
                        - _best_aspect(form, t, features, middle, low)
                    )
                    / (high - low)
                ),
                "the best d_model/layers grows as N^this",
            )
    if "phi" in index:
        add(
            "sharing_phi",
            lambda t: float(t[index["phi"]]),
            "a block applied s times counts as s^this blocks",
        )
    if "sigma" in index:
        add(
            "sharing_phi",
            lambda t: float(t[index["sigma"]] / t[index["alpha"]]),
            "a block applied s times counts as s^this blocks, at equal depth",
        )
    return found


@dataclasses.dataclass(frozen=True)
class _AspectAt:
    """The best d_model/layers at one size, as a function of the parameters."""

    form: Form
    features: Mapping[str, Array]
    middle: Mapping[str, float]
    log_n: float

    def __call__(self, theta: Array) -> float:
        return float(np.exp(_best_aspect(self.form, theta, self.features, self.middle, self.log_n)))


def _ratio(log_numerator: float, exponent: float) -> float:
    """exp(tau/rho), within the ratios anyone builds: where rho is small the loss is flat in r."""
    log_ratio = log_numerator / max(exponent, 1e-6)
    return float(np.exp(np.clip(log_ratio, -_FARTHEST_RATIO, _FARTHEST_RATIO)))


def _least(values: Array, grid: Array) -> float:
    """Position of the least value on an even grid, by a parabola through its neighbours."""
    k = int(np.argmin(values))
    if 0 < k < len(grid) - 1:
        before, here, after = values[k - 1 : k + 2]
        bend = before - 2 * here + after
        if bend > 0:
            return float(grid[k] + 0.5 * (before - after) / bend * (grid[1] - grid[0]))
    return float(grid[k])


def _scaled(middle: Mapping[str, float], log_n: Array) -> dict[str, Array]:
    """Features of the runs' middle shape grown to other N, width and depth alike (N ~ w²·l)."""
    shift = log_n - middle["ln_n"]
    moved = {name: np.full(len(log_n), value) for name, value in middle.items()}
    moved["ln_n"] = log_n
    for name in ("ln_width", "ln_depth"):
        if name in moved:
            moved[name] = moved[name] + shift / 3
    for name in ("ln_n_once", "ln_n_recurrent"):
        if name in moved:
            moved[name] = moved[name] + shift
    return moved


def _optimal_log_n(form: Form, theta: Array, middle: Mapping[str, float], log_c: float) -> float:
    """ln N of least loss at ln(N·D) = log_c, at the runs' middle shape."""
    grid = np.linspace(0.5 * log_c - _SPAN, 0.5 * log_c + _SPAN, _GRID)
    features = _scaled(middle, grid)
    features["ln_d"] = log_c - grid
    return _least(predict_log_loss(form, theta, features), grid)


def _allocation_exponent(
    form: Form, theta: Array, middle: Mapping[str, float], log_c: float
) -> float:
    """d ln N_opt / d ln C: β/(α + β) exactly for the Chinchilla form."""
    index = {name: k for k, name in enumerate(form.names)}
    if form.name in ("chinchilla", "morph", "conditional", "conditional-additive", "looped"):
        alpha, beta = float(theta[index["alpha"]]), float(theta[index["beta"]])
        return beta / (alpha + beta)
    high = _optimal_log_n(form, theta, middle, log_c + _STEP)
    low = _optimal_log_n(form, theta, middle, log_c - _STEP)
    return (high - low) / (2 * _STEP)


def _best_aspect(
    form: Form,
    theta: Array,
    features: Mapping[str, Array],
    middle: Mapping[str, float],
    log_n: float,
) -> float:
    """ln(d_model/layers) of least loss at ln N, with N ~ width²·layers; NaN at the edge."""
    aspect = features["ln_width"] - features["ln_depth"]
    low, high = float(aspect.min()) - _EDGE, float(aspect.max()) + _EDGE
    grid = np.linspace(low, high, _GRID)
    volume = log_n + float(
        np.mean(2 * features["ln_width"] + features["ln_depth"] - features["ln_n"])
    )
    moved = {name: np.full(_GRID, value) for name, value in middle.items()}
    moved["ln_n"] = np.full(_GRID, log_n)
    moved["ln_width"] = (volume + grid) / 3
    moved["ln_depth"] = (volume - 2 * grid) / 3
    if "ln_aspect" in moved:
        moved["ln_aspect"] = grid
    best = _least(predict_log_loss(form, theta, moved), grid)
    return best if low < best < high else np.nan
