"""`--form auto`: one form, or a stack of several, by the error on runs they were not fitted to.

Every form of `AUTO` whose columns the table has is refitted on the training part of every split,
all inside the table at hand. The splits rehearse what a law is asked: more compute, larger sizes
(each in two steps), then shapes left out. A form's score is the geometric mean over these three of
its mean absolute log error, so that no scale decides alone; the least wins, whatever its count of
parameters. Forms within `FAR_BEHIND` of it are stacked, and the stack is taken unless it does
clearly worse (`FLATTERY`) than the best form alone, whose score is flattered by having been picked.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import Optimum, best_fits
from shapelaw.scaling.forms import FORMS, build_form
from shapelaw.scaling.holdout.splits import (
    Split,
    leave_largest,
    leave_one_shape_out,
    predict_splits,
    rolled_forward,
    score_split,
    thinned,
    varying,
)
from shapelaw.scaling.holdout.stacking import stack_weights
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terms import Form

AUTO = (
    "chinchilla",
    "gemstones",
    "shape",
    "shape-depth",
    "norm",
    "shape-norm",
    "shape-norm-monotone",
)
"""Forms that stand for election. Left out are those that published tables hold out badly: a factor
of the aspect ratio alone, and bowls around an optimum without priors, follow a few shapes too far.
"""

FAR_BEHIND = 1.6
"""A form whose held-out error is so many times the best one's has no part in a stack."""
FLATTERY = 1.1
"""By how much the best of several forms looks better on the rows it was picked on than on others.

On published tables without their largest runs, stacks that a single form beats by less still
predict better."""
LEAST_WEIGHT = 0.02
"""Of a stack's member; less changes no prediction and costs as much."""
SHAPE_FOLDS = 5
ASKED = {
    "largest_C": "C",
    "next_C": "C",
    "largest_N": "N",
    "next_N": "N",
    "leave_one_shape_out": "shape",
}
"""Split -> what it rehearses. Others are scored and do not count."""
_LEAST_ERROR = 1e-6  # below it errors are rounding, and their logarithms are not compared
_STARTS, _FOLD_STARTS = 8, 1  # of the whole table; of a fold, beside the fit to the whole


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen forms, why, and how every candidate did."""

    forms: tuple[str, ...]
    """The best one first."""
    weights: Array
    """Of the forms; they sum to one."""
    reason: str
    runner_up: str | None
    """The best form that has no part in it, or else the second in it."""
    scores: dict[str, dict[str, dict[str, Any]]]
    """Form -> split -> scores; `stack` among them."""
    optima: dict[str, Optimum]
    """Fit of each candidate to the (thinned) table."""
    table: RunTable
    """Thinned where it is large; what the splits' rows refer to."""
    splits: list[Split]
    predictions: dict[str, dict[str, Array]]
    """Form -> split -> predicted ln L of held-out rows, NaN elsewhere."""

    @property
    def form(self) -> str:
        """The best of the forms."""
        return self.forms[0]


def candidates(table: RunTable) -> list[str]:
    """Forms that read only features which vary in the table."""
    features = frozenset(varying(table_features(table)))
    found = []
    for name in FORMS:
        declaration = build_form(name, features)
        if needs(declaration) <= features and len(table) > len(declaration.names):
            found.append(name)
    return found


def _without_twins(names: list[str], table: RunTable) -> list[str]:
    """Names of forms, each once: where a table tells no shape, some are the same law."""
    features = frozenset(varying(table_features(table)))
    found: dict[tuple[Any, ...], str] = {}
    for name in names:
        form = build_form(name, features)
        found.setdefault((form.terms, form.joins, form.parameters), name)
    return list(found.values())


def needs(form: Form) -> set[str]:
    """Features that must vary for a form to say more than a simpler one."""
    wanted = set(form.features)
    if "ln_n_looped" in wanted:
        wanted = (wanted - {"ln_n_looped"}) | {"ln_s"}
    return wanted - {"ln_n", "ln_d"}


