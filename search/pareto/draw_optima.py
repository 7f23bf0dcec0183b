"""The best shape of each draw: what the pick is regretted against.

Among shapes that are good by expected loss, the best by one draw is rarely the space's best by that
draw. From the best of some thousands, those that a screen of the whole space told among them
(draw_screen), a walk goes to whichever neighbour on the grid is better by the same draw, until none
is.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.draw_screen import WATCHED, met_by_device
from shapelaw.search.pareto.feasibility import JointDraws, device_columns, spread
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.space.grid import Grid
from shapelaw.search.space.neighbours import Neighbours

_STEPS = 6
"""Rounds, at most."""


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
    starts: Points,
    coordinates: np.ndarray,
    joint: JointDraws,
    confidence: float,
) -> DrawOptima:
    """Walk from the starts, at `coordinates` [n, axes], to the best shapes of some of the draws.

    Of a problem without a loss to reach, where regret has a meaning.
    """
    rows = spread(len(joint.losses), WATCHED)
    search = _Walk(problem, grid, joint.law_rows[rows], joint.device_rows[rows], confidence)
    every = np.arange(len(rows))
    here = search.judged(starts.architectures, starts.bits, coordinates, every)
    return DrawOptima(
        rows=rows,
        feasible=search.walk(here, lambda near: near.met),
        confident=search.walk(here, lambda near: near.promised),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Near:
    """Shapes judged by some draws."""

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

    def walk(self, starts: _Near, allows: Callable[[_Near], np.ndarray]) -> np.ndarray:
        """Least loss [walks], from the best allowed of the starting shapes on."""
        start = np.where(allows(starts), starts.losses, np.inf)
        at = np.argmin(start, axis=1)
        best, where = start[np.arange(len(start)), at], starts.points[at]
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
        found = []
        for place, draws in enumerate(members):
            rows = np.flatnonzero(owner == place)
            found.append(self._near(shapes.take(rows), met[:, rows], together[rows], draws))
        return found

    def judged(
        self, shapes: ArchitectureBatch, bits: np.ndarray, points: np.ndarray, draws: np.ndarray
    ) -> _Near:
        """Shapes at these points of the grid by the walks' draws of these numbers."""
        return self._near(shapes, self._met(shapes, bits), points, draws)

    def _near(
        self, shapes: ArchitectureBatch, met: np.ndarray, points: np.ndarray, draws: np.ndarray
    ) -> _Near:
        tokens = self.problem.budget.training_tokens(shapes)
        losses = self.problem.law.loss_draws(shapes, tokens, self.law_rows[draws])
        let_in = met[self.device_rows[draws] % len(met)]
        promised = np.broadcast_to(met.mean(axis=0) >= self.confidence, let_in.shape)
        return _Near(points, losses, let_in, promised)

    def _met(self, shapes: ArchitectureBatch, bits: np.ndarray) -> np.ndarray:
        """Where every budget is met [device draws, n]."""
        problem, wanted = self.problem, device_columns(self.problem)
        columns = problem.cost(shapes, bits, wanted) if wanted else {}
        return met_by_device(problem, Points(shapes, bits, columns, np.arange(len(bits))))
