"""Held-out error and coverage on run tables that other people published.

    python -m benchmarks.tables [TABLE.csv ...] [--only TEXT] [--jobs 2] [--keep FILE] [--json]

Three questions a table: the largest 20 % of compute, the largest 20 % of sizes, and 8 folds by
shape (by size where a table tells none). Everything is fitted to the training part alone: `auto`
as a user gets it, each of its forms, and the three published forms (Chinchilla, Morph, Gemstones),
of which the least error is taken, after the fact. Their optima are searched twice: by this
project's solver and by L-BFGS on a plain objective written here; the lower one counts. `ratio` is
the error of `auto` to the best published one's, errors being means of |Δ ln L|. Coverage is of 90 %
intervals of a new run, on the same questions and on random rows. On Gemstones the comparisons that
the project has published before stand beside it. A last check fits every form to every whole table
and asks whether `predict` gives the fit's own errors. It ends with a line for each bar: the figure,
the limit, and whether it holds. About half an hour of one core; each case is told on stderr,
and kept in FILE, from which a run that was cut off goes on (with the same code).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.published_forms import DELTA, PUBLISHED, plain_optimum
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
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable, checked, shape_groups, without_duplicates
from shapelaw.scaling.terms import Form

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
SHARE, FOLDS, RANDOM_FOLDS = 0.2, 8, 2
DRAWS, STARTS = 100, 16
QUESTIONS = ("compute", "sizes", "shapes")
CUTS = (3e8, 6e8)
RANDOM, ONE_SHAPE = "random rows", "one shape"
EXACT = 1e-9  # by which `predict` may differ from the fit on its own rows
_PREDICT_STARTS = 2


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
    if question == RANDOM:
        place = generator.permutation(len(table)) % round(1 / SHARE)
        return [place == fold for fold in range(RANDOM_FOLDS)]
    if question == ONE_SHAPE:
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
    if case.question != RANDOM and found.choice is not None:
        train_features = table_features(train)
        informative = frozenset(varying(train_features))
        known = {
            law_of(build_form(name, informative)): optimum
            for name, optimum in found.choice.optima.items()
        }
        for name in candidates(train):
            if name not in {*AUTO, *PUBLISHED}:
                continue
            form = build_form(name, informative)
            optimum = known.get(law_of(form))
            if optimum is None or name in PUBLISHED:
                weights = np.ones((1, len(train)))
                optimum = best_fits(
                    form, train_features, train.loss, weights, delta=DELTA, starts=STARTS
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


def law_of(form: Form) -> tuple[Any, ...]:
    """What makes two forms the same law of a table: where it tells no shape, several are."""
    return form.terms, form.joins, form.parameters


def fit_less_predict(path: Path) -> dict[str, float]:
    """Of each form, by how much `predict` on the rows of its fit differs from the fit's own mean
    |Δ ln L|, read back from a law file as a user would."""
    table = table_at(path)
    found = {}
    for name in candidates(table):
        estimate = estimate_law(
            table, name, bootstrap=0, delta=DELTA, holdout=False, starts=_PREDICT_STARTS
        )
        with tempfile.TemporaryDirectory() as folder:
            estimate.law.to_file(Path(folder) / "law.json")
            again = Law.from_file(Path(folder) / "law.json").predict_table(table)["error"]
        found[name] = abs(float(np.abs(estimate.residuals).mean()) - again["mean_abs_log"])
    return found


# --- summaries ------------------------------------------------------------------------------------


def cases_of(path: Path) -> list[Case]:
    """All fits that a table asks for."""
    table = table_at(path)
    questions = [*QUESTIONS, RANDOM]
    if path.stem == "gemstones":
        questions += [*(f"N >= {cut:g}" for cut in CUTS), ONE_SHAPE]
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
    for question in (*QUESTIONS, RANDOM):
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


@dataclasses.dataclass(frozen=True)
class Bar:
    """One figure and the range that it is to lie in."""

    says: str
    value: float | None
    """None: not measured."""
    most: float
    least: float = 0.0

    def plain(self) -> dict[str, Any]:
        """As it is printed as JSON."""
        held = None if self.value is None else bool(self.least <= self.value <= self.most)
        return {**dataclasses.asdict(self), "holds": held}


def bars(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures that the project has promised, each with its limit and whether it holds."""

    def error(question: str) -> float | None:
        rows = [r for r in found["cases"] if (r["table"], r["question"]) == ("gemstones", question)]
        return rows[0]["errors"]["auto"] if rows else None

    families = found["ratio_by_family"]
    worst = max(families, key=lambda name: families[name]) if families else None
    share = found["share_at_most_1.05"]
    told = [
        Bar("auto over the best published form, geometric mean", found["ratio"], 0.80),
        Bar(
            f"the same in the worst family of tables ({worst})",
            families[worst] if worst else None,
            1.15,
        ),
        Bar("share of cases at or below 1.05", share, 1.0, 0.70),
        Bar("Gemstones, trained on N < 3e8", error("N >= 3e+08"), 0.0056),
        Bar("Gemstones, trained on N < 6e8", error("N >= 6e+08"), 0.0026),
        Bar("Gemstones, one shape left out", error(ONE_SHAPE), 0.0020),
        Bar("Gemstones, objective on all rows", found.get("gemstones_objective"), 0.00090),
        Bar("Gemstones, CPU seconds of a fit", found.get("gemstones_cpu_seconds"), 20.0),
        Bar("fit less predict, auto", found["fit_less_predict"], EXACT),
        Bar(
            "fit less predict, every form on every table",
            max(d for forms in found["fit_less_predict_by_form"].values() for d in forms.values()),
            EXACT,
        ),
    ]
    for question, least, most in (
        (RANDOM, 0.87, 0.95),
        ("shapes", 0.87, 0.95),
        ("compute", 0.82, 0.96),
        ("sizes", 0.82, 0.96),
    ):
        shares = found["coverage"].get(question)
        told.append(
            Bar(
                f"coverage of 90 % intervals, {question}",
                None if shares is None else shares["rows"],
                most,
                least,
            )
        )
    return [bar.plain() for bar in told]


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
    for bar in found["bars"]:
        verdict = {None: "not measured", True: "holds", False: "MISSED"}[bar["holds"]]
        value = "-" if bar["value"] is None else f"{bar['value']:.4g}"
        limit = (
            f"{bar['least']:g} to {bar['most']:g}" if bar["least"] else f"at most {bar['most']:g}"
        )
        print(f"{bar['says']:58s} {value:>9s}  {limit:>14s}  {verdict}")


