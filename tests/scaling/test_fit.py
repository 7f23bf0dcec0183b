"""Fits find the truth, published optima, and say when they cannot."""

from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling import fit as fit_module
from shapelaw.scaling.bound_form import bowl, predict_log_loss
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.run_table import RunTable, some_of_each_run

DATA = Path(__file__).parents[3] / "shared" / "data" / "runs"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="published run tables are not at hand")
TRUTH = {"E": 1.8, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.3}


def chinchilla_runs(noise: float = 0.0, seed: int = 0, sizes: int = 7) -> RunTable:
    generator = np.random.default_rng(seed)
    n = np.repeat(np.geomspace(1e7, 5e9, sizes), 6)
    d = n * np.tile(np.geomspace(5, 160, 6), sizes)
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    loss = loss * np.exp(noise * generator.standard_normal(len(n)))
    return RunTable(n=n, d=d, loss=loss, run=np.arange(len(n)).astype(str))


def published(name: str) -> RunTable:
    return read_table(DATA / f"{name}.csv")[0]


@needs_data
def test_chinchilla_points_reach_the_true_optimum_from_most_starts() -> None:
    table = published("chinchilla")
    table = table.take(np.sort(np.argsort(table.loss)[:-5]))
    fit = fit_law(table, "chinchilla", bootstrap=0, holdout=False)
    assert fit.objective <= 0.00101827402
    assert fit.diagnostics["starts_at_optimum"] >= fit.diagnostics["starts"] / 2
    known = {"E": 1.817218, "A": 477.826, "B": 2143.42, "alpha": 0.347310, "beta": 0.367172}
    for name, value in known.items():
        assert fit.law.parameters[name] == pytest.approx(value, rel=5e-5)
    assert fit.report()["parameters"].keys() == known.keys()


@needs_data
def test_the_highest_losses_of_the_chinchilla_figure_are_named_as_outliers() -> None:
    table = published("chinchilla")
    fit = fit_law(table, "chinchilla", bootstrap=0, holdout=False)
    named = {item["row"] - 1 for item in fit.diagnostics["outliers"]}
    assert set(np.argsort(table.loss)[-4:]) <= named  # the fifth lies on the law
    assert fit.diagnostics["without_outliers"]["objective"] < fit.objective


@needs_data
def test_published_morph_fit_is_reproduced() -> None:
    path = DATA / "morph.csv"
    used = [line.rstrip().endswith("True") for line in path.read_text().splitlines()[1:]]
    table = published("morph").take(np.array(used))
    fit = fit_law(table, "morph", bootstrap=0, holdout=False, objective="squared")
    assert fit.diagnostics["mse"] <= 4.1e-4
    assert fit.law.parameters["gamma"] == pytest.approx(1.26, abs=0.1)


@needs_data
@pytest.mark.parametrize("form", ["morph", "shape"])
def test_largest_morph_models_are_ranked_from_the_smaller_ones(form: str) -> None:
    table = published("morph")
    features = table_features(table)
    large = table.n > 8e8
    declaration = build_form(form, frozenset(varying(features)))
    found = best_fits(
        declaration, features, table.loss, (~large)[None, :].astype(float), delta=1e-3, starts=8
    )[0]
    predicted = predict_log_loss(
        declaration, found.theta, {name: column[large] for name, column in features.items()}
    )
    assert np.array_equal(np.argsort(predicted), np.argsort(table.loss[large]))


@needs_data
@pytest.mark.long
def test_shape_form_beats_the_published_forms_on_gemstones() -> None:
    table = published("gemstones")
    features = table_features(table)
    form = build_form("shape", frozenset(varying(features)))
    names = sorted(set(table.run))
    folds = [
        np.ones(len(table), dtype=bool),
        table.n < 6e8,
        table.n < 3e8,
        *(table.run != name for name in names),
    ]
    found = best_fits(
        form, features, table.loss, np.array(folds, dtype=float), delta=1e-3, starts=4
    )
    assert found[0].objective <= 0.00090
    errors = []
    for fold, optimum in zip(folds, found, strict=True):
        part = {name: column[~fold] for name, column in features.items()}
        errors.append(
            np.abs(predict_log_loss(form, optimum.theta, part) - np.log(table.loss[~fold]))
        )
    assert errors[1].mean() <= 0.0026
    assert errors[2].mean() <= 0.0056
    assert np.concatenate(errors[3:]).mean() <= 0.0020


