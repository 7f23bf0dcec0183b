"""Curves of the law along each axis of shape, and the runs behind them."""

import numpy as np
import pytest

from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.run_table import RunTable
from shapelaw.search.page.law_runs import LawRuns
from shapelaw.search.page.page_data import law_page_data
from shapelaw.search.page.shape_curves import AXES, shape_curves, varied
from shapelaw.search.page.study_runs import runs_behind

SHAPE = Architecture(
    vocab_size=32000, d_model=768, n_blocks=18, n_heads=12, n_kv_heads=4, head_dim=64, d_ff=2048
)


def test_curves_hold_parameters_and_start_from_the_shape_itself() -> None:
    curves = shape_curves(load_law("evidence"), SHAPE, 1e12)
    for axis, curve in zip(AXES, curves, strict=True):
        batch, x = varied(axis, SHAPE, np.array(curve["x"]))
        np.testing.assert_allclose(
            batch.non_embedding_parameters, SHAPE.non_embedding_parameters, rtol=1e-9
        )
        value = (
            batch.n_heads / batch.n_kv_heads
            if axis.name == "gqa_group"
            else getattr(batch, axis.name)
        )
        np.testing.assert_allclose(value, x, rtol=1e-9)
        here = int(np.argmin(np.abs(np.log(np.array(curve["x"]) / curve["here"]))))
        assert curve["loss"][here] == pytest.approx(0, abs=2e-4)
        assert all(
            low <= middle <= high
            for low, middle, high in zip(curve["low"], curve["loss"], curve["high"], strict=True)
        )


def test_the_studies_stand_behind_the_curves_of_the_evidence() -> None:
    law = load_law("evidence")
    curves = {
        curve["axis"]: {study["name"]: study["points"] for study in curve["studies"]}
        for curve in shape_curves(law, SHAPE, 1e12, runs_behind(law))
    }
    assert {"gemstones", "morph", "reference"} <= set(curves["depth"])
    assert "looped 1280" in curves["sharing"]
    # Half of the Gemstones' 770 losses lie within reach of the curve, and within .3 nats of it.
    points = np.array(curves["depth"]["gemstones"])
    assert points[:, 2].sum() > 300
    assert np.abs(points[:, 1] - np.median(points[:, 1])).max() < 0.3


def test_a_run_that_the_law_predicts_lies_on_the_curve() -> None:
    rng = np.random.default_rng(0)
    width, depth = rng.choice([64, 96, 128, 192], 40), rng.choice([2, 4, 8], 40)
    n, d = 12.0 * width**2 * depth, rng.choice([1e7, 3e7, 1e8], 40)
    loss = 1.5 + 400 / n**0.34 + 900 / d**0.3
    names = np.arange(40).astype(str)
    table = RunTable(n, d, loss, names, {"d_model": width + 0.0, "n_layers": depth + 0.0})
    fitted = fit_law(table, form="chinchilla", bootstrap=0, holdout=False)
    runs = LawRuns.of_fit(fitted)
    np.testing.assert_allclose(runs.residuals, fitted.residuals, atol=1e-9)
    data = law_page_data(runs)
    assert data["answer"] is None
    depth_curve = data["curves"][0]
    # The law does not read depth: the curve is flat, and so are exact runs about it.
    assert depth_curve["silent"]
    assert all(abs(point[1]) < 1e-3 for point in depth_curve["studies"][0]["points"])
    assert data["law"]["parity"]["error"] < 1e-3
