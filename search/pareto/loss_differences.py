"""How much one shape's loss differs from another's, both judged by the same draws of the law.

A draw is one law the data could as well have given. What two shapes share (the level of the loss,
which no law of other people's runs knows for a new corpus) cancels; what tells them apart counts.
"""

import dataclasses

import numpy as np

from shapelaw.search.pareto.problem import LossModel, Points


@dataclasses.dataclass(frozen=True)
class LossDifference:
    """A shape's expected loss less another's."""

    middle: float
    interval: tuple[float, float]
    """Both shapes judged by the same draw; no noise of a run."""
    probability_lower: float
    """Share of draws in which it is the lower one."""


def loss_differences(
    law: LossModel,
    points: Points,
    tokens: float | np.ndarray,
    level: float = 0.9,
) -> list[LossDifference]:
    """Every further row's loss less the first row's."""
    middle = law.loss(points.architectures, tokens)
    draws = law.loss_draws(points.architectures, tokens)
    gaps = draws[:, 1:] - draws[:, [0]]
    tail = 0.5 * (1 - level)
    low, high = np.quantile(gaps, [tail, 1 - tail], axis=0)
    lower = np.mean(gaps < 0, axis=0)
    return [
        LossDifference(
            float(centre),
            (min(float(a), float(centre)), max(float(b), float(centre))),
            float(share),
        )
        for centre, a, b, share in zip(middle[1:] - middle[0], low, high, lower, strict=True)
    ]
