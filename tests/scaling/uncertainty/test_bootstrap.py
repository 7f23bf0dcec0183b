"""Intervals cover what they claim to."""

import numpy as np
import pytest

from shapelaw.scaling.bound_form import Model, predict_log_loss
from shapelaw.scaling.coordinates import to_inner, to_natural
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.forms import CHINCHILLA, build_form
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.uncertainty.bootstrap import noise_floor, noise_model, resample

TRUTH = np.array([1.8, 400.0, 1200.0, 0.34, 0.34])
NOISE, LEVEL = 0.005, 0.9


def design(sizes: int, budgets: int) -> dict[str, np.ndarray]:
    n = np.repeat(np.geomspace(2e7, 5e9, sizes), budgets)
    d = n * np.tile(np.geomspace(5, 160, budgets), sizes)
    return table_features(RunTable(n=n, d=d, loss=np.ones(len(n)), run=np.arange(len(n))))


@pytest.mark.long
def test_ninety_per_cent_intervals_cover_about_ninety_per_cent() -> None:
    features = design(8, 6)
    rows = len(features["ln_n"])
    truth = to_inner(CHINCHILLA, TRUTH)
    exact = predict_log_loss(CHINCHILLA, truth, features)
    beyond = {
        name: column[-6:] + (np.log(4.0) if name != "one" else 0)
        for name, column in features.items()
    }
    model = Model(CHINCHILLA, features)
    generator = np.random.default_rng(1)
    repetitions = 200
    hits = np.zeros(5)
    inside = {"seen": 0.0, "four times larger": 0.0}
    groups = np.arange(rows)
    for repetition in range(repetitions):
        log_loss = exact + NOISE * generator.standard_normal(rows)
        optimum = best_fits(
            CHINCHILLA, features, np.exp(log_loss), np.ones((1, rows)), delta=1e-3, starts=3
        )[0]
        draws = resample(
            model, log_loss, optimum, np.ones(rows), groups, 200, delta=1e-3, seed=repetition
        )
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        hits += (low <= truth) & (truth <= high)
        residual = log_loss - model.log_loss(model.centred(optimum.theta[None, :]))[0]
        noise = noise_model(log_loss, residual, groups, groups.astype(str), groups, 5)
        law = Law(
            form="chinchilla",
            draws=to_natural(CHINCHILLA, draws),
            range={},
            parameters=dict(
                zip(
                    CHINCHILLA.names, map(float, to_natural(CHINCHILLA, optimum.theta)), strict=True
                )
            ),
            count="as given",
            fingerprint="",
            label="",
            source="",
            features=(),
            residuals=noise.quantiles,
        )
        for name, where in (("seen", features), ("four times larger", beyond)):
            least, most = law.interval_of(where, LEVEL)
            mean = predict_log_loss(CHINCHILLA, truth, where)
            new = np.exp(mean + NOISE * generator.standard_normal(len(mean)))
            inside[name] += float(np.mean((least <= new) & (new <= most)))
    assert 0.85 <= hits.mean() / repetitions <= 0.95
    assert np.all((hits / repetitions > 0.84) & (hits / repetitions < 0.97))
    for share in inside.values():
        assert 0.85 <= share / repetitions <= 0.95


def test_rows_of_one_run_are_resampled_together() -> None:
    features = design(5, 4)
    rows = len(features["ln_n"])
    truth = to_inner(CHINCHILLA, TRUTH)
    run = np.repeat(np.arange(5), 4)
    shared = 0.01 * np.random.default_rng(0).standard_normal(5)[run]
    log_loss = predict_log_loss(CHINCHILLA, truth, features) + shared
    model = Model(CHINCHILLA, features)
    optimum = best_fits(
        CHINCHILLA, features, np.exp(log_loss), np.ones((1, rows)), delta=1e-3, starts=4
    )[0]
    spread = []
    for groups in (run, np.arange(rows)):
        draws = resample(model, log_loss, optimum, np.ones(rows), groups, 200, delta=1e-3, seed=0)
        spread.append(draws[:, 3].std())
    assert spread[0] > spread[1]


