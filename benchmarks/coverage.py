"""Whether 90 % intervals hold 90 %: fits to synthetic runs whose law is known.

    python -m benchmarks.coverage [--repetitions 200] [--only TEXT] [--objective huber|squared]
                                  [--json]

Each repetition draws new noise (per trunk and per row, in ln loss) around a fixed truth on a fixed
design, fits as a user would, and asks whether each parameter's interval holds its true value, and
whether the prediction interval holds a new run: of the same configurations, and of models three
times as large on three times the tokens. Parameters reported as not identified are counted in a
column of their own; `identified` is the coverage of the others. About 40 minutes of one core,
spread over all there are.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.splits import varying
from shapelaw.scaling.run_table import RunTable, clusters

STUDY = Path(__file__).parents[1] / "results" / "reference"
LEVEL = 0.9
DRAWS, STARTS = 100, 8
LARGER = float(np.log(3))
_POWERS = {"E": 1.8, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.34}
_SHAPED = {
    "E": 1.6,
    "A": 150.0,
    "B": 1500.0,
    "alpha": 0.4,
    "beta": 0.42,
    "kappa": 0.05,
    "gamma": 0.02,
    "sigma": 0.1,
    "rho": 0.25,
    "tau": 0.1,
    "W": 4.0,
    "K": 0.9,
    "omega": 0.5,
    "lambda": 0.7,
}
_SMALL = {
    "E": 0.55,
    "A": 1.05,
    "B": 120.0,
    "alpha": 0.2,
    "beta": 0.47,
    "kappa": 0.08,
    "gamma": 0.03,
    "sigma": -0.05,
    "rho": 0.15,
    "tau": 0.3,
    "W": 8.0,
    "K": 0.13,
    "omega": 1.2,
    "lambda": 1.0,
}
"""As laws fitted to models of 1e4 to 1e5 parameters are."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A truth on a design."""

    form: str
    design: str
    table: RunTable
    """Its losses are ignored."""
    truth: Mapping[str, float]
    trunk_noise: float
    """Standard deviation in ln loss that all rows of a run share."""
    row_noise: float

    def parameters(self) -> tuple[str, ...]:
        """Names, for the columns that the design has."""
        features = table_features(self.table)
        return build_form(self.form, frozenset(varying(features))).names

    def log_loss(self, features: Mapping[str, Array]) -> Array:
        """The truth at features that have the design's columns."""
        form = build_form(self.form, frozenset(varying(table_features(self.table))))
        theta = to_inner(form, np.array([self.truth[name] for name in form.names]))
        return predict_log_loss(form, theta, features)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One repetition."""

    covered: Array
    """Whether each parameter's interval holds the truth [p]."""
    flagged: Array
    """Whether it is reported as not identified [p]."""
    seen: float
    """Share of new runs of the same configurations inside their prediction intervals."""
    larger: float
    """The same, three times larger."""


def repeat(case: Case, objective: str, seed: int) -> Outcome:
    """Draw noise, fit, look."""
    generator = np.random.default_rng([seed, 7])
    groups = clusters(case.table)
    features = table_features(case.table)

    def noise(rows: int) -> Array:
        return case.row_noise * generator.standard_normal(rows)

    shared = case.trunk_noise * generator.standard_normal(int(groups.max()) + 1)[groups]
    log_loss = case.log_loss(features) + shared + noise(len(groups))
    fit = fit_law(
        dataclasses.replace(case.table, loss=np.exp(log_loss)),
        case.form,
        bootstrap=DRAWS,
        seed=seed,
        holdout=False,
        objective=objective,
        starts=STARTS,
    )
    names = case.parameters()
    covered = [
        fit.intervals[name][0] <= case.truth[name] <= fit.intervals[name][1] for name in names
    ]
    shares = []
    for where in (features, _larger(features)):
        low, high = fit.law.interval_of(where, LEVEL)
        loss = np.exp(
            case.log_loss(where)
            + noise(len(groups))
            + case.trunk_noise * generator.standard_normal(len(groups))
        )
        shares.append(float(np.mean((low <= loss) & (loss <= high))))
    open_ones = fit.diagnostics["not_identified"]
    return Outcome(np.array(covered), np.array([name in open_ones for name in names]), *shares)


def _larger(features: Mapping[str, Array]) -> dict[str, Array]:
    """The same shapes with more of everything; width and depth grow alike (N ~ width²·depth)."""
    growth = {
        "ln_n": 1,
        "ln_d": 1,
        "ln_n_once": 1,
        "ln_n_recurrent": 1,
        "ln_width": 1 / 3,
        "ln_depth": 1 / 3,
        "ln_x": -1 / 6,
    }
    return {name: column + LARGER * growth.get(name, 0) for name, column in features.items()}


