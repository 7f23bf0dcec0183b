"""The best shape of each draw: what the pick is regretted against.

Among finalists, which are good by expected loss, the best by one draw is rarely the space's best by
that draw. From the best finalist a walk goes to whichever neighbour on the grid is better by the
same draw, until none is.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.feasibility import JointDraws, cost_draws, device_columns
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.space.grid import Grid
from shapelaw.search.space.neighbours import Neighbours

WALKS = 200
"""Draws walked for, spread evenly over all."""

_STEPS = 6
"""Rounds; on the spaces that ship walks end after three to five."""


@dataclasses.dataclass(frozen=True, eq=False)
class DrawOptima:
    """Least losses by some of the joint draws."""

    rows: np.ndarray
    """[walks]: which of the joint draws."""
    feasible: np.ndarray
    """[walks]: least loss among shapes that are feasible in the draw; infinite where none is."""
    confident: np.ndarray
    """[walks]: least loss among shapes that meet every budget with confidence."""


def draw_optima(
    problem: Problem,
    grid: Grid,
    finalists: Points,
    coordinates: np.ndarray,
    joint: JointDraws,
    confidence: float,
) -> DrawOptima:
    """Walk from the finalists, at `coordinates` [n, axes], to each draw's best shapes.

    Of a problem without a loss to reach, where regret has a meaning.
    """
    rows = np.unique(np.linspace(0, len(joint.losses) - 1, WALKS).astype(int))
    losses = joint.losses[rows]
    let_in = joint.feasible[rows]
    promised = np.broadcast_to(joint.probability >= confidence, losses.shape)
    search = _Walk(problem, grid, joint.law_rows[rows], joint.device_rows[rows], confidence)
    return DrawOptima(
        rows=rows,
        feasible=search.walk(losses, let_in, coordinates, lambda near: near.met),
        confident=search.walk(losses, promised, coordinates, lambda near: near.promised),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Near:
    """Neighbours of one shape."""

    points: np.ndarray
    """[n, axes]"""
    losses: np.ndarray
    """[draws, n]"""
    met: np.ndarray
    """[draws, n]: feasible in the draw."""
    promised: np.ndarray
    """[draws, n]: feasible with confidence."""


class _Walk:
    def __init__(
        self,
        problem: Problem,
        grid: Grid,
        law_rows: np.ndarray,
        device_rows: np.ndarray,
        confidence: float,
    ) -> None:
        self.problem, self.grid, self.confidence = problem, grid, confidence
        self.law_rows, self.device_rows = law_rows, device_rows
        self.neighbours = Neighbours(grid)

    def walk(
        self,
        losses: np.ndarray,
        allowed: np.ndarray,
        coordinates: np.ndarray,
        allows: Callable[[_Near], np.ndarray],
    ) -> np.ndarray:
        """Least loss [walks], from the best allowed of the starting shapes on."""
        start = np.where(allowed, losses, np.inf)
        at = np.argmin(start, axis=1)
        best, where = start[np.arange(len(start)), at], coordinates[at]
        moving = np.isfinite(best)
        for _ in range(_STEPS):
            if not moving.any():
                break
            places, group = np.unique(where[moving], axis=0, return_inverse=True)
            members = [np.flatnonzero(moving)[group.ravel() == k] for k in range(len(places))]
            moving = np.zeros(len(best), dtype=bool)
            for draws, near in zip(members, self._around(places, members), strict=True):
                if not len(near.points):
                    continue
                found = np.where(allows(near), near.losses, np.inf)
                next_at = np.argmin(found, axis=1)
                value = found[np.arange(len(draws)), next_at]
                better = value < best[draws]
                moved = draws[better]
                best[moved], where[moved] = value[better], near.points[next_at[better]]
                moving[moved] = True
        return best

    def _around(self, places: np.ndarray, members: list[np.ndarray]) -> list[_Near]:
        """The neighbours of each place, judged by the draws that stand there."""
        around = [self.neighbours.of(place[None, :]) for place in places]
        owner = np.repeat(np.arange(len(around)), [len(each) for each in around])
        together = np.concatenate(around)
        shapes, bits, valid = self.grid.decode(together)
        kept = np.flatnonzero(valid)
        shapes, bits, owner, together = shapes.take(kept), bits[kept], owner[kept], together[kept]
        met = self._met(shapes, bits)
        chance = met.mean(axis=0)
        found = []
        for place, draws in enumerate(members):
            rows = np.flatnonzero(owner == place)
            some = shapes.take(rows)
            tokens = self.problem.budget.training_tokens(some)
            losses = self.problem.law.loss_draws(some, tokens, self.law_rows[draws])
            let_in = met[self.device_rows[draws] % len(met)][:, rows]
            promised = np.broadcast_to(chance[rows] >= self.confidence, let_in.shape)
            found.append(_Near(together[rows], losses, let_in, promised))
        return found

    def _met(self, shapes: ArchitectureBatch, bits: np.ndarray) -> np.ndarray:
        """Where every budget is met [device draws, n]."""
        wanted, problem = device_columns(self.problem), self.problem
        met = np.ones((1, len(bits)), dtype=bool)
        if not wanted:
            return met
        points = Points(shapes, bits, problem.cost(shapes, bits, wanted), np.arange(len(bits)))
        columns = cost_draws(problem, points, wanted)
        for limit in problem.limits:
            met = met & limit.met(columns[limit.column])
        return met
