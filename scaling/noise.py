"""The noise of one run, as it changes with size and tokens."""

import dataclasses
from collections.abc import Mapping

import numpy as np

Array = np.ndarray

_DOUBT = 10.0  # rows worth of evidence that noise is even, for each factor e of N or D
_SCATTER = 1.1  # variance of ln |residual| about its mean, for noise near normal
_LEAST_SHARE = 0.1  # of the typical residual, added to each before its logarithm is taken


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseTrend:
    """Standard deviation of ln loss relative to the typical one: level·N^a·D^b.

    N and D are held within the range that the runs had, since a trend says nothing beyond it.
    """

    level: float
    slopes: tuple[float, float]
    """Exponents of N and D."""
    range: dict[str, tuple[float, float]]
    """What the runs saw of `N` and `tokens`."""

    def scale(self, features: Mapping[str, Array]) -> Array:
        """Relative standard deviation at features [n]; its mean square over the runs is 1."""
        total: Array | float = np.log(self.level)
        for slope, axis, feature in zip(
            self.slopes, ("N", "tokens"), ("ln_n", "ln_d"), strict=True
        ):
            low, high = np.log(self.range[axis])
            total = total + slope * np.clip(features[feature], low, high)
        scale: Array = np.exp(total)
        return scale


def noise_trend(features: Mapping[str, Array], residual: Array) -> NoiseTrend:
    """Fit the trend to residuals [rows] by a ridge regression of their logarithm."""
    columns = np.stack([features["ln_n"], features["ln_d"]], axis=1)
    centred = columns - columns.mean(axis=0)
    size = np.abs(residual)
    typical = max(float(np.quantile(size, 0.9)), 1e-12)
    height = np.log(size + _LEAST_SHARE * typical)
    matrix = centred.T @ centred / _SCATTER + _DOUBT * np.eye(2)
    slopes = np.linalg.solve(matrix, centred.T @ (height - height.mean()) / _SCATTER)
    level = 1 / np.sqrt(np.mean(np.exp(2 * columns @ slopes)))
    return NoiseTrend(
        level=float(level),
        slopes=(float(slopes[0]), float(slopes[1])),
        range={
            axis: (float(np.exp(columns[:, k].min())), float(np.exp(columns[:, k].max())))
            for k, axis in enumerate(("N", "tokens"))
        },
    )
