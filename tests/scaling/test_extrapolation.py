"""Distance from the runs, drift measured inside a table, noise that changes with size."""

import numpy as np
import pytest

from shapelaw.scaling.extrapolation import Drift, distance, never_varied, size_range, unseen_draws
from shapelaw.scaling.noise import noise_trend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.uncertainty.drift import PRIOR_BLOCKS, USUAL, measured_drift


def test_distance_is_zero_inside_and_one_a_span_beyond() -> None:
    seen = {"N": (1e6, 1e8), "tokens": (1e8, 1e10), "compute": (1e10, 1e30)}
    log_n, log_d = np.log([1e7, 1e8, 1e10, 1e7]), np.log([1e9, 1e10, 1e9, 1e6])
    np.testing.assert_allclose(distance(log_n, log_d, seen), [0, 0, 1, 1], atol=1e-12)


def table(rows: int = 40) -> RunTable:
    n = np.geomspace(1e6, 1e9, rows)
    return RunTable(n=n, d=20 * n, loss=np.ones(rows), run=np.arange(rows).astype(str))


def test_drift_follows_the_errors_of_the_rehearsals() -> None:
    """Blocks whose errors grow by gamma a span give gamma back, drawn to the usual by the prior."""
    runs, gamma, noise = table(), 0.2, 0.001
    log_n, log_d = np.log(runs.n), np.log(runs.d)
    blocks = []
    for cut in (15, 20, 25, 30):
        train, test = np.arange(40) < cut, (np.arange(40) >= cut) & (np.arange(40) < cut + 8)
        away = distance(log_n[test], log_d[test], size_range(log_n[train], log_d[train]))
        blocks.append((train, test, gamma * away, np.zeros(test.sum())))
    drift = measured_drift(runs, blocks, np.full(40, noise), noise, runs)
    expected = np.sqrt((4 * gamma**2 + PRIOR_BLOCKS * (USUAL * noise) ** 2) / (4 + PRIOR_BLOCKS))
    middle_half = np.quantile(drift.quantiles, 0.75)
    assert middle_half == pytest.approx(0.7176 * expected, rel=0.05)  # Student's, 6 degrees
    assert drift.quantiles == pytest.approx(-drift.quantiles[::-1])
    quiet = measured_drift(runs, [], np.full(40, noise), noise, runs)
    assert quiet.quantiles[-1] < 0.2 * drift.quantiles[-1]


def test_draws_of_a_drift_are_coherent_and_vanish_inside() -> None:
    drift = Drift(
        np.linspace(-0.1, 0.1, 41),
        {"N": (1e6, 1e8), "tokens": (1e8, 1e10), "compute": (1e10, 1e30)},
    )
    features = {"ln_n": np.log([1e7, 1e9, 1e10]), "ln_d": np.log([1e9, 1e9, 1e9])}
    draws = drift.draws(features, 64)
    assert np.all(draws[:, 0] == 0)
    np.testing.assert_allclose(draws[:, 2], 2 * draws[:, 1], rtol=1e-12)
    assert abs(draws[:, 1].mean()) < 0.1 * draws[:, 1].std()


def test_axes_that_never_varied() -> None:
    assert never_varied({"depth": (2.0, 8.0), "gqa_group": (4.0, 4.0)}) == (
        "sharing",
        "gqa_group",
        "mlp_attention_ratio",
    )
    assert "sharing" not in never_varied({"sharing": (1.0, 4.0)})
    features = {"ln_g": np.log([4.0, 8.0]), "ln_s": np.zeros(2)}
    draws = np.zeros((100, 1)) + unseen_draws(features, {"gqa_group": (4.0, 4.0)}, 100)
    assert np.all(draws[:, 0] == 0)
    assert draws[:, 1].std() == pytest.approx(0.02 * np.log(2), rel=0.05)


def test_noise_that_falls_with_size_is_found() -> None:
    generator = np.random.default_rng(0)
    log_n, log_d = generator.uniform(14, 20, 400), generator.uniform(18, 24, 400)
    features = {"ln_n": log_n, "ln_d": log_d}
    residual = 0.01 * np.exp(-0.3 * (log_n - 17)) * generator.standard_normal(400)
    trend = noise_trend(features, residual)
    assert -0.35 < trend.slopes[0] < -0.15  # drawn to evenness, never beyond the truth
    assert trend.slopes[1] == pytest.approx(0.0, abs=0.06)
    assert np.mean(trend.scale(features) ** 2) == pytest.approx(1.0)
    beyond = {"ln_n": np.array([20.0, 30.0]), "ln_d": np.array([20.0, 20.0])}
    near, far = trend.scale(beyond)
    assert far == pytest.approx(near, rel=0.02)
