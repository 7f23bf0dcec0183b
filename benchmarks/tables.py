"""Held-out error and coverage on run tables that other people published.

    python -m benchmarks.tables [TABLE.csv ...] [--only TEXT] [--jobs 2] [--json]

Three questions a table: the largest 20 % of compute, the largest 20 % of sizes, and 8 folds by
shape (by size where a table tells none). Everything is fitted to the training part alone: `auto`
as a user gets it, each of its forms, and the three published forms (Chinchilla, Morph, Gemstones),
of which the least error is taken, after the fact. Their optima are searched twice: by this
project's solver and by L-BFGS on a plain objective written here; the lower one counts. `ratio` is
the error of `auto` to the best published one's, errors being means of |Δ ln L|. Coverage is of 90 %
intervals of a new run, on the same questions and on random rows. On Gemstones the comparisons that
the project has published before stand beside it. About half an hour of one core.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.estimate import estimate_law
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.form_choice import AUTO, candidates
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.run_table import RunTable, checked, shape_groups, without_duplicates

FOLDER = Path(__file__).parents[1] / ".." / "shared" / "data" / "runs"
NAMES = (
    "chinchilla",
    "gadre_c4_original",
    "gadre_rpj",
    "gadre_rw_original",
    "gemstones",
    "llama3",
    "marin_comma",
    "marin_dclm",
    "marin_nemotron",
    "misfit_best",
    "morph",
    "porian_owt2_tuned_short_const",
    "porian_rw_base_short_chinchilla",
)
PUBLISHED = ("chinchilla", "morph", "gemstones")
SHARE, FOLDS, RANDOM_FOLDS = 0.2, 8, 2
DRAWS, STARTS, FORM_STARTS, PLAIN_STARTS = 100, 16, 4, 4
DELTA = 1e-3
QUESTIONS = ("compute", "sizes", "shapes")
CUTS = (3e8, 6e8)


@dataclasses.dataclass(frozen=True)
class Case:
    """One fit: a table, what is asked, and the rows held out."""

    path: Path
    question: str
    fold: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Errors |Δ ln L| of the held-out rows by who predicts them."""

    case: Case
    errors: dict[str, list[float]]
    inside: list[bool]
    """Whether the 90 % interval of `auto` holds each row."""
    seconds: float
    """CPU time of `auto`."""
    fitted: float
    """Mean |Δ ln L| that the fit reports of its own rows, less what the law predicts of them."""
    plain_ended_above: int
    """Published forms whose plain search ended above the solver's optimum."""


@cache
def table_at(path: Path) -> RunTable:
    """A table as it is fitted."""
    return without_duplicates(checked(read_table(path)[0]))[0]


def held_out_rows(table: RunTable, question: str) -> list[Array]:
    """Masks of the rows held out, one a fold."""
    if question == "compute":
        compute = table.n * table.d
        return [compute >= np.sort(compute)[-max(1, round(SHARE * len(table)))]]
    if question == "sizes":
        sizes = np.unique(table.n)
        return [table.n >= sizes[-max(1, round(SHARE * len(sizes)))]]
    generator = np.random.default_rng(0)
    if question == "shapes":
        groups = shape_groups(table)
        count = min(FOLDS, int(groups.max()) + 1)
        place = generator.permutation(int(groups.max()) + 1)[groups] % count
        return [place == fold for fold in range(count)]
    if question == "random rows":
        place = generator.permutation(len(table)) % round(1 / SHARE)
        return [place == fold for fold in range(RANDOM_FOLDS)]
    if question == "one shape":
        groups = shape_groups(table)
        return [groups == group for group in range(int(groups.max()) + 1)]
    return [table.n >= float(question.removeprefix("N >= "))]


def solve(case: Case) -> Outcome:
    """Fit everything on the training part and predict the rest."""
    table = table_at(case.path)
    test = held_out_rows(table, case.question)[case.fold]
    train, rest = table.take(~test), table.take(test)
    observed, features = np.log(rest.loss), table_features(rest)
    begin = time.process_time()
    found = estimate_law(train, "auto", bootstrap=DRAWS, delta=DELTA)
    seconds = time.process_time() - begin
    law = found.law
    low, high = law.interval_of(features, 0.9)
    errors = {"auto": np.abs(law.log_loss_of(features) - observed)}
    again = law.predict_table(train)["error"]["mean_abs_log"]
    fitted = float(np.abs(found.residuals).mean()) - again
    above = 0
    if case.question != "random rows":
        train_features = table_features(train)
        informative = frozenset(varying(train_features))
        for name in candidates(train):
            if name not in {*AUTO, *PUBLISHED}:
                continue
            form = build_form(name, informative)
            optimum = best_fits(
                form,
                train_features,
                train.loss,
                np.ones((1, len(train))),
                delta=DELTA,
                starts=STARTS if name in PUBLISHED else FORM_STARTS,
            )[0]
            predicted = predict_log_loss(form, optimum.theta, features)
            if name in PUBLISHED:
                value, plain = plain_optimum(name, train)
                if value < optimum.objective:
                    predicted = plain(rest)
                above += value > optimum.objective * (1 + 1e-6)
            errors[name] = np.abs(predicted - observed)
    inside = (np.log(low) <= observed) & (observed <= np.log(high))
    return Outcome(
        case,
        {name: values.tolist() for name, values in errors.items()},
        inside.tolist(),
        seconds,
        fitted,
        above,
    )