def cases() -> list[Case]:
    """Designs as people run them, and some that cannot tell."""
    grid_n = np.repeat(np.geomspace(2e7, 5e9, 8), 6)
    grid_d = grid_n * np.tile(np.geomspace(5, 160, 6), 8)
    trunk = np.repeat(np.arange(12), 8)
    found = [
        Case("chinchilla", "grid of 48 runs", _table(grid_n, grid_d), _POWERS, 0.0, 0.005),
        Case(
            "chinchilla",
            "12 trunks, 8 checkpoints each",
            _table(
                np.geomspace(1e7, 2e9, 12)[trunk], np.tile(np.geomspace(1e9, 3e10, 8), 12), trunk
            ),
            _POWERS,
            0.006,
            0.004,
        ),
        Case(
            "chinchilla",
            "tokens proportional to N",
            _table(np.geomspace(1e6, 1e9, 30), 20 * np.geomspace(1e6, 1e9, 30)),
            _POWERS,
            0.0,
            0.004,
        ),
    ]
    some = _random_runs(80, seed=3)
    for form, columns, more in (
        ("morph", ("d_model", "n_layers"), {"epsilon": 2e-3, "gamma": 0.9}),
        ("gemstones", ("d_model", "n_layers"), {"W": 4.0, "K": 0.9, "omega": 0.45, "lambda": 0.7}),
        (
            "conditional",
            ("d_model", "mlp_attention_ratio"),
            {"c_x": 0.03, "x_opt": 0.08, "c_r": 0.02, "r_opt": 1.03},
        ),
        ("looped", ("sharing",), {"phi": 0.459}),
    ):
        found.append(Case(form, "80 runs", _only(some, columns), {**_POWERS, **more}, 0.0, 0.005))
    found.append(
        Case("shape", "120 runs, every axis", _random_runs(120, seed=4), _SHAPED, 0.0, 0.006)
    )
    found.append(
        Case(
            "shape",
            "24 runs, d_model / layers alone",
            _only(_random_runs(24, seed=5), ("d_model", "n_layers")),
            _SHAPED,
            0.0,
            0.006,
        )
    )
    if STUDY.is_dir():
        study, _ = read_table(STUDY)
        found.append(Case("shape", "the reference study", study, _SMALL, 0.006, 0.004))
    return found


def _table(n: Array, d: Array, run: Array | None = None, **shape: Array) -> RunTable:
    names = (np.arange(len(n)) if run is None else run).astype(str)
    return RunTable(n=n, d=d, loss=np.ones(len(n)), run=names, shape=shape)


def _random_runs(rows: int, seed: int) -> RunTable:
    """Every axis on its own: N over 2.3 decades, 5 to 160 tokens a parameter, all shapes."""
    generator = np.random.default_rng(seed)
    n = 10 ** generator.uniform(7, 9.3, rows)
    width = (n * 10 ** generator.uniform(0.8, 2.2, rows) / 12) ** (1 / 3)
    return _table(
        n,
        n * 10 ** generator.uniform(0.7, 2.2, rows),
        d_model=width,
        n_layers=n / 12 / width**2,
        mlp_attention_ratio=np.exp(generator.uniform(-1.0, 1.5, rows)),
        gqa_group=generator.choice([1.0, 2.0, 4.0], rows),
        sharing=generator.choice([1.0, 2.0, 4.0], rows),
    )


def _only(table: RunTable, columns: tuple[str, ...]) -> RunTable:
    return dataclasses.replace(table, shape={name: table.shape[name] for name in columns})


def measure(
    case: Case, objective: str, repetitions: int, pool: ProcessPoolExecutor | None = None
) -> list[Outcome]:
    """Every repetition of a case."""
    arguments = [case] * repetitions, [objective] * repetitions, range(repetitions)
    return list((map if pool is None else pool.map)(repeat, *arguments))


def main(arguments: list[str] | None = None) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description="Whether 90 % intervals hold 90 %.")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--only", default="", help="cases whose form or design has this in it")
    parser.add_argument("--objective", choices=("huber", "squared"), default="huber")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not options.json:
        print(f"{options.objective}, {options.repetitions} repetitions, {DRAWS} draws each")
        print(
            f"{'form':12s} {'design':34s} {'parameter':12s} {'truth':>9s} {'covered':>8s} "
            f"{'not identified':>15s}"
        )
    rows = []
    with ProcessPoolExecutor() as pool:
        for case in cases():
            if options.only not in f"{case.form} {case.design}":
                continue
            rows.append(summary(case, measure(case, options.objective, options.repetitions, pool)))
            if not options.json:
                show(case, rows[-1])
    if options.json:
        print(json.dumps({"repetitions": options.repetitions, "cases": rows}))


def summary(case: Case, found: list[Outcome]) -> dict[str, Any]:
    """Every share of a case, as plain values."""
    covered = np.array([one.covered for one in found])
    flagged = np.array([one.flagged for one in found])
    known = covered[~flagged]
    return {
        "form": case.form,
        "design": case.design,
        "parameters": {
            name: {
                "covered": float(covered[:, k].mean()),
                "not_identified": float(flagged[:, k].mean()),
            }
            for k, name in enumerate(case.parameters())
        },
        "identified_covered": float(known.mean()) if known.size else None,
        "not_identified": float(flagged.mean()),
        "runs_seen": float(np.mean([one.seen for one in found])),
        "runs_3x_larger": float(np.mean([one.larger for one in found])),
    }


def show(case: Case, row: dict[str, Any]) -> None:
    """For people."""
    head = f"{case.form:12s} {case.design:34s}"
    for name, one in row["parameters"].items():
        print(
            f"{head} {name:12s} {case.truth[name]:9.4g} {one['covered']:8.2f} "
            f"{one['not_identified']:15.2f}"
        )
    known = row["identified_covered"]
    print(
        f"{head} {'identified':12s} {'':9s} {float('nan') if known is None else known:8.2f} "
        f"{row['not_identified']:15.2f}"
    )
    for name, share in (("seen", row["runs_seen"]), ("3× larger", row["runs_3x_larger"])):
        print(f"{head} {'runs ' + name:22s} {share:8.2f}", flush=True)


if __name__ == "__main__":
    main()
