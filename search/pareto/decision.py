"""The decision: of the shapes that meet every budget with confidence, the one to expect most of.

Finalists are judged by joint draws of law and device. In each draw the best feasible shape is
known; how far the pick falls behind it, over the draws, is how much the choice may be regretted.
"""

import dataclasses
import math

import numpy as np

from shapelaw.search.pareto.draw_optima import DrawOptima
from shapelaw.search.pareto.feasibility import JointDraws
from shapelaw.search.pareto.problem import Points, Problem

LEAST_DRAWS = 20
"""With fewer draws a law does not say how sure it is, and neither do we."""

NEAR = 0.01
"""Nats per token within which a shape is as good as the best: the noise of a run."""

UNKNOWN = math.nan


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """The pick among finalists, and how sure it is."""

    finalists: Points
    joint: JointDraws
    pick: int
    """Row of the finalists."""
    confident: np.ndarray
    """[n]: finalists that meet every budget with the confidence asked for."""
    budget_probability: dict[str, float]
    """Budget -> probability that the pick meets it."""
    near_best_probability: float
    """That the pick is feasible and its loss within NEAR of the best feasible shape's."""
    probability_best: float
    """Share of draws in which no feasible finalist has a lower loss."""
    regret: tuple[float, float]
    """Mean and 95th percentile, over the draws, of the loss given up by the pick against the best
    feasible shape of the draw."""
    confident_regret: float
    """The mean against the best shape of the draw among those that meet every budget with
    confidence: what not knowing the law costs. The rest of the regret is for not knowing the
    device."""
    near_best_confident_probability: float
    """That the pick's loss is within NEAR of the best such shape's."""
    runner_up: int | None
    """The finalist, beside the pick, most often best among the confident ones."""
    runner_up_probability: float
    """Share of the draws in which its loss is lower than the pick's."""


def decide(
    problem: Problem,
    finalists: Points,
    joint: JointDraws,
    pick: int,
    confidence: float,
    optima: DrawOptima | None = None,
) -> Decision:
    """Judge row `pick` of the finalists by the joint draws of all of them.

    Args:
        optima: the best shapes of some draws over the whole space; without them the best finalist
            of each draw stands for it.
    """
    losses, feasible = joint.losses, joint.feasible
    confident = joint.probability >= confidence
    budget_probability = {name: float(met[:, pick].mean()) for name, met in joint.met.items()}
    if len(losses) < LEAST_DRAWS or not np.any(np.ptp(losses, axis=0) > 0):
        return Decision(
            finalists=finalists,
            joint=joint,
            pick=pick,
            confident=confident,
            budget_probability=budget_probability,
            near_best_probability=UNKNOWN,
            probability_best=UNKNOWN,
            regret=(UNKNOWN, UNKNOWN),
            confident_regret=UNKNOWN,
            near_best_confident_probability=UNKNOWN,
            runner_up=None,
            runner_up_probability=UNKNOWN,
        )
    mine = losses[:, pick]
    if optima is None:
        optima = DrawOptima(
            rows=np.arange(len(losses)),
            feasible=np.where(feasible, losses, np.inf).min(axis=1),
            confident=np.where(confident, losses, np.inf).min(axis=1),
        )
    some, fits = mine[optima.rows], feasible[optima.rows, pick]
    # A draw in which nothing is feasible, the pick included, has no better choice to regret.
    regret = np.maximum(some - np.where(np.isfinite(optima.feasible), optima.feasible, some), 0.0)
    of_law = np.maximum(some - np.minimum(optima.confident, some), 0.0)
    # A budget's slack or a weight format that the law does not read makes no other model: the same
    # losses in every draw are the same shape to it.
    same = (losses == losses[:, [pick]]).all(axis=0)
    rivals = np.where(confident & ~same)[0]
    runner = None
    if len(rivals):
        wins = np.bincount(np.argmin(losses[:, rivals], axis=1), minlength=len(rivals))
        runner = int(rivals[np.lexsort((losses[:, rivals].mean(axis=0), -wins))[0]])
    return Decision(
        finalists=finalists,
        joint=joint,
        pick=pick,
        confident=confident,
        budget_probability=budget_probability,
        near_best_probability=float(np.mean(fits & (regret <= NEAR))),
        probability_best=float(np.mean(regret <= 0)),
        regret=(float(regret.mean()), float(np.quantile(regret, 0.95))),
        confident_regret=float(of_law.mean()),
        near_best_confident_probability=float(np.mean(of_law <= NEAR)),
        runner_up=runner,
        runner_up_probability=0.0 if runner is None else float(np.mean(losses[:, runner] < mine)),
    )