# --- the published forms, once more and plainly ---------------------------------------------------


def plain_optimum(name: str, table: RunTable) -> tuple[float, Callable[[RunTable], Array]]:
    """Least objective of a published form by L-BFGS from random starts, and its prediction of ln L.

    Each form is ln Σ exp(X·θ), Morph's with ln(1 + exp(ε + γ·ln R)) added.
    """
    from scipy.optimize import minimize

    observed = np.log(table.loss)
    terms, factor = _design(name, table)
    size = terms.shape[2]

    def cost(theta: Array, delta: float) -> tuple[float, Array]:
        value, slope = _log_loss(terms, factor, theta)
        residual = value - observed
        score = np.clip(residual, -delta, delta)
        return float((score * (residual - 0.5 * score)).sum()), slope.T @ score

    generator = np.random.default_rng(0)
    best, least = np.zeros(size), np.inf
    for _ in range(PLAIN_STARTS):
        theta = _random_start(name, generator)
        for delta in (0.1, 0.01, DELTA):
            theta = minimize(
                cost, theta, args=(delta,), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
            ).x
        value = cost(theta, DELTA)[0]
        if value < least:
            best, least = theta, value
    return least, lambda other: _log_loss(*_design(name, other), best)[0]


def _design(name: str, table: RunTable) -> tuple[Array, Array]:
    """Terms [rows, terms, parameters] and Morph's factor [rows, parameters] (zeros elsewhere)."""
    ones, log_n, log_d = np.ones(len(table)), np.log(table.n), np.log(table.d)
    columns = [[(0, ones)], [(1, ones), (2, -log_n)], [(3, ones), (4, -log_d)]]
    if name == "gemstones":
        columns += [
            [(5, ones), (6, -np.log(table.shape["d_model"]))],
            [(7, ones), (8, -np.log(table.shape["n_layers"]))],
        ]
    size = {"chinchilla": 5, "morph": 7, "gemstones": 9}[name]
    terms = np.zeros((len(table), len(columns), size))
    for number, parts in enumerate(columns):
        for position, column in parts:
            terms[:, number, position] = column
    factor = np.zeros((len(table), size))
    if name == "morph":
        factor[:, 5] = 1.0
        factor[:, 6] = np.log(table.shape["d_model"] / table.shape["n_layers"])
    return terms, factor


def _log_loss(terms: Array, factor: Array, theta: Array) -> tuple[Array, Array]:
    exponents = terms @ theta
    top = exponents.max(axis=1, keepdims=True)
    raised = np.exp(exponents - top)
    total = raised.sum(axis=1)
    value = np.log(total) + top[:, 0]
    slope = np.einsum("mk,mkp->mp", raised / total[:, None], terms)
    if factor.any():
        height = factor @ theta
        value = value + np.logaddexp(0.0, height)
        slope = slope + factor * (1 / (1 + np.exp(-np.clip(height, -500, 500))))[:, None]
    return value, slope


def _random_start(name: str, generator: np.random.Generator) -> Array:
    start = [
        generator.uniform(-1, 1),
        generator.uniform(2, 8),
        generator.uniform(0.1, 0.7),
        generator.uniform(2, 8),
        generator.uniform(0.1, 0.7),
    ]
    if name == "morph":
        start += [generator.uniform(-8, -2), generator.uniform(0.2, 1.5)]
    if name == "gemstones":
        start += [generator.uniform(-2, 2), generator.uniform(0.1, 0.9)] * 2
    return np.array(start)


# --- summaries ------------------------------------------------------------------------------------


def cases_of(path: Path) -> list[Case]:
    """All fits that a table asks for."""
    table = table_at(path)
    questions = [*QUESTIONS, "random rows"]
    if path.stem == "gemstones":
        questions += [*(f"N >= {cut:g}" for cut in CUTS), "one shape"]
    return [
        Case(path, question, fold)
        for question in questions
        for fold in range(len(held_out_rows(table, question)))
    ]