def test_the_same_seed_gives_the_same_draws() -> None:
    features = design(5, 4)
    rows = len(features["ln_n"])
    log_loss = predict_log_loss(CHINCHILLA, to_inner(CHINCHILLA, TRUTH), features)
    log_loss = log_loss + 0.01 * np.sin(np.arange(rows))
    model = Model(CHINCHILLA, features)
    optimum = best_fits(
        CHINCHILLA, features, np.exp(log_loss), np.ones((1, rows)), delta=1e-3, starts=4
    )[0]
    first, second = (
        resample(model, log_loss, optimum, np.ones(rows), np.arange(rows), 20, delta=1e-3, seed=7)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_large_tables_draw_by_one_step_that_agrees_with_refits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features = design(20, 20)
    rows = len(features["ln_n"])
    generator = np.random.default_rng(3)
    log_loss = predict_log_loss(CHINCHILLA, to_inner(CHINCHILLA, TRUTH), features)
    log_loss = log_loss + 0.005 * generator.standard_normal(rows)
    model = Model(CHINCHILLA, features)
    optimum = best_fits(
        CHINCHILLA, features, np.exp(log_loss), np.ones((1, rows)), delta=1e-3, starts=4
    )[0]
    arguments = (model, log_loss, optimum, np.ones(rows), np.arange(rows), 200)
    refits = resample(*arguments, delta=1e-3, seed=0).std(axis=0)
    monkeypatch.setattr("shapelaw.scaling.uncertainty.bootstrap.ONE_STEP_ELEMENTS", 1)
    steps = resample(*arguments, delta=1e-3, seed=0).std(axis=0)
    np.testing.assert_allclose(steps, refits, rtol=0.3)


def test_one_step_redraws_what_only_a_prior_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes alike in their loss: the runs say nothing of how others fall behind."""
    generator = np.random.default_rng(4)
    width, depth = np.repeat([512.0, 640.0, 768.0], 40), np.tile([6.0, 8.0, 10.0, 12.0], 30)
    n = 12 * width**2 * depth
    d = n * np.geomspace(5, 160, len(n))[generator.permutation(len(n))]
    loss = 1.8 + 400 * n**-0.34 + 1200 * d**-0.34
    loss = loss * np.exp(0.005 * generator.standard_normal(len(n)))
    shape = {"d_model": width, "n_layers": depth}
    features = table_features(RunTable(n=n, d=d, loss=loss, run=np.arange(len(n)), shape=shape))
    form = build_form("shape", frozenset(varying(features)))
    optimum = best_fits(form, features, loss, np.ones((1, len(n))), delta=1e-3, starts=4)[0]
    arguments = (Model(form, features), np.log(loss), optimum, np.ones(len(n)), np.arange(len(n)))
    monkeypatch.setattr("shapelaw.scaling.uncertainty.bootstrap.ONE_STEP_ELEMENTS", 1)
    drawn = resample(*arguments, 2000, delta=1e-3, seed=0).std(axis=0)
    for name in ("omega", "lambda"):  # how fast narrow and shallow shapes fall behind
        place = form.index(name)
        assert 0.8 < drawn[place] / optimum.prior_width[place] < 1.1


def test_a_law_of_several_forms_draws_all_of_them_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each form of a stack has few of the draws: together they decide whether to refit."""
    features = design(5, 4)
    rows = len(features["ln_n"])
    log_loss = predict_log_loss(CHINCHILLA, to_inner(CHINCHILLA, TRUTH), features)
    log_loss = log_loss + 0.01 * np.sin(np.arange(rows))
    model = Model(CHINCHILLA, features)
    optimum = best_fits(
        CHINCHILLA, features, np.exp(log_loss), np.ones((1, rows)), delta=1e-3, starts=4
    )[0]
    arguments = (model, log_loss, optimum, np.ones(rows), np.arange(rows), 3)
    monkeypatch.setattr("shapelaw.scaling.uncertainty.bootstrap.minimise", None)  # no refits
    monkeypatch.setattr("shapelaw.scaling.uncertainty.bootstrap.ONE_STEP_ELEMENTS", 50 * rows)
    draws = resample(*arguments, delta=1e-3, seed=0, of_all=100)
    assert draws.shape == (3, 5)
    with pytest.raises(TypeError):
        resample(*arguments, delta=1e-3, seed=0)


def test_noise_floor_is_the_pooled_spread_of_repeats() -> None:
    values = np.array([0.0, 0.02, 1.0, 1.0, 1.06, 5.0])
    configuration = np.array([0, 0, 1, 1, 1, 2])
    floor = noise_floor(values, configuration, np.arange(6))
    assert floor is not None
    expected = np.sqrt((0.0002 + 0.0024) / 3)
    assert floor == (pytest.approx(expected), 3)
    assert noise_floor(values, np.arange(6), np.arange(6)) is None
    assert noise_floor(values, configuration, np.zeros(6)) is None  # one run's rows: no repeats
