"""The law of one study: level and shape, one function for NumPy and JAX.

    L = F + [(A·(N·m/1e8)^-alpha · S)^q + (B·(D/2e9)^-beta · (N/1e8)^kappa)^q]^(1/q)

- F is what no model gets below; at the pivot (N = 1e8, D = 2e9, best shape) L is `ln_loss`, its
  share F/L has logit `floor`, and of the rest the capacity term has the share of logit `capacity`.
- Exponents are told by slopes: alpha = exp(`ln_capacity_slope`)·L/(L − F) with L and F of the
  pivot, and beta likewise. The slope is what d ln L / d ln N is there where capacity is all that
  is reducible: runs determine it, while the exponent that they leave grows with the floor.
- q joins the two terms; q = 1 is the Chinchilla form (arXiv 2203.15556).
- Shape acts on the capacity term, by S = Π cosh(alpha·cost·ln(x / best x)): parameters are wasted
  on either side of a best depth `best_depth`·(N/1e8)^`depth_drift`, a best ratio of MLP to
  attention parameters, and attention as wide as the model; a GQA group g costs g^(alpha·gqa).
- m counts shared parameters: (1 − w) + w·exp(gain·(1 − s^-saturation)/saturation) with w their
  share; for a saturation of 0 it is s^gain, the form of arXiv 2604.21106. A block applied s times
  adds s^`repeated_depth` of its layers to the depth.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SLOPES = ("ln_capacity_slope", "ln_data_slope")
LEVEL = ("ln_loss", "floor", "capacity", *SLOPES, "kappa", "ln_norm")
SHAPE = (
    "ln_best_depth",
    "depth_drift",
    "ln_depth_cost",
    "ln_best_mlp_ratio",
    "ln_mlp_ratio_cost",
    "gqa",
    "ln_attention_width_cost",
    "repeated_depth",
    "gain_immediate",
    "gain_cycle",
    "ln_saturation_immediate",
    "ln_saturation_cycle",
)
PARAMETERS = (*LEVEL, *SHAPE)
INDEX = {name: position for position, name in enumerate(PARAMETERS)}
LN_N, LN_D = float(np.log(1e8)), float(np.log(2e9))
"""The pivot, at which parameters of studies are compared."""

Array = Any  # of NumPy or JAX
Values = Callable[[str], Array]
"""A parameter's name -> its value for each row, or anything that broadcasts to rows."""


def ln_cosh(xp: Any, z: Array) -> Array:
    """ln cosh z, without overflow."""
    size = xp.abs(z)
    return size + xp.log1p(xp.exp(-2 * size)) - float(np.log(2.0))


def sharing_gain(xp: Any, gain: Array, saturation: Array, ln_sharing: Array) -> Array:
    """ln of what a parameter applied s times counts for: gain·(1 − s^-saturation)/saturation."""
    return gain * (1 - xp.exp(-saturation * ln_sharing)) / saturation


def exponents(xp: Any, values: Values) -> tuple[Array, Array]:
    """alpha and beta."""
    ln_over_reducible = xp.logaddexp(0.0, values("floor"))
    capacity, data = (xp.exp(values(slope) + ln_over_reducible) for slope in SLOPES)
    return capacity, data


def shape_penalty(xp: Any, values: Values, features: Mapping[str, Array]) -> Array:
    """ln of the factor by which shape multiplies the capacity term; 0 for the best shape.

    Features [rows]: ln_n, ln_depth (layers of distinct blocks), ln_mlp_ratio, ln_gqa,
    ln_attention_width, ln_sharing, shared (share of parameters), repeated (share of distinct layers
    that are applied several times), cycle (1 in cycle order), and has_depth, has_mlp_ratio (0 where
    the study does not tell them).
    """
    alpha, _ = exponents(xp, values)
    ln_s = features["ln_sharing"]
    repeated = features["repeated"]
    depth = features["ln_depth"] + xp.log(
        (1 - repeated) + repeated * xp.exp(values("repeated_depth") * ln_s)
    )
    best = values("ln_best_depth") + values("depth_drift") * (features["ln_n"] - LN_N)
    penalty = features["has_depth"] * ln_cosh(
        xp, alpha * xp.exp(values("ln_depth_cost")) * (depth - best)
    )
    off_ratio = features["ln_mlp_ratio"] - values("ln_best_mlp_ratio")
    penalty = penalty + features["has_mlp_ratio"] * ln_cosh(
        xp, alpha * xp.exp(values("ln_mlp_ratio_cost")) * off_ratio
    )
    penalty = penalty + alpha * values("gqa") * features["ln_gqa"]
    penalty = penalty + ln_cosh(
        xp, alpha * xp.exp(values("ln_attention_width_cost")) * features["ln_attention_width"]
    )
    cycle = features["cycle"]
    gain = values("gain_immediate") + cycle * (values("gain_cycle") - values("gain_immediate"))
    ln_saturation = values("ln_saturation_immediate")
    ln_saturation = ln_saturation + cycle * (values("ln_saturation_cycle") - ln_saturation)
    worth = sharing_gain(xp, gain, xp.exp(ln_saturation), ln_s)
    counted = xp.log((1 - features["shared"]) + features["shared"] * xp.exp(worth))
    return penalty - alpha * counted


def level_log_loss(
    xp: Any, values: Values, features: Mapping[str, Array], penalty: Array | float
) -> Array:
    """ln L of rows whose shape multiplies the capacity term by exp(penalty)."""
    ln_n, ln_d = features["ln_n"] - LN_N, features["ln_d"] - LN_D
    alpha, beta = exponents(xp, values)
    norm = xp.exp(values("ln_norm"))
    capacity = norm * (penalty - alpha * ln_n) - xp.logaddexp(0.0, -values("capacity"))
    data = norm * (values("kappa") * ln_n - beta * ln_d) - xp.logaddexp(0.0, values("capacity"))
    reducible = xp.logaddexp(capacity, data) / norm
    return values("ln_loss") + xp.logaddexp(
        -xp.logaddexp(0.0, -values("floor")), reducible - xp.logaddexp(0.0, values("floor"))
    )


def log_loss(xp: Any, values: Values, features: Mapping[str, Array]) -> Array:
    """ln L [rows], or whatever the parameters broadcast to."""
    return level_log_loss(xp, values, features, shape_penalty(xp, values, features))


def of_draws(theta: np.ndarray) -> Values:
    """The parameters of draws [k, p] as columns [k, 1], to broadcast against rows."""
    return lambda name: theta[:, INDEX[name]][:, None]
