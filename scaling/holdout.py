"""Hold-outs: how far a form can be trusted on shapes and sizes it has not seen."""

import dataclasses
from typing import Any

import numpy as np

from scaling.errors import BadInput
from scaling.features import table_features
from scaling.forms import build_form
from scaling.model import Array, Model
from scaling.scores import matched_spearman, scores
from scaling.solver import minimise
from scaling.starts import starting_points
from scaling.table import RunTable, shape_groups

_LARGEST_SHARE = 0.2  # of the runs, held out as the largest


@dataclasses.dataclass(frozen=True)
class Split:
    """A named hold-out of one or more folds: rows trained on and rows tested."""

    name: str
    folds: list[tuple[Array, Array]]
    """(train mask, test mask) pairs [rows]."""


def leave_largest(table: RunTable, axis: str, share: float = _LARGEST_SHARE) -> Split | None:
    """Hold out the largest `share` of distinct values of N, D or C = 6·N·D."""
    values = {"N": table.n, "D": table.d, "C": 6 * table.n * table.d}[axis]
    distinct = np.unique(values)
    if len(distinct) < 4:
        return None
    edge = distinct[int(np.ceil(len(distinct) * (1 - share)))]
    test = values >= edge
    return Split(f"largest_{axis}", [(~test, test)])


def leave_one_shape_out(table: RunTable, most: int = 40) -> Split | None:
    """One fold a shape; beyond `most` shapes, shapes are pooled into that many folds."""
    groups = shape_groups(table)
    count = int(groups.max()) + 1
    if count < 4:
        return None
    fold = groups % most if count > most else groups
    return Split("leave_one_shape_out",
                 [(fold != k, fold == k) for k in range(int(fold.max()) + 1)])


def roll_out(table: RunTable, steps: int = 3) -> Split | None:
    """Train on sizes up to each cut, test on the next: how a ladder of sizes is used."""
    cuts = np.quantile(np.unique(table.n), np.linspace(0.5, 1.0, steps + 1))
    folds = []
    for low, high in zip(cuts[:-1], cuts[1:], strict=True):
        train, test = table.n <= low, (table.n > low) & (table.n <= high)
        if train.any() and test.any():
            folds.append((train, test))
    return Split("roll_out", folds) if folds else None


def all_splits(table: RunTable) -> list[Split]:
    """Every split the table has enough sizes and shapes for."""
    found = [leave_largest(table, axis) for axis in ("N", "D", "C")]
    found += [leave_one_shape_out(table), roll_out(table)]
    return [split for split in found if split is not None]


def held_out(
    table: RunTable, form: str, split: Split, *, delta: float, starts: int = 24,
) -> dict[str, Any] | None:
    """Error, bias and rank correlation at fixed N and D over all folds of a split.

    The form is fitted on the training rows alone. None where a fold leaves too few of them.
    """
    log_loss = np.log(table.loss)
    predicted = np.full(len(table), np.nan)
    features = table_features(table)
    for train, test in split.folds:
        part = {name: column[train] for name, column in features.items()}
        declaration = build_form(form, frozenset(varying(part)))
        if train.sum() <= len(declaration.names):
            return None
        try:
            model = Model(declaration, part)
        except BadInput:
            return None
        weights = np.ones(int(train.sum()))
        begin = starting_points(model, table.loss[train], weights, starts)
        found = minimise(model, log_loss[train], begin, weights, delta=delta)
        best = found.theta[found.penalised.argmin()]
        everything = Model(declaration, features)
        predicted[test] = everything.log_loss(everything.centred(best[None, :]))[0][test]
    tested = np.isfinite(predicted)
    answer: dict[str, Any] = dict(scores(predicted[tested], log_loss[tested]))
    answer["spearman_at_fixed_n_d"] = matched_spearman(
        predicted[tested], log_loss[tested], features["ln_n"][tested], features["ln_d"][tested])
    answer["rows"] = int(tested.sum())
    return answer


def varying(features: dict[str, Array]) -> list[str]:
    """Features that take more than one value."""
    return [name for name, column in features.items()
            if np.all(np.isfinite(column)) and np.ptp(column) > 1e-9]
