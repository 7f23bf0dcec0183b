"""The stops of the page's sliders: the values at which each budget, the training and the workload
may stand. Every stop is a question that `query` can be asked; the page moves between no others.
"""

import dataclasses
import math

import numpy as np

from shapelaw.search.pareto.budget import Budget, Limit
from shapelaw.search.pareto.problem import OBJECTIVES, Problem
from shapelaw.search.workload import Workload

STEPS = (
    (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0),
    (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0,),
)
"""Stops in each decade, the finest first."""

MOST = {"memory": 16, "decode": 24, "ttft": 8, "energy": 6}
"""Stops of each budget, about: every combination of them is an answer."""

TRAINING = (1.0, 2.0, 5.0)
"""Stops in each decade of training."""

BATCHES = (1, 4, 16)
"""Sequences decoded together."""

CONTEXTS = (2048, 8192)
"""Tokens in view of a decoded token, beside what the workload says."""

TRAINING_SPAN = 10.0
"""Training runs from a TRAINING_SPAN-th of what was asked to TRAINING_SPAN times it."""

BUDGETS = ("memory", "decode", "ttft", "energy")


@dataclasses.dataclass(frozen=True)
class BudgetStops:
    """One budget's stops, from the loosest to the tightest."""

    name: str
    """As on the command line: memory, decode, ttft, energy."""
    column: str
    at_least: bool
    values: np.ndarray
    """Infinite (or 0, of a speed): no limit."""
    asked: int
    """Which stop the query stands on."""

    def met(self, column: np.ndarray) -> np.ndarray:
        """How many stops, from the loosest on, a value meets; NaN meets none."""
        found = np.zeros(column.shape, dtype=np.uint8)
        for value in self.values:  # few: quicker than a search for each of many values
            # The truth as the byte it is: NumPy would convert it first.
            met = column >= value if self.at_least else column <= value
            found += np.asarray(met).view(np.uint8)
        return found

    def ratio(self, column: np.ndarray) -> np.ndarray:
        """How many times as generous each stop would have to be [n, stops]."""
        limits = [
            Limit(self.name, self.column, float(value), self.at_least) for value in self.values
        ]
        return np.stack([limit.ratio(column) for limit in limits], axis=1)


def round_values(low: float, high: float, most: int) -> list[float]:
    """Up to `most` round values from `low` to `high`, as dense as that allows."""
    found: list[float] = []
    for steps in STEPS:
        found = _in_decades(low, high, steps)
        if len(found) <= most:
            break
    return found


def _in_decades(low: float, high: float, steps: tuple[float, ...]) -> list[float]:
    """Values steps·10^k from `low` to `high`, as people write them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    # Through text: 6e-3 is the float nearest to .006, which 6 * 10**-3 need not be.
    every = (float(f"{step:g}e{power}") for power in range(first, last + 1) for step in steps)
    return [value for value in every if low <= value <= high]


WORST = 1.2
"""Stops end where the best shape left has this many times the loss of the best of all."""

BEYOND = 1.4
"""And, on the generous side, this far beyond what the best shape of all uses."""


def useful_span(stops_column: np.ndarray, loss: np.ndarray, at_least: bool) -> tuple[float, float]:
    """The least and the most of one budget worth asking for, from middle costs and losses [n]."""
    best = int(np.argmin(loss))
    some = stops_column[loss <= WORST * loss[best]]
    here = float(stops_column[best])
    if at_least:
        return here / BEYOND, float(some.max())
    return float(some.min()), here * BEYOND


def budget_stops(
    problem: Problem, spans: dict[str, tuple[float, float]], ceiling: float
) -> list[BudgetStops]:
    """Stops of every budget that the device can be asked for.

    Args:
        spans: column of cost -> the least and the most worth asking for.
        ceiling: bytes the device gives an application; no query may ask for more.
    """
    asked = {limit.name: limit.value for limit in problem.limits}
    found = []
    for name in BUDGETS:
        objective = OBJECTIVES[name]
        if objective.column not in spans:
            continue
        low, high = spans[objective.column]
        if name in asked:
            low, high = min(low, asked[name]), max(high, asked[name])
        values = set(round_values(low, high, MOST[name]))
        free = 0.0 if objective.maximise else math.inf
        if name == "memory" and math.isfinite(ceiling):
            values = {value for value in values if value < ceiling}
            free = ceiling
        values.add(free)
        values.add(asked.get(name, free))
        ordered = sorted(values, reverse=not objective.maximise)
        found.append(
            BudgetStops(
                name,
                objective.column,
                objective.maximise,
                np.array(ordered),
                ordered.index(asked.get(name, free)),
            )
        )
    return found


def training_stops(budget: Budget, tokens: float) -> tuple[list[Budget], int]:
    """The budget at every stop of training tokens (FLOPs, where they were asked for).

    Returns:
        The budgets, least training first, and which of them is the query's.
    """
    asked = float(budget.flops) if budget.flops is not None else tokens
    span = _in_decades(asked / TRAINING_SPAN, asked * TRAINING_SPAN, TRAINING)
    values = sorted({*span, asked})
    if budget.flops is not None:
        found = [dataclasses.replace(budget, flops=value) for value in values]
    else:
        found = [dataclasses.replace(budget, tokens=value) for value in values]
    return found, values.index(asked)


def batch_stops(workload: Workload) -> list[int]:
    """Sequences decoded together, the query's own among them."""
    return sorted({*BATCHES, workload.batch})


def context_stops(workload: Workload) -> list[int | None]:
    """Tokens in view of a decoded token; the workload's own (None) first, then longer ones."""
    return [None, *(each for each in CONTEXTS if each > 1.5 * workload.decode_context)]
