"""Runs of shapes not seen spread further, by as much as shapes left out of the fit do."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from shapelaw.scaling.extrapolation import SHAPE_AXES, Drift, size_range
from shapelaw.scaling.features import table_features
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.splits import leave_one_shape_out
from shapelaw.scaling.law import Law
from shapelaw.scaling.new_shapes import NewShapes, shape_features, shape_keys
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.uncertainty.bootstrap import NoiseModel
from shapelaw.scaling.uncertainty.shape_spread import new_shapes_of

SHAPES, BUDGETS = 20, 20
NOISE = 0.01  # standard deviation in ln loss


def table() -> RunTable:
    generator = np.random.default_rng(0)
    width = np.repeat(np.exp(generator.uniform(5, 8, SHAPES)), BUDGETS)
    depth = np.repeat(np.exp(generator.uniform(2, 4, SHAPES)), BUDGETS)
    n, d = 12 * width**2 * depth, np.tile(np.geomspace(2e9, 2e11, BUDGETS), SHAPES)
    loss = 1.7 + 400 * n**-0.34 + 900 * d**-0.34
    shape = {"d_model": width, "n_layers": depth}
    return RunTable(n=n, d=d, loss=loss, run=n.astype(str), shape=shape)


def found(error: np.ndarray, gamma: float = 0.0) -> NewShapes:
    """With held-out predictions off by `error`, and a drift of `gamma` a span."""
    runs = table()
    split = leave_one_shape_out(runs)
    assert split is not None
    member = SimpleNamespace(form=build_form("chinchilla", frozenset()), weight=1.0)
    seen = size_range(np.log(runs.n), np.log(runs.d))
    return new_shapes_of(
        runs,
        runs,
        [split],
        {"chinchilla": {split.name: np.log(runs.loss) + error}},
        [member],
        NoiseModel(NOISE * np.linspace(-1.645, 1.645, 101) / 0.9, None, 0),
        NoiseTrend(1.0, (0.0, 0.0), seen),
        Drift(*2 * (gamma * np.linspace(-1.0, 1.0, 41),), seen),
    )


@pytest.mark.parametrize("times", [0.5, 1.0, 2.0, 5.0])
def test_nine_in_ten_held_out_runs_lie_within_the_widened_noise(times: float) -> None:
    error = times * NOISE * np.random.default_rng(1).standard_normal(SHAPES * BUDGETS)
    assert found(error).factor == pytest.approx(max(1.0, times), rel=0.15)


def test_what_lies_beyond_the_other_sizes_is_laid_to_drift() -> None:
    """The largest and the smallest shape, left out, are an extrapolation of the others."""
    runs = table()
    ends = (runs.n == runs.n.max()) | (runs.n == runs.n.min())
    error = np.where(ends, 0.5, NOISE) * np.random.default_rng(2).standard_normal(len(runs.n))
    assert found(error, gamma=50.0).factor < found(error).factor


def test_a_shape_is_known_again_by_every_feature_it_has() -> None:
    features = table_features(table())
    names = shape_features(features)
    keys = shape_keys(features, names)
    assert len(set(keys.tolist())) == SHAPES
    for name in names:
        moved = {**features, name: features[name] + 0.01}
        assert not np.isin(shape_keys(moved, names), keys).any()


def test_intervals_of_new_shapes_alone_are_wider() -> None:
    runs = table()
    features = table_features(runs)
    names = shape_features(features)
    half = shape_keys(features, names)[: len(runs) // 2]
    law = Law(
        form="chinchilla",
        parameters={"E": 1.7, "A": 400.0, "B": 900.0, "alpha": 0.34, "beta": 0.34},
        draws=np.empty((0, 5)),
        range=dict.fromkeys(SHAPE_AXES, (1.0, 2.0)),
        count="as given",
        fingerprint="",
        label="known",
        source="",
        features=(),
        residuals=NOISE * np.linspace(-2.0, 2.0, 101),
    )
    wide = dataclasses.replace(law, new_shapes=NewShapes(3.0, names, np.unique(half)))
    ends = [np.log(one.interval_of(features, 0.9)) for one in (law, wide)]
    ratio = (ends[1][1] - ends[1][0]) / (ends[0][1] - ends[0][0])
    np.testing.assert_allclose(ratio, np.repeat([1.0, 3.0], len(runs) // 2), rtol=1e-9)