def choose(table: RunTable, *, delta: float) -> Choice:
    """Choose among the candidates.

    Raises:
        BadInput: the table has too few rows for any form.
    """
    names = _without_twins([name for name in candidates(table) if name in AUTO], table)
    if not names:
        raise BadInput(f"rows = {len(table)}: the smallest form needs more than 5")
    table = thinned(table)
    data_axis = leave_largest(table, "D")
    splits = [*rolled_forward(table), *([] if data_axis is None else [data_axis])]
    shapes = leave_one_shape_out(table, SHAPE_FOLDS, SHAPE_FOLDS)
    splits += [] if shapes is None else [shapes]
    features = table_features(table)
    informative = frozenset(varying(features))
    optima, predictions = {}, {}
    for name in names:
        form = build_form(name, informative)
        optima[name] = best_fits(
            form, features, table.loss, np.ones((1, len(table))), delta=delta, starts=_STARTS
        )[0]
        predictions[name] = predict_splits(
            table,
            features,
            name,
            splits,
            delta=delta,
            informative=informative,
            starts=_FOLD_STARTS,
            begin=optima[name].theta[None, :],
        )
    scored = {
        name: {split: score_split(table, values) for split, values in found.items()}
        for name, found in predictions.items()
    }
    # Forms are compared on the splits that all of them can be fitted to; where there is none, a
    # form that needs more rows than the others is left out.
    most = max(len(found) for found in scored.values())
    shared = set.intersection(*(set(found) for found in scored.values()))
    rivals = (
        list(names)
        if shared & set(ASKED)
        else [name for name in names if len(scored[name]) == most and most]
    )
    shared = set.intersection(*(set(scored[name]) for name in rivals)) if rivals else set()
    asked = [split for split in splits if split.name in ASKED and split.name in shared]

    def found_to_be(forms: list[str], weights: Array, reason: str, second: str | None) -> Choice:
        return Choice(
            tuple(forms), weights, reason, second, scored, optima, table, splits, predictions
        )

    if not asked:
        simplest = min(names, key=lambda name: len(build_form(name, informative).names))
        return found_to_be(
            [simplest],
            np.ones(1),
            f"{simplest}: too few sizes and shapes to hold "
            "any out, so the form with the fewest parameters",
            None,
        )
    error = {
        name: _expected_error({split.name: scored[name][split.name] for split in asked})
        for name in rivals
    }
    order = sorted(rivals, key=lambda name: error[name])
    near = [name for name in order if error[name] <= FAR_BEHIND * error[order[0]]]
    near, weights = _stacked(table, near, asked, predictions, scored[order[0]])
    stack = {
        split.name: score_split(table, _mean(predictions, near, weights, split.name))
        for split in splits
        if split.name in shared
    }
    scored["stack"] = stack
    stacked = _expected_error(stack)
    told = ", ".join(f"{name} {error[name]:.2%}" for name in order)
    over = "geometric mean over held-out compute, sizes and shapes; forms alone: " + told
    if len(near) > 1 and stacked < FLATTERY * error[order[0]]:
        parts = " + ".join(
            f"{weight:.2f} {name}"
            for name, weight in sorted(zip(near, weights, strict=True), key=lambda pair: -pair[1])
        )
        apart = [name for name in order if name not in near]
        return found_to_be(
            near,
            weights,
            f"stack of {parts}: held-out error {stacked:.2%}, "
            f"{_compared(stacked, error[order[0]])} the best form alone ({over})",
            apart[0] if apart else near[1],
        )
    second = order[1] if len(order) > 1 else None
    ahead = f", {1 - error[order[0]] / error[second]:.0%} less than {second}" if second else ""
    return found_to_be(
        order[:1],
        np.ones(1),
        f"{order[0]}: held-out error {error[order[0]]:.2%}{ahead} ({over})",
        second,
    )


def _compared(stacked: float, alone: float) -> str:
    change = stacked / alone - 1
    return f"{abs(change):.0%} {'less' if change <= 0 else 'more'} than"


def _expected_error(scored: Mapping[str, Mapping[str, Any]]) -> float:
    """Geometric mean over what is asked of the mean absolute log error."""
    logs = []
    for kind in dict.fromkeys(ASKED.values()):
        errors = [
            scored[split]["mean_abs_log"]
            for split, asked in ASKED.items()
            if asked == kind and split in scored
        ]
        if errors:
            logs.append(np.log(max(float(np.mean(errors)), _LEAST_ERROR)))
    return float(np.exp(np.mean(logs)))


def _stacked(
    table: RunTable,
    forms: list[str],
    asked: list[Split],
    predictions: Mapping[str, Mapping[str, Array]],
    best: Mapping[str, Mapping[str, Any]],
) -> tuple[list[str], Array]:
    """The forms with a part in the stack, and their weights.

    Each kind of split counts alike, in units of the best form's error there, and each split of a
    kind as much as the others.
    """
    predicted, observed, importance = [], [], []
    kinds = [ASKED[split.name] for split in asked]
    for split, kind in zip(asked, kinds, strict=True):
        rows = np.isfinite(predictions[forms[0]][split.name])
        predicted.append(np.stack([predictions[name][split.name][rows] for name in forms], axis=1))
        observed.append(np.log(table.loss[rows]))
        unit = max(
            float(
                np.mean(
                    [
                        best[other.name]["mean_abs_log"]
                        for other in asked
                        if ASKED[other.name] == kind
                    ]
                )
            ),
            _LEAST_ERROR,
        )
        importance.append(np.full(rows.sum(), 1 / (unit * kinds.count(kind) * rows.sum())))
    weights = stack_weights(
        np.concatenate(predicted), np.concatenate(observed), np.concatenate(importance)
    )
    kept = np.flatnonzero(weights >= LEAST_WEIGHT)
    return [forms[k] for k in kept], weights[kept] / weights[kept].sum()


def _mean(
    predictions: Mapping[str, Mapping[str, Array]], forms: list[str], weights: Array, split: str
) -> Array:
    total: Array = sum(
        weight * predictions[name][split] for name, weight in zip(forms, weights, strict=True)
    )
    return total
