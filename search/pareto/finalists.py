"""The few points, among millions, that draws of law and device decide among."""

import dataclasses
from collections.abc import Callable

import numpy as np

from shapelaw.search.pareto.decision import LEAST_DRAWS, Decision, decide
from shapelaw.search.pareto.draw_optima import draw_optima
from shapelaw.search.pareto.draw_screen import FEW, DrawScreen, draw_screen
from shapelaw.search.pareto.exhaustive import points_of, search_all
from shapelaw.search.pareto.expected_loss import expected_loss
from shapelaw.search.pareto.feasibility import SHARES, joint_draws, margins, probability
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.pareto.search_finds import POOL, Collected
from shapelaw.search.space.grid import Grid

SAMPLE = 512
"""Shapes that the law's draws are condensed on and budgets' margins are taken from."""

MOST = 1000
"""Finalists judged by all draws, about."""

_STEP = 256
"""Points whose probability is asked for at a time."""

_SPREAD = 2000
"""Good points of every part of the space that walks to each draw's best shape start from."""

_LUCKY = 64
"""Best points kept of each kind that only some draws let through: what might be regretted."""

PointsOf = Callable[[np.ndarray], Points]


def prepared(problem: Problem, grid: Grid, confidence: float) -> Problem:
    """The problem with the law's expected loss and with margins from the device's draws."""
    sample = _sample(problem, grid)
    tokens = problem.budget.training_tokens(sample.architectures)
    law = expected_loss(problem.law, sample.architectures, tokens)
    problem = dataclasses.replace(problem, law=law)
    sample = problem.evaluate(sample.architectures, sample.bits)
    return dataclasses.replace(problem, margins=margins(problem, sample, confidence))


def _sample(problem: Problem, grid: Grid) -> Points:
    """Shapes spread over the space, without loss or cost."""
    from shapelaw.search.space.neighbours import Neighbours

    coordinates = Neighbours(grid).random(SAMPLE, np.random.default_rng(0))
    architectures, bits, valid = grid.decode(coordinates)
    rows = np.flatnonzero(valid)
    return Points(architectures.take(rows), bits[rows], {}, rows)


def screen(problem: Problem, grid: Grid, confidence: float) -> DrawScreen | None:
    """What keeps the best shapes of single draws, for a problem that was prepared."""
    sample = _sample(problem, grid)
    return draw_screen(problem, problem.evaluate(sample.architectures, sample.bits), confidence)


def pick_key(
    problem: Problem, collected: Collected, points_of: PointsOf, confidence: float
) -> tuple[int | None, float]:
    """(key of the best pooled point that meets every budget with confidence, its goal).

    Without one: (None, the highest probability found).
    """
    _, keys = collected.ranked(("usual", "least"))
    return first_confident(problem, keys, points_of, confidence)


def first_confident(
    problem: Problem, keys: np.ndarray, points_of: PointsOf, confidence: float
) -> tuple[int | None, float]:
    """`pick_key` among points whose keys come best first."""
    highest = 0.0
    for start in range(0, len(keys), _STEP):
        points = points_of(keys[start : start + _STEP])
        points = points.take(problem.order(points.columns, points.keys))
        chance = probability(problem, points)
        rows = np.flatnonzero(chance >= confidence)
        if len(rows):
            row = int(rows[0])
            return int(points.keys[row]), float(problem.price(points.columns, problem.goal)[row])
        highest = max(highest, float(chance.max()))
    return None, highest


POOLED_AGAIN = 4096
"""Points kept of each chunk when the usual number could not prove the pick."""


def best_confident(problem: Problem, grid: Grid, confidence: float) -> tuple[int | None, float]:
    """`pick_key` over a whole grid, with more points kept where the usual number proves nothing."""
    key, goal = None, 0.0
    for pool in (POOL, POOLED_AGAIN):
        collected = search_all(problem, grid, pool)
        key, goal = pick_key(
            problem, collected, lambda keys: points_of(problem, grid, keys), confidence
        )
        if collected.left_out() >= (np.inf if key is None else goal):
            break
    return key, goal


@dataclasses.dataclass(frozen=True, eq=False)
class Where:
    """How points of a search are found again by key."""

    grid: Grid
    points_of: PointsOf
    coordinates_of: Callable[[np.ndarray], np.ndarray]


def _by_draws(collected: Collected, most: int = FEW) -> np.ndarray:
    best = collected.by_draws
    return np.empty(0, dtype=np.int64) if best is None else best.keys(most)


def decision(
    problem: Problem,
    collected: Collected,
    where: Where,
    key: int,
    confidence: float,
    more: np.ndarray,
) -> Decision:
    """The pick of this key judged against the best of the space, draw by draw.

    Args:
        more: keys of further points to judge, the front's.
    """
    good = collected.ranked(("usual", "least"))[1][: MOST // 3]
    lucky = [collected.ranked((kind,))[1][:_LUCKY] for kind in SHARES]
    keys = np.concatenate([
        [key], _by_draws(collected, 1), good, *lucky, collected.pool(MOST // 4), more
    ])  # fmt: skip
    keys = np.unique(keys.astype(np.int64))
    finalists = where.points_of(keys)
    joint = joint_draws(problem, finalists)
    optima = None
    if problem.target_loss is None and len(joint.losses) >= LEAST_DRAWS:
        # From every part of the space, since what is best by one draw may be far from the pick.
        spread = np.union1d(keys, np.union1d(collected.pool(_SPREAD), _by_draws(collected)))
        starts, coordinates = where.points_of(spread), where.coordinates_of(spread)
        optima = draw_optima(problem, where.grid, starts, coordinates, joint, confidence)
    pick = int(np.searchsorted(keys, key))
    return decide(problem, finalists, joint, pick, confidence, optima)
