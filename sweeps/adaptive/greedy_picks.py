"""Which runs to make: one by one, each by what it leaves of the expected error."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from shapelaw.sweeps.adaptive.expected_error import Observable, Outlook, State

Array = np.ndarray
Run = TypeVar("Run", bound=Observable)

LEAST_GAIN = 1e-5
"""Of the share of the error left, that a further run must take away."""


def pick(
    outlook: Outlook,
    candidates: Sequence[Run],
    count: int,
    flops: float,
    *,
    again: bool = True,
    runs: int | None = None,
) -> tuple[list[Run], list[Array]]:
    """The trunks, at most `count`, in order, and the squared errors [questions] expected after.

    A trunk may be picked `again`, to be trained with another seed. With `runs`, no more budgets
    than these are picked over all trunks together.

    Greedy by gain and greedy by gain per FLOP each fail where the other does well (a budget, and a
    number of runs); both are tried, and a third that spends the budget evenly, and the best kept.
    """
    costs = np.array([one.flops for one in candidates])
    rules: list[Callable[[Array, float, int], Array]] = [
        lambda gains, left, runs: gains,
        lambda gains, left, runs: gains / costs,
        lambda gains, left, runs: np.where(costs <= 1.5 * left / runs, gains, gains * 1e-3 / costs),
    ]
    best: tuple[list[Run], list[Array]] = ([], [])
    least = math.inf
    for rule in rules:
        picks, state, errors = _greedy(outlook, candidates, costs, count, flops, rule, again, runs)
        left = float(outlook.share_left(state))
        if picks and left < least:
            best, least = (picks, errors), left
    return best


def _greedy(
    outlook: Outlook,
    candidates: Sequence[Run],
    costs: Array,
    count: int,
    flops: float,
    rule: Callable[[Array, float, int], Array],
    again: bool,
    runs: int | None,
) -> tuple[list[Run], State, list[Array]]:
    state, left = outlook.start, flops
    budgets = np.array([len(one.tokens) for one in candidates])
    runs_left = math.inf if runs is None else runs
    picks: list[Run] = []
    errors: list[Array] = []
    allowed = np.ones(len(candidates), dtype=bool)
    for number in range(count):
        gains = outlook.share_left(state) - outlook.share_left(outlook.with_each(state))
        useful = allowed & (costs <= left) & (budgets <= runs_left) & (gains > LEAST_GAIN)
        if not useful.any():
            break
        chosen = int(np.argmax(np.where(useful, rule(gains, left, count - number), -math.inf)))
        state = outlook.with_run(state, chosen)
        left -= costs[chosen]
        runs_left -= budgets[chosen]
        if not again:
            allowed &= np.array([one.trunk != candidates[chosen].trunk for one in candidates])
        picks.append(candidates[chosen])
        errors.append(outlook.errors(state))
    return picks, state, errors
