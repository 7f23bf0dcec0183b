"""The law of a study: limits that are known, recovery, and the published form of loops."""

import numpy as np
import pytest

from shapelaw.scaling.evidence.study_features import block_parameters, plain_features, varies_depth
from shapelaw.scaling.evidence.study_law import INDEX, PARAMETERS, log_loss, of_draws, sharing_gain
from shapelaw.scaling.evidence.study_population import Population


def study(**values: float) -> np.ndarray:
    theta = np.zeros((1, len(PARAMETERS)))
    for name, value in values.items():
        theta[0, INDEX[name]] = value
    return theta


def test_norm_one_without_interaction_is_the_chinchilla_form() -> None:
    e, a, b, alpha, beta = 1.8, 480.0, 2100.0, 0.35, 0.37
    capacity, data = a * 1e8**-alpha, b * 2e9**-beta
    reducible = (capacity + data) / (e + capacity + data)
    theta = study(
        ln_loss=float(np.log(e + capacity + data)),
        floor=float(np.log(e / (capacity + data))),
        capacity=float(np.log(capacity / data)),
        ln_capacity_slope=float(np.log(alpha * reducible)),
        ln_data_slope=float(np.log(beta * reducible)),
    )
    features = plain_features(4)
    n, d = np.array([1e6, 1e8, 3e9, 1e11]), np.array([1e9, 2e9, 1e12, 1e10])
    features["ln_n"], features["ln_d"] = np.log(n), np.log(d)
    found = np.exp(log_loss(np, of_draws(theta), features))[0]
    np.testing.assert_allclose(found, e + a * n**-alpha + b * d**-beta, rtol=1e-12)


def test_depth_has_one_best_value_that_drifts_with_size() -> None:
    theta = study(ln_best_depth=float(np.log(12)), depth_drift=0.4)
    depths = np.arange(1, 200)
    for n in (1e7, 1e8, 1e9):
        features = plain_features(len(depths))
        features["ln_n"], features["ln_d"] = np.full(199, np.log(n)), np.full(199, np.log(1e11))
        features["ln_depth"], features["has_depth"] = np.log(depths), np.ones(199)
        best = depths[np.argmin(log_loss(np, of_draws(theta), features)[0])]
        assert best == pytest.approx(12 * (n / 1e8) ** 0.4, rel=0.1)


@pytest.mark.parametrize("floor", [-2.0, 0.0, 2.0])
def test_slopes_are_those_of_loss_where_one_term_is_all_whatever_the_floor(floor: float) -> None:
    step = 1e-4
    for feature, slope, alone in (
        ("ln_n", "ln_capacity_slope", 40.0),
        ("ln_d", "ln_data_slope", -40.0),
    ):
        features = plain_features(2)
        features["ln_n"], features["ln_d"] = np.full(2, np.log(1e8)), np.full(2, np.log(2e9))
        features[feature] = features[feature] + np.array([-step, step])
        theta = study(floor=floor, capacity=alone, **{slope: float(np.log(0.12))})
        below, above = log_loss(np, of_draws(theta), features)[0]
        assert (below - above) / (2 * step) == pytest.approx(0.12, rel=1e-6)


def test_sharing_without_saturation_is_a_power() -> None:
    ln_s = np.log([1.0, 2.0, 4.0, 8.0])
    gain = sharing_gain(np, np.array(0.459), np.array(1e-9), ln_s)
    np.testing.assert_allclose(np.exp(gain), np.exp(ln_s) ** 0.459, rtol=1e-6)
    saturating = sharing_gain(np, np.array(0.459), np.array(1.0), ln_s)
    assert np.all(np.diff(saturating) > 0)
    assert np.all(np.diff(saturating, 2) < 0)


def test_block_parameters_are_recovered_from_totals() -> None:
    width, depth = np.array([256.0, 512, 512, 1024]), np.array([8.0, 6, 12, 24])
    blocks = 12 * width**2 * depth
    total = blocks + 2 * 50304 * width
    np.testing.assert_allclose(block_parameters(total, width, depth), blocks, rtol=1e-4)


def test_depth_that_follows_from_size_is_not_read() -> None:
    depth = np.array([6.0, 12, 24, 32])
    assert not varies_depth(np.log(1e6 * depth**3), np.log(depth))
    assert varies_depth(np.zeros(4), np.log(depth))


def test_new_studies_have_the_spread_of_the_population() -> None:
    mean, spread = np.arange(len(PARAMETERS)) * 1.0, np.full(len(PARAMETERS), 0.5)
    noise = np.array([[-5.0, 0.5, -6.0, 0.5]])
    one = Population(mean[None], spread[None], np.eye(7)[None], noise)
    theta, _ = one.new_studies(20_000, np.random.default_rng(0), unit_known=True)
    np.testing.assert_allclose(np.median(theta[:, :-2], axis=0), mean, atol=0.03)
    np.testing.assert_allclose(theta[:, 7:-2].std(axis=0), 0.5, rtol=0.05)