def summary(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Every figure, as plain values."""
    grouped: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        key = (outcome.case.path.stem, outcome.case.question)
        grouped.setdefault(key, []).append(outcome)
    rows: list[dict[str, Any]] = []
    for (table, question), several in grouped.items():
        shared = set.intersection(*(set(one.errors) for one in several))
        errors = {
            name: float(np.mean([error for one in several for error in one.errors[name]]))
            for name in sorted(shared)
        }
        published = {name: errors[name] for name in PUBLISHED if name in errors}
        best = min(published, key=lambda name: published[name]) if published else None
        inside = [hit for one in several for hit in one.inside]
        rows.append(
            {
                "table": table,
                "question": question,
                "rows": len(inside),
                "errors": errors,
                "published": best,
                "ratio": None if best is None else errors["auto"] / published[best],
                "coverage": float(np.mean(inside)),
                "covered": int(np.sum(inside)),
                "cpu_seconds": max(one.seconds for one in several),
                "fit_less_predict": max(abs(one.fitted) for one in several),
                "plain_search_ended_above": sum(one.plain_ended_above for one in several),
            }
        )
    scored = [row for row in rows if row["question"] in QUESTIONS]
    ratios = np.array([row["ratio"] for row in scored])
    families: dict[str, list[float]] = {}
    for row in scored:
        families.setdefault(row["table"].split("_")[0], []).append(row["ratio"])
    coverage = {}
    for question in (*QUESTIONS, "random rows"):
        asked = [row for row in rows if row["question"] == question]
        if asked:
            coverage[question] = {
                "rows": sum(row["covered"] for row in asked) / sum(row["rows"] for row in asked),
                "tables": float(np.mean([row["coverage"] for row in asked])),
            }
    return {
        "cases": rows,
        "ratio": _mean_ratio(ratios),
        "ratio_by_question": {
            question: _mean_ratio([r["ratio"] for r in scored if r["question"] == question])
            for question in QUESTIONS
        },
        "ratio_by_family": {name: _mean_ratio(values) for name, values in families.items()},
        "ratio_by_form": {
            name: _mean_ratio(
                [
                    row["errors"][name] / row["errors"][row["published"]]
                    for row in scored
                    if name in row["errors"]
                ]
            )
            for name in AUTO
        },
        "share_at_most_1.05": float(np.mean(ratios <= 1.05)) if len(ratios) else None,
        "coverage": coverage,
        "fit_less_predict": max((row["fit_less_predict"] for row in rows), default=None),
    }


def _mean_ratio(ratios: Iterable[float]) -> float | None:
    values = np.array(list(ratios))
    return float(np.exp(np.log(values).mean())) if len(values) else None


def show(found: dict[str, Any]) -> None:
    """For people."""
    print(
        f"{'table':34s} {'question':12s} {'rows':>4s} {'auto':>7s} {'best published':>22s} "
        f"{'ratio':>6s} {'covered':>8s} {'CPU s':>6s}  forms"
    )
    for row in found["cases"]:
        errors = row["errors"]
        best = row["published"]
        forms = " ".join(
            f"{name} {value:.4f}" for name, value in errors.items() if name not in ("auto", best)
        )
        print(
            f"{row['table']:34s} {row['question']:12s} {row['rows']:4d} {errors['auto']:7.4f} "
            f"{'' if best is None else f'{best} {errors[best]:.4f}':>22s} "
            f"{'' if best is None else format(row['ratio'], '.3f'):>6s} "
            f"{row['coverage']:8.0%} {row['cpu_seconds']:6.1f}  {forms}"
        )
    for name in ("ratio", "ratio_by_question", "ratio_by_family", "ratio_by_form"):
        value = found[name]
        told = value if isinstance(value, dict) else {"": value}
        print(name, " ".join(f"{key} {one:.3f}" for key, one in told.items() if one is not None))
    print(f"share of cases at or below 1.05: {found['share_at_most_1.05']:.0%}")
    for question, shares in found["coverage"].items():
        print(
            f"coverage, {question}: {shares['rows']:.1%} of rows, mean of tables "
            f"{shares['tables']:.1%}"
        )
    if "gemstones_objective" in found:
        print(
            f"gemstones, all rows: objective {found['gemstones_objective']:.6f}, "
            f"{found['gemstones_cpu_seconds']:.1f} s of CPU"
        )
    print(f"fit less predict on the rows of the fit: at most {found['fit_less_predict']:.1e}")


def whole_gemstones(path: Path) -> dict[str, float]:
    """The fit a user gets of all rows: its objective and its CPU time."""
    begin = time.process_time()
    fit = fit_law(table_at(path), "auto")
    return {
        "gemstones_objective": fit.objective,
        "gemstones_cpu_seconds": time.process_time() - begin,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Held-out error and coverage on run tables.")
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="tables whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    paths = options.tables or [FOLDER.resolve() / f"{name}.csv" for name in NAMES]
    paths = [path for path in paths if options.only in path.stem and path.is_file()]
    if not paths:
        raise BadInput("tables: none is at hand; name the files")
    cases = [case for path in paths for case in cases_of(path)]
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(solve, cases))
    else:
        outcomes = [solve(case) for case in cases]
    found = summary(outcomes)
    for path in paths:
        if path.stem == "gemstones":
            found |= whole_gemstones(path)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()