def test_conditional_form_returns_the_published_optimum() -> None:
    generator = np.random.default_rng(0)
    rows = 120
    n = generator.choice([8e7, 1.45e8, 2.97e8], rows)
    x = np.exp(generator.uniform(np.log(0.04), np.log(0.16), rows))
    r = np.exp(generator.uniform(np.log(0.3), np.log(5), rows))
    d = n * generator.choice([50.0, 100.0, 200.0], rows)
    a = 2.697 + 0.0974 * np.log(x) + 0.0078 / x
    b = 0.3870 + 0.0063 * np.log(r) + 0.0065 / r
    loss = a * b * (1.8 + 400 * n**-0.34 + 1200 * d**-0.3)
    table = RunTable(
        n=n,
        d=d,
        loss=loss,
        run=np.arange(rows).astype(str),
        shape={"d_model": x * np.sqrt(n), "mlp_attention_ratio": r},
    )
    fit = fit_law(table, "conditional", bootstrap=20, holdout=False)
    assert fit.law.parameters["x_opt"] == pytest.approx(0.08, rel=0.02)
    assert fit.law.parameters["r_opt"] == pytest.approx(1.03, rel=0.02)
    assert fit.derived["best_width_ratio"]["value"] == pytest.approx(0.08, rel=0.02)


def test_additive_conditional_form_recovers_its_truth() -> None:
    generator = np.random.default_rng(1)
    n = generator.choice([1e7, 1e8, 1e9], 90)
    x = np.exp(generator.uniform(-3.2, -1.8, 90))
    r = np.exp(generator.uniform(-1, 1.5, 90))
    d = n * generator.choice([10.0, 40.0, 160.0], 90)
    loss = (
        0.1 * bowl(np.log(x / 0.08))[0]
        + 0.05 * bowl(np.log(r / 1.5))[0]
        + 1.8
        + 400 * n**-0.34
        + 1200 * d**-0.3
    )
    table = RunTable(
        n=n,
        d=d,
        loss=loss,
        run=np.arange(90).astype(str),
        shape={"d_model": x * np.sqrt(n), "mlp_attention_ratio": r},
    )
    found = fit_law(table, "conditional-additive", bootstrap=0, holdout=False).law.parameters
    assert found["x_opt"] == pytest.approx(0.08, rel=0.02)
    assert found["c_r"] == pytest.approx(0.05, rel=0.05)


def test_looped_form_recovers_the_sharing_exponent() -> None:
    generator = np.random.default_rng(2)
    sharing = generator.choice([1.0, 2.0, 4.0, 8.0], 80)
    n = 10 ** generator.uniform(7, 9, 80)
    d = n * 10 ** generator.uniform(1, 2, 80)
    loss = 1.57 + 60 * (n * sharing**0.459) ** -0.199 + 3000 * d**-0.369
    table = RunTable(n=n, d=d, loss=loss, run=np.arange(80).astype(str), shape={"sharing": sharing})
    fit = fit_law(table, "looped", bootstrap=20, holdout=False)
    assert fit.law.parameters["phi"] == pytest.approx(0.459, rel=0.01)
    assert fit.derived["sharing_phi"]["value"] == pytest.approx(0.459, rel=0.01)


def test_noiseless_runs_give_their_law_back_whatever_the_units_and_order() -> None:
    table = chinchilla_runs()
    first = fit_law(table, "chinchilla", bootstrap=0, holdout=False)
    for name, value in TRUTH.items():
        assert first.law.parameters[name] == pytest.approx(value, rel=1e-4)
    noisy = chinchilla_runs(0.01, seed=3)
    base = fit_law(noisy, "chinchilla", bootstrap=0, holdout=False)
    order = np.random.default_rng(0).permutation(len(noisy))
    turned = fit_law(noisy.take(order), "chinchilla", bootstrap=0, holdout=False)
    assert turned.objective == pytest.approx(base.objective, rel=1e-8)
    millions = RunTable(n=noisy.n / 1e6, d=noisy.d / 1e9, loss=noisy.loss, run=noisy.run)
    moved = fit_law(millions, "chinchilla", bootstrap=0, holdout=False)
    assert moved.objective == pytest.approx(base.objective, rel=1e-8)
    for name in ("E", "alpha", "beta"):
        for other in (turned, moved):
            assert other.law.parameters[name] == pytest.approx(base.law.parameters[name], rel=1e-5)


def test_compute_optimal_exponent_is_beta_over_the_sum() -> None:
    fit = fit_law(chinchilla_runs(), "chinchilla", bootstrap=0, holdout=False)
    assert fit.derived["compute_optimal_exponent_N"]["value"] == pytest.approx(0.3 / 0.64, rel=1e-4)


