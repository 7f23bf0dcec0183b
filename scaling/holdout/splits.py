"""Hold-outs: how far a form can be trusted on shapes and sizes it has not seen."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.fitting.priors import has_prior
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.scores import matched_spearman, scores
from shapelaw.scaling.run_table import RunTable, shape_groups

LARGEST_SHARE = 0.2  # of distinct sizes, held out as the largest
MOST_FOLDS = 24  # of leave-one-shape-out; more shapes are pooled into so many folds
POOLED_FOLDS = 10
FOLD_STARTS = 4  # nearly every start ends at the optimum, so a few guard well enough
LEAST_ROWS = 6  # that a form with priors is fitted to
MOST_ROWS = 1_000  # a larger table is held out on an even subset of its rows: minutes otherwise


@dataclasses.dataclass(frozen=True)
class Split:
    """A named hold-out of one or more folds."""

    name: str
    train: Array
    """[folds, rows] masks of what is fitted on."""
    test: Array
    """[folds, rows] masks of what is predicted; each row at most once."""


def leave_largest(table: RunTable, axis: str, share: float = LARGEST_SHARE) -> Split | None:
    """Hold out the largest `share` of distinct values of N, D or C = 6·N·D."""
    values = {"N": table.n, "D": table.d, "C": table.n * table.d}[axis]
    distinct = np.unique(values)
    if len(distinct) < 4:
        return None
    edge = distinct[int(np.ceil(len(distinct) * (1 - share))) - (len(distinct) < 5)]
    test = values >= edge
    return Split(f"largest_{axis}", ~test[None, :], test[None, :])


def leave_next_largest(table: RunTable, axis: str) -> Split | None:
    """The same one step earlier: the largest are left out, and the block below them is tested."""
    last = leave_largest(table, axis)
    if last is None:
        return None
    rows = np.flatnonzero(last.train[0])
    share = LARGEST_SHARE / (1 - LARGEST_SHARE)  # as many as the largest
    earlier = leave_largest(table.take(rows), axis, share)
    if earlier is None:
        return None
    train, test = np.zeros((2, 1, len(table)), dtype=bool)
    train[0, rows], test[0, rows] = earlier.train[0], earlier.test[0]
    return Split(f"next_{axis}", train, test)


def leave_one_shape_out(
    table: RunTable, most: int = MOST_FOLDS, pooled: int = POOLED_FOLDS
) -> Split | None:
    """One fold a shape (a size, where the table has no shapes); more than `most` are `pooled`."""
    groups = shape_groups(table)
    count = int(groups.max()) + 1
    if count < 4:
        return None
    if count > most:
        groups = np.random.default_rng(0).permutation(count)[groups] % pooled
    test = groups[None, :] == np.unique(groups)[:, None]
    return Split("leave_one_shape_out", ~test, test)


def roll_out(table: RunTable, steps: int = 2) -> Split | None:
    """Train on the smaller sizes, test on the next ones: how a ladder of sizes is used."""
    distinct = np.unique(table.n)
    if len(distinct) < 4:
        return None
    cuts = np.quantile(distinct, np.linspace(0.5, 1.0, steps + 1))
    folds = [
        (table.n <= low, (table.n > low) & (table.n <= high))
        for low, high in itertools.pairwise(cuts)
    ]
    folds = [(train, test) for train, test in folds if train.any() and test.any()]
    return (
        Split(
            "roll_out",
            np.stack([train for train, _ in folds]),
            np.stack([test for _, test in folds]),
        )
        if folds
        else None
    )


def rolled_forward(table: RunTable) -> list[Split]:
    """What a law will be asked, rehearsed inside its table: more compute, larger sizes, in two
    steps each."""
    found = [
        step(table, axis) for axis in ("C", "N") for step in (leave_largest, leave_next_largest)
    ]
    return [split for split in found if split is not None]


def all_splits(table: RunTable) -> list[Split]:
    """Every split the table has enough sizes and shapes for."""
    found = [leave_largest(table, axis) for axis in ("N", "D", "C")]
    found += [leave_one_shape_out(table), roll_out(table)]
    return [split for split in found if split is not None]


def thinned(table: RunTable) -> RunTable:
    """The table, or an even subset of its rows where it is too large to refit many times."""
    if len(table) <= MOST_ROWS:
        return table
    return table.take(
        np.sort(np.random.default_rng(0).choice(len(table), MOST_ROWS, replace=False))
    )


def predict_splits(
    table: RunTable,
    features: Mapping[str, Array],
    form: str,
    splits: list[Split],
    *,
    delta: float,
    informative: frozenset[str],
    starts: int = FOLD_STARTS,
    begin: Array | None = None,
) -> dict[str, Array]:
    """Predicted ln L of the held-out rows of each split [rows], NaN elsewhere.

    `begin` [k, p]: further points to start from, such as the fit to all rows. A split whose
    training part has no more rows than the form has parameters is left out.
    """
    declaration = build_form(form, informative)
    # Priors tell a form what so few rows leave open.
    least = LEAST_ROWS if has_prior(declaration) else len(declaration.names) + 1
    usable = [split for split in splits if split.train.sum(axis=1).min() >= least]
    if not usable:
        return {}
    weights = np.concatenate([split.train for split in usable]).astype(float)
    found = best_fits(
        declaration, features, table.loss, weights, delta=delta, starts=starts, begin=begin
    )
    answers: dict[str, Array] = {}
    at = 0
    for split in usable:
        predicted = np.full(len(table), np.nan)
        for test in split.test:
            part = {name: features[name][test] for name in features}
            predicted[test] = predict_log_loss(declaration, found[at].theta, part)
            at += 1
        answers[split.name] = predicted
    return answers


def score_split(table: RunTable, predicted: Array) -> dict[str, Any]:
    """Error, bias, rank correlation, and rank correlation at fixed N and D, of held-out rows."""
    rows = np.isfinite(predicted)
    observed = np.log(table.loss[rows])
    answer: dict[str, Any] = dict(scores(predicted[rows], observed))
    answer["spearman_at_fixed_n_d"] = matched_spearman(
        predicted[rows], observed, np.log(table.n[rows]), np.log(table.d[rows])
    )
    answer["rows"] = int(rows.sum())
    return answer


def rehearsed(
    table: RunTable, form: str, *, delta: float = 1e-3
) -> tuple[RunTable, list[Split], dict[str, Array]]:
    """The table (thinned where large), its splits, and a form's predictions of held-out rows."""
    table = thinned(table)
    features = table_features(table)
    splits = all_splits(table)
    have = {split.name for split in splits}
    splits += [split for split in rolled_forward(table) if split.name not in have]
    predicted = predict_splits(
        table, features, form, splits, delta=delta, informative=frozenset(varying(features))
    )
    return table, splits, predicted


def varying(features: Mapping[str, Array]) -> list[str]:
    """Features that take more than one value, and the constant one."""
    return [
        name
        for name, column in features.items()
        if name == "one" or (np.all(np.isfinite(column)) and np.ptp(column) > 1e-9)
    ]
