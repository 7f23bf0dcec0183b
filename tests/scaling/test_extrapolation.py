"""Distance from the runs, drift measured inside a table, noise that changes with size."""

import numpy as np
import pytest

from shapelaw.scaling.extrapolation import Drift, distances, never_varied, size_range, unseen_draws
from shapelaw.scaling.noise import noise_trend
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.uncertainty.drift import (
    PRIOR_BLOCKS,
    USUAL_BUDGETS,
    USUAL_SIZES,
    measured_drift,
)


def test_distance_is_zero_inside_and_one_a_span_beyond() -> None:
    seen = {"N": (1e6, 1e8), "tokens": (1e8, 1e10), "compute": (1e10, 1e30)}
    log_n, log_d = np.log([1e7, 1e8, 1e10, 1e7]), np.log([1e9, 1e10, 1e9, 1e6])
    sizes, budgets = distances(log_n, log_d, seen)
    np.testing.assert_allclose(sizes, [0, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(budgets, [0, 0, 0, 1], atol=1e-12)


def block(
    runs: RunTable, cut: float, by: str, gamma: float, delta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Trained below a cut, tested up to thrice above it, with errors of gamma and delta a span."""
    values = getattr(runs, by)
    train, test = values < cut, (values >= cut) & (values < 3 * cut)
    log_n, log_d = np.log(runs.n), np.log(runs.d)
    sizes, budgets = distances(log_n[test], log_d[test], size_range(log_n[train], log_d[train]))
    return train, test, np.hypot(gamma * sizes, delta * budgets), np.zeros(test.sum())


def test_drift_follows_the_errors_of_the_rehearsals() -> None:
    """Blocks whose errors grow by so much a span give it back, apart for sizes and for budgets,
    and drawn to the usual by the prior."""
    gamma, delta, noise = 0.2, 0.05, 0.001
    n = np.repeat(np.geomspace(1e6, 1e9, 12), 12)
    d = np.tile(np.geomspace(1e8, 1e11, 12), 12)
    runs = RunTable(n=n, d=d, loss=np.ones(144), run=np.arange(144).astype(str))
    blocks = [block(runs, cut, "n", gamma, delta) for cut in (1e7, 1e8)]
    blocks += [block(runs, cut, "d", gamma, delta) for cut in (1e9, 1e10)]
    drift = measured_drift(runs, blocks, np.full(144, noise), noise, runs)
    for found, told, usual in (
        (drift.sizes, gamma, USUAL_SIZES),
        (drift.budgets, delta, USUAL_BUDGETS),
    ):
        square = (2 * told**2 + PRIOR_BLOCKS * (usual * noise) ** 2) / (2 + PRIOR_BLOCKS)
        # Student's of 4 degrees of freedom has its upper quartile at .741.
        assert np.quantile(found, 0.75) == pytest.approx(0.741 * np.sqrt(square), rel=0.05)
        assert found == pytest.approx(-found[::-1])
    quiet = measured_drift(runs, [], np.full(144, noise), noise, runs)
    assert quiet.sizes[-1] < 0.2 * drift.sizes[-1]


def test_draws_of_a_drift_are_coherent_and_vanish_inside() -> None:
    drift = Drift(
        np.linspace(-0.1, 0.1, 41),
        np.linspace(-0.2, 0.2, 41),
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
