"""Every form: derivatives, monotonicity, units, order of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelaw.scaling.bound_form import Model, bowl, log_norm, predict_log_loss
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.newton import huber
from shapelaw.scaling.fitting.starting_points import spread
from shapelaw.scaling.forms import FORMS, build_form
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terms import Form

ALL_FORMS = sorted(FORMS)
GROWING = ("ln_n", "ln_width", "ln_depth")


def sweep(rows: int = 40, seed: int = 0) -> RunTable:
    """A table in which every shape column varies on its own."""
    generator = np.random.default_rng(seed)
    n = 10 ** generator.uniform(6, 9, rows)
    aspect = 10 ** generator.uniform(0.8, 2.2, rows)
    width = (n * aspect / 12) ** (1 / 3)
    kv_heads = generator.choice([1, 2, 4], rows).astype(float)
    return RunTable(
        n=n,
        d=n * 10 ** generator.uniform(0.5, 2.0, rows),
        loss=np.full(rows, 2.0),
        run=np.arange(rows).astype(str),
        shape={
            "d_model": width,
            "n_layers": width / aspect,
            "n_heads": np.full(rows, 8.0),
            "n_kv_heads": 8 / kv_heads,
            "d_ff": width * generator.uniform(1, 5, rows),
            "sharing": generator.choice([1.0, 2.0, 3.0], rows),
        },
    )


def point(form: Form, seed: int) -> np.ndarray:
    """Some sensible parameters, inner coordinates."""
    generator = np.random.default_rng(seed)
    values = np.empty(len(form.names))
    for k, parameter in enumerate(form.parameters):
        low, high = parameter.start
        values[k] = (
            generator.uniform(low, high)
            if low < high
            else {"E": 0.5, "A": 6.0, "B": 7.0, "W": 1.0, "K": -0.2}.get(parameter.name, -2.0)
        )
    return values


def bound(name: str) -> tuple[Form, Model]:
    features = table_features(sweep())
    form = build_form(name, frozenset(varying(features)))
    return form, Model(form, features)


MONOTONE_FORMS = [name for name in ALL_FORMS if not bound(name)[0].rises_with(GROWING)]


def test_forms_without_an_interaction_are_monotone_by_construction() -> None:
    assert {"chinchilla", "gemstones", "shape-norm-monotone"} <= set(MONOTONE_FORMS)
    assert bound("shape-norm")[0].rises_with(GROWING) == ("kappa",)
    assert bound("shape-depth")[0].rises_with(GROWING) == ("kappa", "psi")


def test_a_norm_adds_at_order_one_and_takes_the_larger_at_infinity() -> None:
    left, right = np.log(np.array([3.0, 0.5])), np.log(np.array([4.0, 0.5]))
    added, share = log_norm(left, right, np.array(1.0))
    np.testing.assert_allclose(np.exp(added), [7.0, 1.0], rtol=1e-14)
    np.testing.assert_allclose(share, [3 / 7, 0.5], rtol=1e-14)
    np.testing.assert_allclose(np.exp(log_norm(left, right, np.array(2.0))[0])[0], 5.0, rtol=1e-14)
    np.testing.assert_allclose(np.exp(log_norm(left, right, np.array(1e4))[0])[0], 4.0, rtol=1e-12)


@pytest.mark.parametrize("name", ALL_FORMS)
def test_jacobian_agrees_with_finite_differences(name: str) -> None:
    form, model = bound(name)
    theta = model.centred(point(form, 1)[None, :])
    _, jacobian = model.log_loss_and_jacobian(theta)
    step = 1e-6
    for k in range(len(form.names)):
        above, below = theta.copy(), theta.copy()
        above[0, k] += step
        below[0, k] -= step
        slope = (model.log_loss(above) - model.log_loss(below))[0] / (2 * step)
        np.testing.assert_allclose(jacobian[0, :, k], slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ALL_FORMS)
def test_gradient_and_hessian_of_the_objective_agree_with_finite_differences(name: str) -> None:
    form, model = bound(name)
    theta = model.centred(point(form, 2)[None, :])
    log_loss = model.log_loss(theta)[0] + 0.03 * np.sin(np.arange(model.rows))
    delta = 0.02

    def gradient(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = model.evaluate(at)
        residual = found.log_loss - log_loss
        _, score = huber(residual, delta)
        inside = (np.abs(residual) <= delta).astype(float)
        first, second, _ = model.gradient_and_curvatures(at, found, score, inside, inside)
        return first[0], second[0]

    def objective(at: np.ndarray) -> float:
        return float(huber(model.log_loss(at) - log_loss, delta)[0].sum())

    first, second = gradient(theta)
    step = 1e-6
    for k in range(len(form.names)):
        above, below = theta.copy(), theta.copy()
        above[0, k] += step
        below[0, k] -= step
        assert first[k] == pytest.approx(
            (objective(above) - objective(below)) / (2 * step), rel=1e-4, abs=1e-7
        )
        curve = (gradient(above)[0] - gradient(below)[0]) / (2 * step)
        np.testing.assert_allclose(second[k], curve, rtol=2e-2, atol=2e-4)


@pytest.mark.parametrize("name", ALL_FORMS)
def test_centring_is_only_a_change_of_coordinates(name: str) -> None:
    form, model = bound(name)
    theta = point(form, 3)
    np.testing.assert_allclose(model.natural(model.centred(theta[None, :]))[0], theta, rtol=1e-9)
    fast = predict_log_loss(form, theta, model.features)
    np.testing.assert_allclose(model.log_loss(model.centred(theta[None, :]))[0], fast, rtol=1e-9)


@pytest.mark.parametrize("name", ALL_FORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1.01, 50.0))
def test_more_tokens_never_raise_the_loss(name: str, seed: int, factor: float) -> None:
    form, model = bound(name)
    theta = point(form, seed)
    more = dict(model.features)
    more["ln_d"] = more["ln_d"] + np.log(factor)
    assert np.all(
        predict_log_loss(form, theta, more) <= predict_log_loss(form, theta, model.features) + 1e-12
    )


@pytest.mark.parametrize("name", MONOTONE_FORMS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1.01, 1e4), tokens=st.floats(-12, 3))
def test_a_larger_model_of_the_same_shape_is_never_worse(
    name: str, seed: int, factor: float, tokens: float
) -> None:
    form, model = bound(name)
    theta = point(form, seed)
    small = dict(model.features)
    small["ln_d"] = small["ln_d"] + tokens
    large = dict(small)
    growth = {"ln_n": 1, "ln_n_once": 1, "ln_n_recurrent": 1, "ln_width": 1 / 3, "ln_depth": 1 / 3}
    for feature, rate in growth.items():
        if feature in small:
            large[feature] = small[feature] + rate * np.log(factor)
    assert np.all(
        predict_log_loss(form, theta, large) <= predict_log_loss(form, theta, small) + 1e-9
    )


def test_bowl_is_zero_at_its_optimum_and_positive_elsewhere() -> None:
    z = np.linspace(-3, 3, 13)
    height, slope = bowl(z)
    assert height[6] == 0
    assert slope[6] == 0
    assert np.all(np.delete(height, 6) > 0)


def test_spread_fills_the_cube_evenly() -> None:
    points = spread(256, 5)
    for column in points.T:
        assert np.histogram(column, bins=8, range=(0, 1))[0].min() >= 24


def test_published_conditional_coefficients_become_their_optimum() -> None:
    # a0 + a1·ln x + a2/x of arXiv 2510.18245 has its minimum at a2/a1, and divided by it is
    # 1 + strength·bowl(ln x − ln x_opt).
    a0, a1, a2 = 2.697, 0.0974, 0.0078
    x = np.geomspace(0.02, 0.3, 7)
    optimum = a2 / a1
    strength = a1 / (a0 + a1 * np.log(optimum) + a1)
    direct = (a0 + a1 * np.log(x) + a2 / x) / (a0 + a1 * np.log(optimum) + a1)
    np.testing.assert_allclose(1 + strength * bowl(np.log(x / optimum))[0], direct, rtol=1e-12)
    assert optimum == pytest.approx(0.08, rel=0.002)


def test_inner_coordinates_of_natural_values() -> None:
    form = build_form("chinchilla", frozenset())
    inner = to_inner(form, np.array([2.0, 400.0, 1200.0, 0.34, 0.28]))
    np.testing.assert_allclose(inner, [np.log(2), np.log(400), np.log(1200), 0.34, 0.28])
