"""What is believed before any study is read, and what each study can tell."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from shapelaw.scaling.evidence.study_law import LEVEL, PARAMETERS, SHAPE

N_LEVEL, N_SHAPE, N_ALL = len(LEVEL), len(SHAPE), len(PARAMETERS)

PRIORS: dict[str, tuple[float, float, float, float]] = {
    "ln_loss": (1.2, 0.5, 0.2, 0.5),
    "floor": (0.0, 0.5, 0.6, 0.3),
    "capacity": (0.0, 0.5, 0.5, 0.3),
    "ln_capacity_slope": (float(np.log(0.25 / 2)), 0.25, 0.3, 0.3),
    "ln_data_slope": (float(np.log(0.35 / 2)), 0.25, 0.3, 0.3),
    "kappa": (0.02, 0.05, 0.06, 0.3),
    "ln_norm": (0.4, 0.4, 0.4, 0.3),
    "ln_best_depth": (float(np.log(13)), 0.4, 0.35, 0.4),
    "depth_drift": (0.3, 0.12, 0.08, 0.4),
    "ln_depth_cost": (float(np.log(1.4)), 0.5, 0.3, 0.4),
    "ln_best_mlp_ratio": (float(np.log(2.2)), 0.5, 0.35, 0.4),
    "ln_mlp_ratio_cost": (float(np.log(0.7)), 0.6, 0.4, 0.4),
    "gqa": (0.05, 0.1, 0.08, 0.5),
    "ln_attention_width_cost": (float(np.log(0.8)), 0.6, 0.4, 0.4),
    "repeated_depth": (0.5, 0.3, 0.15, 0.4),
    "gain_immediate": (0.25, 0.2, 0.12, 0.4),
    "gain_cycle": (0.4, 0.2, 0.1, 0.4),
    "ln_saturation_immediate": (float(np.log(0.7)), 0.6, 0.3, 0.4),
    "ln_saturation_cycle": (float(np.log(0.2)), 0.6, 0.3, 0.4),
}
"""Of each parameter: mean and spread of the population's mean; median and log spread of the
population's spread. Slopes are those of exponents .25 and .35 where half of the loss is floor.
Depths of about 13 layers at 1e8 are what is trained at that size; no study varied the attention's
width, so its cost is this prior and nothing else."""

NOISE_PRIOR = (np.array([-5.0, -0.5, -5.3, -0.7]), np.array([1.0, 0.4, 1.0, 0.4]))
"""Mean of ln(noise of a row), ln of its spread; the same of a run."""

_WIDER = 1.2
_MIDDLE = np.array([PRIORS[name][0] for name in PARAMETERS])
_WIDTH = np.array([np.hypot(PRIORS[name][1], PRIORS[name][2]) for name in PARAMETERS])
REFERENCE = (
    np.concatenate([_MIDDLE, NOISE_PRIOR[0][[0, 2]]]),
    _WIDER * np.concatenate([_WIDTH, np.hypot(NOISE_PRIOR[1][[0, 2]], np.exp([-0.5, -0.7]))]),
)
"""Middle and width [p + 2] of the normal prior under which each study is first sampled alone: what
a new study is expected to be before any is read, a little wider. It cancels when the draws are
weighted by the population."""

_DEPTH = ("ln_best_depth", "depth_drift", "ln_depth_cost")
USES: dict[str, tuple[str, ...]] = {
    "gemstones": _DEPTH,
    "morph": _DEPTH,
    "reference": (
        *_DEPTH,
        "ln_best_mlp_ratio",
        "ln_mlp_ratio_cost",
        "gqa",
        "repeated_depth",
        "gain_immediate",
        "ln_saturation_immediate",
    ),
}
"""Shape parameters that a study's own runs determine; of the rest it follows the population."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """Parameters of a study that were published without its table."""

    name: str
    family: str
    values: Mapping[str, tuple[float, float]]
    """Parameter -> value and standard error."""


FIGURES = (
    Figure(
        "depth transition",
        "depth transition",
        {"ln_best_depth": (float(np.log(24.0)), 0.1), "depth_drift": (0.316, 0.05)},
    ),
    Figure("loops", "looped", {"gain_cycle": (0.459, 0.035)}),
    Figure("loops truncated", "looped", {"gain_cycle": (0.35, 0.05)}),
    Figure("loops hyperconnected", "looped", {"gain_cycle": (0.66, 0.05)}),
)
"""arXiv 2006.12467: its fit N = 12·L·exp(2(5.039 + .0555·L)) gives a best depth of 24 at 1e8 and a
drift of .316 between 1e7 and 3e8. The constants were checked against what its abstract says,
a width of 30,000 at 1e12 parameters (95 layers of 30,100 by them). arXiv 2604.21106: three recipes
of one source. What arXiv 2402.14905 says of 30 blocks applied twice and four times is in
posterior.py."""
