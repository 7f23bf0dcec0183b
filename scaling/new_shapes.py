"""Runs of a shape that no run of a law had lie further from it than runs of the shapes it knows.

A form follows the shapes it was fitted to, and what is particular to a further one is in no
residual. Shapes left out of the fit show it: `uncertainty.shape_spread` measures by how much their
runs spread further, and this holds the figure and which shapes are known.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

Array = np.ndarray

_RESOLUTION = 1e-4  # of a feature; runs of one shape agree better
_PRIME = 1_000_003
_MODULUS = 2**50  # keys are whole numbers that a JSON number holds exactly

SHAPE_FEATURES = ("ln_n", "ln_width", "ln_depth", "ln_r", "ln_g", "ln_s")
"""Features that together are a shape."""


@dataclasses.dataclass(frozen=True, eq=False)
class NewShapes:
    """The noise of a run of a shape not seen, relative to that of a shape seen."""

    factor: float
    """At least 1."""
    features: tuple[str, ...]
    """What tells the shapes of the table apart."""
    seen: Array
    """Key of each shape seen, sorted."""

    def scale(self, features: Mapping[str, Array]) -> Array | float:
        """The factor [n], 1 where the shape was seen; where its features are not given it was
        not."""
        if any(name not in features for name in self.features):
            return self.factor
        known = np.isin(shape_keys(features, self.features), self.seen)
        return np.where(known, 1.0, self.factor)


def shape_features(features: Mapping[str, Array]) -> tuple[str, ...]:
    """Those of `SHAPE_FEATURES` that are there."""
    return tuple(name for name in SHAPE_FEATURES if name in features)


def shape_keys(features: Mapping[str, Array], names: tuple[str, ...]) -> Array:
    """A whole number for each shape [n], equal for equal shapes."""
    total = np.zeros(len(features["ln_n"]), dtype=np.int64)
    for name in names:
        steps = np.round(np.asarray(features[name]) / _RESOLUTION).astype(np.int64)
        total = (total * _PRIME + steps) % _MODULUS
    return total