def test_designs_that_cannot_tell_are_flagged() -> None:
    base = chinchilla_runs(0.005, seed=1)
    same_size = RunTable(n=np.full(len(base), 1e8), d=base.d, loss=base.loss, run=base.run)
    flagged = fit_law(same_size, "chinchilla", bootstrap=0, holdout=False).diagnostics
    assert {"A", "alpha", "E"} <= set(flagged["not_identified"])
    n = np.geomspace(1e6, 1e9, 30)
    loss = 1.8 + 400 * n**-0.34 + 1200 * (20 * n) ** -0.3
    loss = loss * np.exp(0.004 * np.random.default_rng(0).standard_normal(30))
    proportional = RunTable(n=n, d=20 * n, loss=loss, run=np.arange(30).astype(str))
    flagged = fit_law(proportional, "chinchilla", bootstrap=0, holdout=False).diagnostics
    assert {"A", "alpha", "B", "beta"} <= set(flagged["not_identified"])
    good = fit_law(base, "chinchilla", bootstrap=0, holdout=False).diagnostics
    assert good["not_identified"] == []


def test_auto_prefers_the_simple_form_on_runs_that_follow_it() -> None:
    fit = fit_law(chinchilla_runs(0.003, seed=5), bootstrap=20)
    assert fit.law.form == "chinchilla"
    assert "held-out error" in fit.diagnostics["chosen"]
    assert set(fit.holdout) >= {"largest_N", "largest_D", "largest_C", "leave_one_shape_out"}


def test_repeated_runs_set_a_noise_floor() -> None:
    base = chinchilla_runs(sizes=5)
    twice = RunTable(
        n=np.repeat(base.n, 3),
        d=np.repeat(base.d, 3),
        loss=np.repeat(base.loss, 3)
        * np.exp(0.01 * np.random.default_rng(0).standard_normal(3 * len(base))),
        run=np.arange(3 * len(base)).astype(str),
    )
    noise = fit_law(twice, "chinchilla", bootstrap=0, holdout=False).diagnostics["noise"]
    assert noise["repeat_standard_deviation"] == pytest.approx(0.01, rel=0.25)
    assert noise["repeat_degrees_of_freedom"] == 2 * len(base)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_unusable_losses_are_refused_with_their_row(value: float) -> None:
    table = chinchilla_runs()
    loss = table.loss.copy()
    loss[7] = value
    with pytest.raises(BadInput, match="row 8"):
        fit_law(RunTable(n=table.n, d=table.d, loss=loss, run=table.run))


def test_tables_that_say_nothing_are_refused() -> None:
    table = chinchilla_runs()
    with pytest.raises(BadInput, match="one run"):
        fit_law(table.take(np.array([0])))
    with pytest.raises(BadInput, match="rows = 4"):
        fit_law(table.take(np.arange(4)))
    flat = RunTable(n=table.n, d=table.d, loss=np.full(len(table), 2.0), run=table.run)
    with pytest.raises(BadInput, match="does not vary"):
        fit_law(flat)
    with pytest.raises(BadInput, match="form = nonsense"):
        fit_law(table, "nonsense")


def test_copies_of_rows_are_dropped_and_named() -> None:
    table = chinchilla_runs(0.002)
    copies = table.take(np.concatenate([np.arange(len(table)), np.arange(10)]))
    copies = RunTable(
        n=copies.n, d=copies.d, loss=copies.loss, run=np.arange(len(copies)).astype(str)
    )
    fit = fit_law(copies, "chinchilla", bootstrap=0, holdout=False)
    assert fit.runs == len(table)
    assert fit.dropped == ["10 rows that repeat another row exactly"]


def test_a_parameter_of_shape_is_seen_through_gqa_and_sharing_columns() -> None:
    generator = np.random.default_rng(4)
    rows = 150
    n = 10 ** generator.uniform(6, 8.5, rows)
    d = n * 10 ** generator.uniform(0.8, 2, rows)
    group = generator.choice([1.0, 2.0, 4.0], rows)
    sharing = generator.choice([1.0, 2.0, 4.0], rows)
    r = np.exp(generator.uniform(-1.0, 2.0, rows))
    waste = 0.5 * ((r / 1.5) ** 0.3 + (r / 1.5) ** -0.3)
    loss = 1.7 + 300 * n**-0.32 * group**0.02 * sharing**-0.12 * waste + 900 * d**-0.33
    table = RunTable(
        n=n,
        d=d,
        loss=loss,
        run=np.arange(rows).astype(str),
        shape={"gqa_group": group, "sharing": sharing, "mlp_attention_ratio": r},
    )
    fit = fit_law(table, "shape", bootstrap=0, holdout=False)
    assert fit.law.parameters["gamma"] == pytest.approx(0.02, abs=0.004)
    assert fit.derived["best_mlp_attention_ratio"]["value"] == pytest.approx(1.5, rel=0.05)
    assert fit.derived["sharing_phi"]["value"] == pytest.approx(0.12 / 0.32, rel=0.1)


