"""`--form auto`: choose a form by the error on runs it was not fitted to.

Every form whose columns the table has is refitted on the training part of every split, all inside
the table at hand. Forms are compared by the mean over splits of ln(error), so that no split's scale
decides alone; among forms that the held-out runs cannot tell from the best, the one with the fewest
parameters is taken.
"""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import table_features
from shapelaw.scaling.forms import FORMS, build_form
from shapelaw.scaling.holdout.splits import (
    all_splits,
    predict_splits,
    score_split,
    thinned,
    varying,
)
from shapelaw.scaling.run_table import RunTable, clusters
from shapelaw.scaling.terms import Form

_LEAST_ERROR = 1e-6  # below it errors are rounding, and their logarithms are not compared


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen form, why, and how every candidate did."""

    form: str
    reason: str
    scores: dict[str, dict[str, dict[str, Any]]]
    """Form -> split -> scores."""


def candidates(table: RunTable) -> list[str]:
    """Forms that read only features which vary in the table."""
    features = frozenset(varying(table_features(table)))
    found = []
    for name in FORMS:
        declaration = build_form(name, features)
        if needs(declaration) <= features and len(table) > len(declaration.names):
            found.append(name)
    return found


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
    names = candidates(table)
    if not names:
        raise BadInput(f"rows = {len(table)}: the smallest form needs more than 5")
    table = thinned(table)
    splits = all_splits(table)
    features = table_features(table)
    informative = frozenset(varying(features))
    size = {name: len(build_form(name, informative).names) for name in names}
    predictions = {
        name: predict_splits(table, features, name, splits, delta=delta, informative=informative)
        for name in names
    }
    scored = {
        name: {split: score_split(table, values) for split, values in found.items()}
        for name, found in predictions.items()
    }
    simplest = min(names, key=lambda name: size[name])
    shared = set.intersection(*(set(found) for found in scored.values()))
    if not shared:
        # A form that some training part is too small for cannot be compared: leave it out.
        most = max(len(found) for found in scored.values())
        names = [name for name in names if len(scored[name]) == most and most]
        shared = set(scored[names[0]]) if names else set()
    if not shared:
        return Choice(
            simplest,
            f"{simplest}: too few sizes and shapes to hold any out, so the "
            "form with the fewest parameters",
            scored,
        )
    goodness = {
        name: float(
            np.mean(
                [np.log(max(scored[name][split]["mean_abs_log"], _LEAST_ERROR)) for split in shared]
            )
        )
        for name in names
    }
    best = min(names, key=lambda name: goodness[name])
    group = clusters(table)
    equal = [
        name
        for name in names
        if name == best
        or _no_worse(table, predictions[name], predictions[best], sorted(shared), group)
    ]
    chosen = min(equal, key=lambda name: (size[name], goodness[name]))
    error = float(np.exp(goodness[chosen]))
    rivals = ", ".join(
        f"{name} {np.exp(goodness[name]):.2%}"
        for name in sorted(names, key=lambda name: goodness[name])
        if name != chosen
    )
    why = (
        "the least held-out error"
        if chosen == best
        else (f"held-out error no worse than {best}'s within its noise, with fewer parameters")
    )
    reason = f"{chosen}: {why}: {error:.2%} (geometric mean over {', '.join(sorted(shared))})" + (
        f"; others: {rivals}" if rivals else ""
    )
    return Choice(chosen, reason, scored)


def _no_worse(
    table: RunTable, mine: dict[str, Array], best: dict[str, Array], splits: list[str], group: Array
) -> bool:
    """Whether the excess error, relative to the best form's, is within one standard error.

    Rows of one run err together, so the standard error is over runs.
    """
    observed = np.log(table.loss)
    means, variances = [], []
    for split in splits:
        rows = np.isfinite(mine[split])
        gap = np.abs(mine[split] - observed)[rows] - np.abs(best[split] - observed)[rows]
        scale = max(float(np.abs(best[split] - observed)[rows].mean()), _LEAST_ERROR)
        runs = np.unique(group[rows], return_inverse=True)[1].ravel()
        totals = np.bincount(runs, weights=gap - gap.mean())
        means.append(float(gap.mean()) / scale)
        variances.append(float((totals**2).sum()) / len(gap) ** 2 / scale**2)
    # Splits test many of the same runs: their errors are taken as wholly correlated.
    return float(np.mean(means)) <= float(np.mean(np.sqrt(variances)))
