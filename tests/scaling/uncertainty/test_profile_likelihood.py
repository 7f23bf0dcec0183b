"""Intervals by profile likelihood, and what is called not identified."""

import dataclasses

import numpy as np
import pytest

from benchmarks.coverage import Case, cases, measure
from shapelaw.scaling.bound_form import Model, predict_log_loss
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.fitting.newton import Prior, minimise
from shapelaw.scaling.forms import CHINCHILLA, build_form
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.run_table import RunTable, clusters
from shapelaw.scaling.uncertainty.profile_likelihood import profile
from shapelaw.scaling.uncertainty.sandwich import deviate, local

TRUTH = np.array([1.8, 400.0, 1200.0, 0.34, 0.34])


def grid(noise: float, seed: int, trunks: bool = False) -> RunTable:
    generator = np.random.default_rng(seed)
    n = np.repeat(np.geomspace(2e7, 5e9, 8), 6)
    d = n * np.tile(np.geomspace(5, 160, 6), 8)
    run = np.arange(48) // (4 if trunks else 1)
    table = RunTable(n=n, d=d, loss=np.ones(48), run=run.astype(str))
    log_loss = predict_log_loss(CHINCHILLA, to_inner(CHINCHILLA, TRUTH), table_features(table))
    return dataclasses.replace(table, loss=np.exp(log_loss + noise * generator.standard_normal(48)))


def case(form: str, design: str) -> Case:
    return next(one for one in cases() if one.form == form and design in one.design)


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_an_interval_ends_where_the_refitted_objective_has_risen_by_what_chance_explains(
    delta: float,
) -> None:
    table = grid(0.005, seed=2)
    features, log_loss, weights = table_features(table), np.log(table.loss), np.ones(48)
    model = Model(CHINCHILLA, features)
    optimum = best_fits(CHINCHILLA, features, table.loss, weights[None, :], delta=delta, starts=8)[
        0
    ]
    told = profile(
        model, log_loss, optimum, np.zeros((0, 5)), weights, clusters(table), delta=delta
    )
    assert np.all((told.low < optimum.theta) & (optimum.theta < told.high))
    student = deviate(48 - 5)
    for position, name in enumerate(CHINCHILLA.names):
        held = Model(CHINCHILLA, features, natural=name)
        for end in (told.low[position], told.high[position]):
            start = optimum.theta.copy()
            start[position] = end
            mean, precision = np.zeros((2, 5))
            mean[position], precision[position] = end, 1e9
            refit = minimise(
                held, log_loss, start[None, :], weights, delta=delta, prior=Prior(mean, precision)
            )
            rise = (refit.objective[0] - optimum.objective) / told.units[position]
            assert np.sqrt(2 * rise) == pytest.approx(student, abs=0.15)


@pytest.mark.parametrize("trunks", [False, True])
def test_the_covariance_is_that_of_refits_without_each_run(trunks: bool) -> None:
    table = grid(0.003, seed=4, trunks=trunks)
    features, groups = table_features(table), clusters(table)
    left_out = groups[None, :] != np.unique(groups)[:, None]
    weights = np.concatenate([np.ones((1, 48)), left_out])
    fits = best_fits(CHINCHILLA, features, table.loss, weights, delta=np.inf, starts=8)
    theta = np.stack([fit.theta for fit in fits])
    jackknife = ((theta[1:] - theta[0]) ** 2).sum(axis=0)
    found = local(
        Model(CHINCHILLA, features), np.log(table.loss), theta[0], np.ones(48), groups, np.inf
    )
    # Refits bend with the law; the covariance is of its tangent.
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), np.sqrt(jackknife), rtol=0.25)


def test_rows_of_one_run_alone_are_no_surer_than_rows_of_many() -> None:
    table = grid(0.005, seed=5)
    alone = dataclasses.replace(table, run=np.full(48, "only"))
    many, one = (fit_law(each, "chinchilla", bootstrap=0, holdout=False) for each in (table, alone))
    for name, (low, high) in many.intervals.items():
        assert one.intervals[name][1] - one.intervals[name][0] >= 0.9 * (high - low)


def test_students_deviate() -> None:
    # 95 % points of Student's distribution, from its tables.
    for freedom, expected in ((5, 2.015), (10, 1.812), (30, 1.697), (1e9, 1.645)):
        assert deviate(freedom) == pytest.approx(expected, rel=0.01)


def test_a_design_of_one_size_range_leaves_exponents_of_width_and_depth_open() -> None:
    one = case("shape", "d_model / layers alone")
    features = table_features(one.table)
    loss = np.exp(one.log_loss(features) + 0.006 * np.random.default_rng(0).standard_normal(24))
    fit = fit_law(
        dataclasses.replace(one.table, loss=loss), "shape", bootstrap=50, holdout=False, starts=8
    )
    why = fit.diagnostics["not_identified_because"]
    assert {"omega", "lambda"} <= set(why)
    assert "d_model" in why["omega"]
    assert "depth" in why["lambda"]
    for name, (low, high) in fit.intervals.items():
        assert low <= fit.law.parameters[name] <= high


def test_columns_that_do_not_vary_bring_no_parameter_that_only_a_prior_would_know() -> None:
    one = case("shape", "every axis")
    rows = len(one.table)
    shape = {**one.table.shape, "gqa_group": np.ones(rows), "sharing": np.full(rows, 2.0)}
    table = dataclasses.replace(one.table, shape=shape)
    names = build_form("shape", frozenset(varying(table_features(table)))).names
    assert {"gamma", "sigma"}.isdisjoint(names)


def test_tokens_in_proportion_to_parameters_leave_both_terms_open_in_every_form() -> None:
    one = case("shape", "every axis")
    table = dataclasses.replace(one.table, d=20 * one.table.n)
    truth = {**one.truth}
    table = dataclasses.replace(
        table,
        loss=np.exp(
            dataclasses.replace(one, table=table, truth=truth).log_loss(table_features(table))
            + 0.004 * np.random.default_rng(1).standard_normal(len(table))
        ),
    )
    for form in ("chinchilla", "gemstones", "shape"):
        flagged = fit_law(table, form, bootstrap=0, holdout=False, starts=8).diagnostics
        assert {"A", "alpha", "B", "beta"} <= set(flagged["not_identified"])


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "design", "repetitions"),
    [("chinchilla", "12 trunks", 100), ("looped", "80 runs", 60), ("shape", "layers alone", 30)],
)
def test_ninety_per_cent_intervals_of_identified_parameters_hold_ninety_per_cent(
    form: str, design: str, repetitions: int
) -> None:
    found = measure(case(form, design), "huber", repetitions)
    covered = np.array([one.covered for one in found])
    told = ~np.array([one.flagged for one in found])

    def slack(count: float) -> float:
        return 3 * np.sqrt(0.9 * 0.1 / count)  # binomial

    # Parameters of one repetition err together: as if each repetition were one trial.
    assert 0.85 - slack(repetitions) <= covered[told].mean() <= 0.95 + slack(repetitions)
    for hits, known in zip(covered.T, told.T, strict=True):
        if known.mean() > 0.5:
            assert hits[known].mean() >= 0.85 - slack(known.sum())
    for share in ([one.seen for one in found], [one.larger for one in found]):
        assert 0.85 - slack(repetitions) <= np.mean(share) <= 0.95 + slack(repetitions)
