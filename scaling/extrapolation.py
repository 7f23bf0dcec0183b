"""How far a prediction lies from what a law has seen, and what that adds to its uncertainty.

Two kinds of ignorance that no refit of a form shows:

- Drift. Beyond the sizes, tokens and compute of its runs a law errs by more than its draws differ,
  since every form is a little wrong. ln L of a draw is off by γ·h·t for sizes, and by another such
  term for tokens and compute: h is the distance from the runs in units of their own span, t a
  Student deviate of the draw, and γ is measured by fitting the smaller runs of the table and
  predicting the larger ones (`uncertainty.drift`). A larger model is a further step than a longer
  run, so the two are measured apart.
- Unseen axes. What the runs never varied has an effect of unknown sign: ln L of a draw is off by
  UNSEEN_EFFECT·z for each factor e.
"""

import dataclasses
import functools
import statistics
from collections.abc import Mapping

import numpy as np

Array = np.ndarray

UNSEEN_EFFECT = 0.02
"""Standard deviation of ln loss per factor e of a shape axis that a law has never seen vary."""

AXES: dict[str, str] = {
    "ln_n": "N",
    "ln_d": "tokens",
    "ln_width": "d_model",
    "ln_depth": "depth",
    "ln_aspect": "aspect_ratio",
    "ln_x": "width_ratio",
    "ln_r": "mlp_attention_ratio",
    "ln_g": "gqa_group",
    "ln_s": "sharing",
}
"""Feature -> axis, as range and warnings name it."""

SHAPE_AXES: dict[str, tuple[str, float]] = {
    "sharing": ("ln_s", 1.0),
    "gqa_group": ("ln_g", 1.0),
    "mlp_attention_ratio": ("ln_r", 2.0),
    "aspect_ratio": ("ln_x", 0.08),
}
"""Axis of shape -> its feature, and the value taken for runs that do not tell theirs: unshared,
without grouped queries, LLaMA's ratio of MLP to attention, the width ratio of published models."""

_SAME_AXIS = {"aspect_ratio": ("aspect_ratio", "width_ratio", "depth", "d_model")}
_SPREAD = 1.0 + 1e-9
_SHORTEST_SPAN = 0.5  # in ln: runs of nearly one size have no span to measure distances in
_STEPS = (
    0.7548776662466927,
    0.5698402909980532,
    0.8191725133961645,
    0.6710436067037893,
    0.5497004779019703,
    0.8566748838545029,
)  # of low-discrepancy sequences, one for each independent deviate

Range = Mapping[str, tuple[float, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Drift:
    """What extrapolation adds to each draw."""

    sizes: Array
    """Quantiles of ln(true / predicted) at one span beyond the sizes of the runs."""
    budgets: Array
    """The same at one span beyond their tokens or compute."""
    range: dict[str, tuple[float, float]]
    """What the runs saw of `N`, `tokens` and `compute` (6·N·D, in FLOPs)."""

    def draws(self, features: Mapping[str, Array], count: int) -> Array:
        """What each of `count` draws adds to ln L, [count, n]."""
        total = np.zeros((count, len(features["ln_n"])))
        away = distances(features["ln_n"], features["ln_d"], self.range)
        for quantiles, far, sequence in zip((self.sizes, self.budgets), away, (0, 5), strict=True):
            total += np.quantile(quantiles, even_picks(count, sequence))[:, None] * far[None, :]
        return total

    def half_width(self, away: tuple[Array, Array], level: float) -> Array:
        """Half of the interval of `level` at distances from `distances`."""
        return np.hypot(
            *(
                np.quantile(np.abs(quantiles), level) * far
                for quantiles, far in zip((self.sizes, self.budgets), away, strict=True)
            )
        )


def size_range(log_n: Array, log_d: Array) -> dict[str, tuple[float, float]]:
    """The range of N, tokens and compute of runs."""
    columns = {"N": log_n, "tokens": log_d, "compute": np.log(6.0) + log_n + log_d}
    return {
        axis: (float(np.exp(column.min())), float(np.exp(column.max())))
        for axis, column in columns.items()
    }


def distances(log_n: Array, log_d: Array, seen: Range) -> tuple[Array, Array]:
    """How far N lies outside its range, and tokens and compute outside theirs (the root of their
    summed squares), in units of each range's span in ln; 0 inside."""
    columns = {"N": log_n, "tokens": log_d, "compute": np.log(6.0) + log_n + log_d}
    outside = {}
    for axis, column in columns.items():
        low, high = np.log(seen[axis])
        beyond = np.maximum(np.maximum(column - high, low - column), 0.0)
        outside[axis] = beyond / max(high - low, _SHORTEST_SPAN)
    return outside["N"], np.hypot(outside["tokens"], outside["compute"])


def even_picks(count: int, sequence: int) -> Array:
    """`count` numbers in (0, 1), evenly spread, in an order of their own for each sequence."""
    return (0.5 + np.arange(count) * _STEPS[sequence]) % 1.0


def varied(seen: Range, axis: str) -> bool:
    """Whether runs varied an axis."""
    names = _SAME_AXIS.get(axis, (axis,))
    return any(name in seen and seen[name][1] > seen[name][0] * _SPREAD for name in names)


def never_varied(seen: Range) -> tuple[str, ...]:
    """Axes of shape that runs of this range never varied."""
    return tuple(axis for axis in SHAPE_AXES if not varied(seen, axis))


def reference_of(seen: Range, axis: str) -> float:
    """ln of the one value that an axis had in the runs, or is taken to have had."""
    feature, usual = SHAPE_AXES[axis]
    name = AXES[feature]
    return float(np.log(seen[name][0] if name in seen else usual))


def unseen_draws(features: Mapping[str, Array], seen: Range, count: int) -> Array | float:
    """What axes that the runs never varied add to ln L of each draw [count, n]; 0.0 where none."""
    total: Array | float = 0.0
    for number, axis in enumerate(SHAPE_AXES):
        feature = SHAPE_AXES[axis][0]
        if varied(seen, axis) or feature not in features:
            continue
        away = features[feature] - reference_of(seen, axis)
        total = total + UNSEEN_EFFECT * normal_deviates(count, number + 1)[:, None] * away[None, :]
    return total


@functools.cache
def _normal(count: int, sequence: int) -> tuple[float, ...]:
    bell = statistics.NormalDist()
    return tuple(
        bell.inv_cdf(min(max(pick, 1e-6), 1 - 1e-6))
        for pick in even_picks(count, sequence).tolist()
    )


def normal_deviates(count: int, sequence: int) -> Array:
    """`count` standard normal deviates, evenly spread."""
    return np.array(_normal(count, sequence))
