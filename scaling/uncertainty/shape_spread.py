"""How much further runs of new shapes lie from a law, measured on shapes left out of its fit.

Of a held-out run, error² = (noise·factor)² + between² + drift², with `between` the spread of the
stack's members and drift only where leaving the shape out leaves the sizes too. The factor is such
that nine in ten of the held-out runs lie inside.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.extrapolation import Drift, distances, size_range
from shapelaw.scaling.features import table_features
from shapelaw.scaling.holdout.splits import Split
from shapelaw.scaling.new_shapes import NewShapes, shape_features, shape_keys
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.uncertainty.bootstrap import NoiseModel
from shapelaw.scaling.uncertainty.drift import Weighted
from shapelaw.scaling.uncertainty.sandwich import NORMAL

_HELD_OUT = "leave_one_shape_out"
_LEVEL = 0.9


def new_shapes_of(
    table: RunTable,
    rehearsal: RunTable,
    splits: Sequence[Split],
    predictions: Mapping[str, Mapping[str, Array]],
    members: Sequence[Weighted],
    noise: NoiseModel,
    trend: NoiseTrend,
    drift: Drift,
) -> NewShapes:
    """What a law fitted to `table` adds for shapes not in it; arguments as for `drift_of`."""
    features = table_features(table)
    names = shape_features(features)
    seen = np.unique(shape_keys(features, names))
    split = next((split for split in splits if split.name == _HELD_OUT), None)
    if split is None or any(_HELD_OUT not in predictions.get(one.form.name, {}) for one in members):
        return NewShapes(1.0, names, seen)
    log_n, log_d = np.log(rehearsal.n), np.log(rehearsal.d)
    half = noise.half_width * trend.scale({"ln_n": log_n, "ln_d": log_d})
    weights = np.array([one.weight for one in members])
    several = np.stack([predictions[one.form.name][_HELD_OUT] for one in members])
    middle = weights @ several
    error = np.log(rehearsal.loss) - middle
    other = NORMAL**2 * (weights @ (several - middle) ** 2)
    for train, test in zip(split.train, split.test, strict=True):
        away = distances(log_n[test], log_d[test], size_range(log_n[train], log_d[train]))
        other[test] += drift.half_width(away, _LEVEL) ** 2
    rows = np.isfinite(middle)
    excess = (error[rows] ** 2 - other[rows]) / np.maximum(half[rows], 1e-12) ** 2
    return NewShapes(float(np.sqrt(max(1.0, np.quantile(excess, _LEVEL)))), names, seen)