def test_truth_of_the_shape_form_is_recovered() -> None:
    features_of = np.random.default_rng(6)
    n = np.repeat(np.geomspace(1e6, 1e9, 6), 15)
    aspect = np.tile(np.repeat(np.geomspace(6, 200, 5), 3), 6)
    d = n * np.tile([10.0, 30.0, 90.0], 30)
    width = (n * aspect / 12) ** (1 / 3)
    shape = {"d_model": width, "n_layers": width / aspect}
    bare = RunTable(n=n, d=d, loss=np.ones(len(n)), run=np.arange(len(n)).astype(str), shape=shape)
    features = table_features(bare)
    form = build_form("shape", frozenset(varying(features)))
    truth = {
        "E": 1.6,
        "A": 150.0,
        "B": 1500.0,
        "alpha": 0.4,
        "beta": 0.45,
        "kappa": 0.1,
        "W": 4.0,
        "K": 0.9,
        "omega": 0.45,
        "lambda": 0.7,
    }
    theta = to_inner(form, np.array([truth[name] for name in form.names]))
    loss = np.exp(
        predict_log_loss(form, theta, features) + 1e-4 * features_of.standard_normal(len(n))
    )
    fit = fit_law(
        RunTable(n=n, d=d, loss=loss, run=bare.run, shape=shape),
        "shape",
        bootstrap=0,
        holdout=False,
    )
    assert fit.law.parameters["kappa"] == pytest.approx(0.1, abs=0.01)
    assert fit.law.parameters["beta"] == pytest.approx(0.45, abs=0.02)
    assert fit.objective <= 1e-3 * 1e-4 * len(n)


def many_checkpoints(runs: int, rows_each: int) -> RunTable:
    """Checkpoints of runs of a known law: each run has an error of its own, each row another."""
    generator = np.random.default_rng(7)
    run = np.repeat(np.arange(runs), rows_each)
    n = np.exp(generator.uniform(np.log(1e7), np.log(5e9), runs))[run]
    d = n * np.exp(generator.uniform(np.log(2), np.log(200), len(run)))
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    error = 0.004 * generator.standard_normal(runs)[run]
    error = error + 0.003 * generator.standard_normal(len(run))
    return RunTable(n=n, d=d, loss=loss * np.exp(error), run=run.astype(str))


def test_some_rows_of_each_run_of_a_very_large_table_tell_its_law(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is lost: parameters move within their own intervals, which widen by at most the root of
    how many times fewer rows there are."""
    table = many_checkpoints(200, 100)
    whole = fit_law(table, "chinchilla", bootstrap=0, holdout=False)
    monkeypatch.setattr(fit_module, "MOST_ROWS", 2_000)
    some = fit_law(table, "chinchilla", bootstrap=0, holdout=False)
    assert 2_000 <= some.runs <= 2_010
    assert any("of 20000 rows, at random within each run" in line for line in some.dropped)
    assert not whole.dropped
    for name, (low, high) in whole.intervals.items():
        least, most = some.intervals[name]
        assert least < whole.law.parameters[name] < most, name
        assert least < TRUTH[name] < most
        assert (most - least) / (high - low) < 1.2 * np.sqrt(10)
    for axis, ends in whole.law.range.items():
        assert some.law.range[axis] == ends


def test_the_same_share_of_each_run_is_kept() -> None:
    table = many_checkpoints(300, 10).take(np.arange(2_345))
    rows = some_of_each_run(table, 500)
    assert np.array_equal(rows, some_of_each_run(table, 500))
    assert np.all(np.diff(rows) > 0)
    ends = 6  # at most, beyond the share
    kept = np.unique(table.run[rows], return_counts=True)[1]
    assert len(kept) == len(np.unique(table.run))
    assert np.sum(kept > 3) <= ends
    for column in (table.n, table.d, table.n * table.d):
        assert {column.argmin(), column.argmax()} <= set(rows.tolist())
