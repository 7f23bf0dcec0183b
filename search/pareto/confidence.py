"""How sure the pick is, and by how much it beats another shape, from the law's own draws.

A draw is one law the data could as well have given. In each draw every rival is judged by that
same draw, so what rivals share (the level of the loss) cancels and what tells them apart counts.
"""

import dataclasses
import math

import numpy as np

from shapelaw.search.pareto.problem import LossModel, Points, Problem

_SCOUTS = 32
"""Draws that decide which rivals are worth the full number."""

_FINALISTS = 512

LEAST_DRAWS = 20
"""With fewer draws a law does not say how sure it is, and neither do we."""

UNKNOWN = math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Confidence:
    """How sure the pick is."""

    probability_best: float
    """Share of draws in which no feasible rival has a lower loss than the pick."""
    runner_up: int | None
    """Row, among the rivals given, of the one most often best beside the pick."""
    runner_up_probability: float
    """Share of draws in which the runner-up has a lower loss than the pick."""
    regret: tuple[float, float]
    """Mean and 95th percentile over the draws of the pick's loss less the draw's best."""


def confidence(problem: Problem, rivals: Points, pick: int, draws: int | None = None) -> Confidence:
    """Judge row `pick` of `rivals` (feasible points, the pick among them) by the law's draws.

    All NaN where the law has too few draws to tell.
    """
    tokens = problem.budget.training_tokens(rivals.architectures)
    if len(rivals) > _FINALISTS:
        scouts = problem.law.loss_draws(rivals.architectures, tokens, _SCOUTS)
        lag = (scouts - scouts.min(axis=1, keepdims=True)).min(axis=0)
        lag[pick] = -1.0
        rows = np.sort(np.argsort(lag, kind="stable")[:_FINALISTS])
        rivals, pick = rivals.take(rows), int(np.searchsorted(rows, pick))
        tokens = problem.budget.training_tokens(rivals.architectures)
    else:
        rows = np.arange(len(rivals))
    losses = problem.law.loss_draws(rivals.architectures, tokens, draws)
    if len(losses) < LEAST_DRAWS:
        return Confidence(UNKNOWN, None, UNKNOWN, (UNKNOWN, UNKNOWN))
    # Precision does not enter the law: the same shape at other bits is no rival of the pick.
    same = (losses == losses[:, [pick]]).all(axis=0)
    wins = np.argmin(losses, axis=1)
    wins = np.where(same[wins], pick, wins)
    counts = np.bincount(wins, minlength=len(rivals)) / len(losses)
    others = counts.copy()
    others[same] = -1.0
    # With no draw lost, the runner-up is the rival that comes closest on average.
    closeness = -losses.mean(axis=0)
    order = np.lexsort((closeness, others))
    runner = int(order[-1]) if np.any(~same) else None
    regrets = losses[:, pick] - losses.min(axis=1)
    return Confidence(
        probability_best=float(counts[pick]),
        runner_up=None if runner is None else int(rows[runner]),
        runner_up_probability=0.0
        if runner is None
        else float(np.mean(losses[:, runner] < losses[:, pick])),
        regret=(float(regrets.mean()), float(np.quantile(regrets, 0.95))),
    )


@dataclasses.dataclass(frozen=True)
class LossDifference:
    """A shape's expected loss less another's."""

    middle: float
    interval: tuple[float, float]
    """Both shapes judged by the same draw; no noise of a run."""
    probability_lower: float
    """Share of draws in which it is the lower one."""


def loss_differences(
    law: LossModel, points: Points, tokens: float | np.ndarray, level: float = 0.9
) -> list[LossDifference]:
    """Every further row's loss less the first row's."""
    middle = law.loss(points.architectures, tokens)
    draws = law.loss_draws(points.architectures, tokens)
    gaps = draws[:, 1:] - draws[:, [0]]
    tail = 0.5 * (1 - level)
    low, high = np.quantile(gaps, [tail, 1 - tail], axis=0)
    lower = np.mean(gaps < 0, axis=0)
    return [
        LossDifference(
            float(centre),
            (min(float(a), float(centre)), max(float(b), float(centre))),
            float(share),
        )
        for centre, a, b, share in zip(middle[1:] - middle[0], low, high, lower, strict=True)
    ]


def reaching(problem: Problem, point: Points) -> float:
    """Share of the law's draws in which a point reaches the loss to reach; NaN without draws."""
    tokens = problem.budget.training_tokens(point.architectures)
    draws = problem.law.loss_draws(point.architectures, tokens)
    if len(draws) < LEAST_DRAWS:
        return UNKNOWN
    return float(np.mean(draws[:, 0] <= problem.target_loss))
