"""All figures of the sharing study, as `--json` prints them, from whichever runs there are."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.sharing_study.estimates import (
    DEPTH_FORMS,
    Budget,
    Interval,
    equal_flops,
    phi_of,
)
from benchmarks.sharing_study.runs import DEPTHS, Run, runs_of, to_come
from benchmarks.sharing_study.worth import worth
from shapelaw.results.record import RunRecord

CONTRASTS = (
    ("twice", "distinct", "another application of the same blocks"),
    ("narrow", "distinct", "depth without more parameters"),
    ("twice", "narrow", "sharing against distinct blocks, equal parameters and depth"),
    ("wide", "twice", "the parameters that sharing saves"),
    ("cycle", "twice", "cycles instead of one block twice running"),
    ("prelude", "twice", "prelude, coda and injection"),
    ("thrice", "twice", "a third application"),
)
"""(cell, the cell it is compared with, what the difference is worth)."""

NORMAL_90 = 1.645
"""Half of a 90 % interval over its standard error."""


def analyse(records: Sequence[RunRecord]) -> dict[str, Any]:
    """All figures, as `--json` prints them."""
    runs = runs_of(records)
    budgets = [Budget(runs, tokens) for tokens in sorted({run.tokens for run in runs})]
    contrasts = []
    for budget in budgets:
        for first, second, meaning in CONTRASTS:
            for depths in ((4,), (8,), DEPTHS):
                found = budget.contrast(first, second, depths)
                if found is not None:
                    contrasts.append(
                        {
                            "tokens": budget.tokens,
                            "of": first,
                            "against": second,
                            "worth": meaning,
                            "base_depths": list(depths),
                            **_numbers(found),
                        }
                    )
    equal = []
    for small in budgets:
        for large in budgets:
            for depth in DEPTHS:
                if not math.isclose(large.tokens, 2 * small.tokens, rel_tol=0.01):
                    continue
                found = equal_flops(small, large, depth)
                if found is not None:
                    equal.append({"tokens": small.tokens, "base_depth": depth, **_numbers(found)})
    phis = [
        {"tokens": budget.tokens, "topology": cell, "depth_form": name, **_numbers(found)}
        for budget in budgets
        for cell in ("twice", "cycle", "prelude", "thrice")
        for name, degree in DEPTH_FORMS.items()
        if (found := phi_of(budget, degree, cell)) is not None
    ]
    return {
        "runs": len(records),
        "finished": sum(record.status == "finished" for record in records),
        "budgets": [
            {
                "tokens": budget.tokens,
                "seeds": budget.seeds,
                "cells": len(set(budget.level_of.values())),
                "noise": math.sqrt(budget.variance),
                "freedom": budget.freedom if budget.pooled else None,
            }
            for budget in budgets
        ],
        "contrasts": contrasts,
        "unsteady": unsteady(budgets),
        "equal_flops": equal,
        "phi": phis,
        "learning_rate": learning_rates(runs),
        "worth": worth(),
        "to_come": to_come(records),
    }


def unsteady(budgets: Sequence[Budget]) -> dict[str, float] | None:
    """The largest move of B − A between neighbouring budgets, as a check of the noise.

    Budgets share a trunk, so less than the noise of four runs is expected to lie between two such
    differences; a move of many times that says that runs scatter more than their intervals.
    """
    found: dict[str, float] | None = None
    for small, large in itertools.pairwise(budgets):
        for depth in DEPTHS:
            both = [budget.contrast("twice", "distinct", (depth,)) for budget in (small, large)]
            if both[0] is None or both[1] is None:
                continue
            move = both[1].value - both[0].value
            of_noise = abs(move) / math.hypot(*(one.half_width / NORMAL_90 for one in both if one))
            if found is None or of_noise > found["of_noise"]:
                found = {
                    "base_depth": depth,
                    "from": small.tokens,
                    "to": large.tokens,
                    "move": move,
                    "of_noise": of_noise,
                }
    return found


def _numbers(found: Interval) -> dict[str, float | None]:
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: number if math.isfinite(number) else None for name, number in ends.items()}


def learning_rates(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """ln(loss at another learning rate / loss at the rule's), by cell, one seed and budget."""
    rule = {
        (run.cell, run.depth, run.seed, run.tokens): run.log_loss
        for run in runs
        if run.learning_rate == 1.0
    }
    found = []
    for run in runs:
        partner = rule.get((run.cell, run.depth, run.seed, run.tokens))
        if run.learning_rate != 1.0 and partner is not None:
            found.append(
                {
                    "of": run.cell,
                    "base_depth": run.depth,
                    "tokens": run.tokens,
                    "times": run.learning_rate,
                    "value": run.log_loss - partner,
                }
            )
    return found