def whole_gemstones(path: Path) -> dict[str, float]:
    """The fit a user gets of all rows: its objective and its CPU time."""
    begin = time.process_time()
    fit = fit_law(table_at(path), "auto")
    return {
        "gemstones_objective": fit.objective,
        "gemstones_cpu_seconds": time.process_time() - begin,
    }


def kept(path: Path) -> list[Outcome]:
    """Outcomes of an earlier run that was cut off, perhaps in the middle of a line."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [
        msgspec.json.decode(line, type=Outcome, dec_hook=lambda _, text: Path(text))
        for line in lines
    ]


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Held-out error and coverage on run tables.")
    parser.add_argument("tables", nargs="*", type=Path)
    parser.add_argument("--only", default="", help="tables whose name has this in it")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a file of cases already solved")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    paths = options.tables or [FOLDER.resolve() / f"{name}.csv" for name in NAMES]
    paths = [path for path in paths if options.only in path.stem and path.is_file()]
    if not paths:
        raise BadInput("tables: none is at hand; name the files")
    cases = [case for path in paths for case in cases_of(path)]
    outcomes = [o for o in kept(options.keep) if o.case in cases] if options.keep else []
    done = {outcome.case for outcome in outcomes}
    cases = [case for case in cases if case not in done]
    total = len(cases) + len(outcomes)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(options.jobs)) if options.jobs > 1 else None
        for outcome in (map if pool is None else pool.map)(solve, cases):
            outcomes.append(outcome)
            if options.keep:
                with options.keep.open("ab") as file:
                    file.write(msgspec.json.encode(outcome, enc_hook=str) + b"\n")
            case, error = outcome.case, np.mean(outcome.errors["auto"])
            print(
                f"{len(outcomes)}/{total} {case.path.stem}, {case.question} {case.fold}: "
                f"{error:.4f}, {np.mean(outcome.inside):.0%} covered, {outcome.seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    found = summary(outcomes)
    for path in paths:
        if path.stem == "gemstones":
            found |= whole_gemstones(path)
    found["fit_less_predict_by_form"] = {path.stem: fit_less_predict(path) for path in paths}
    found["bars"] = bars(found)
    print(json.dumps(found)) if options.json else show(found)


if __name__ == "__main__":
    main()
