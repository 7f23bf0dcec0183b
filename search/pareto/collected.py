"""What a search keeps of the points it passes: the front, and the few others the answer speaks of.

Chunks are gleaned (possibly in another thread) into something small, and gleanings are added up.
The sum does not depend on how the space was cut into chunks, except for `pool`.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.front import Front, nondominated
from shapelaw.search.pareto.problem import Columns, Problem

POOL = 64
"""Best points kept of each chunk: rivals for the probability of being best."""

PLAIN_MARGIN = 0.03
"""Plainness is looked at within this share of the chunk's best loss."""


def plainness(a: ArchitectureBatch) -> np.ndarray:
    """How few surprises a shape holds [n], 0 to 5: what engines and people handle without thought.

    One each for: no sharing; full attention; heads that fill d_model exactly; d_model a multiple of
    256; d_ff a multiple of 256.
    """
    points = (a.sharing == 1).astype(np.int64) + (a.window == 0)
    points += a.n_heads * a.head_dim == a.d_model
    points += a.d_model % 256 == 0
    points += a.d_ff % 256 == 0
    return points


@dataclasses.dataclass(frozen=True, eq=False)
class Gleaning:
    """What one chunk adds."""

    points: int
    feasible: int
    front: tuple[np.ndarray, np.ndarray]
    small: tuple[np.ndarray, np.ndarray]
    plain: tuple[np.ndarray, np.ndarray]
    pool: tuple[np.ndarray, np.ndarray]
    relaxed: dict[str, float]


class Harvest:
    """Running results of a search. Less is better in everything held here."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.front = Front(len(problem.objectives))
        self.small = Front(2)
        """Front of the goal against memory."""
        self.plain = Front(2)
        """Front of the goal against plainness."""
        self.relaxed: dict[str, float] = {}
        """Limit -> the goal's best value with that limit relaxed by `Limit.slack`."""
        self.points = 0
        self.feasible = 0
        self._pool: list[tuple[np.ndarray, np.ndarray]] = []
        self._second = next(o for o in problem.objectives if o is not problem.goal)

    def glean(
        self, architectures: ArchitectureBatch, columns: Columns, keys: np.ndarray, passed: int
    ) -> Gleaning:
        """What to keep of points [n]; `passed` is how many were looked at to get them.

        Points may be left out beforehand that miss any limit even when relaxed.
        """
        problem = self.problem
        goal = problem.price(columns, problem.goal)
        feasible = problem.feasible(columns) & ~np.isnan(goal)
        rows = np.flatnonzero(feasible)
        some = {name: column[rows] for name, column in columns.items()}
        goal_rows = goal[rows]
        front = self._chunk_front(self.front, problem.objective_rows(some), keys[rows])
        small = self._chunk_front(
            self.small, np.stack([goal_rows, some["memory_bytes"]], axis=1), keys[rows]
        )
        near = (
            np.flatnonzero(goal_rows <= goal_rows.min() + PLAIN_MARGIN * abs(goal_rows.min()))
            if len(rows)
            else rows
        )
        plain = self._chunk_front(
            self.plain,
            np.stack([goal_rows[near], -plainness(architectures.take(rows[near]))], axis=1),
            keys[rows][near],
        )
        best = np.argpartition(goal_rows, POOL)[:POOL] if len(rows) > POOL else np.arange(len(rows))
        return Gleaning(
            points=passed,
            feasible=len(rows),
            front=front,
            small=small,
            plain=plain,
            pool=(goal_rows[best], keys[rows][best]),
            relaxed=self._relaxed(columns, goal),
        )

    def _chunk_front(
        self, so_far: Front, objectives: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        open_rows = np.flatnonzero(~so_far.beaten(objectives))
        kept = open_rows[nondominated(objectives[open_rows], keys[open_rows])]
        return objectives[kept], keys[kept]

    def _relaxed(self, columns: Columns, goal: np.ndarray) -> dict[str, float]:
        limits = self.problem.limits
        met = [limit.met(columns[limit.column]) for limit in limits]
        found = {}
        for index, limit in enumerate(limits):
            others = [m for other, m in enumerate(met) if other != index]
            rows = np.logical_and.reduce([limit.met(columns[limit.column], limit.slack), *others])
            found[limit.name] = float(np.min(goal, where=rows & ~np.isnan(goal), initial=np.inf))
        return found

    def add(self, gleaning: Gleaning) -> None:
        """Take in what a chunk gave."""
        self.points += gleaning.points
        self.feasible += gleaning.feasible
        self.front.offer(*gleaning.front)
        self.small.offer(*gleaning.small)
        self.plain.offer(*gleaning.plain)
        if len(gleaning.pool[0]):
            self._pool.append(gleaning.pool)
        for name, value in gleaning.relaxed.items():
            self.relaxed[name] = min(value, self.relaxed.get(name, np.inf))

    def absorb(self, other: "Harvest") -> None:
        """Take in what another search of the same space kept."""
        self.points += other.points
        self.feasible += other.feasible
        for mine, theirs in (
            (self.front, other.front),
            (self.small, other.small),
            (self.plain, other.plain),
        ):
            mine.offer(theirs.objectives, theirs.keys)
        self._pool += other._pool
        for name, value in other.relaxed.items():
            self.relaxed[name] = min(value, self.relaxed.get(name, np.inf))

    def pool(self, most: int) -> np.ndarray:
        """Keys of up to `most` good feasible points, the best of every part of the space first."""
        if not self._pool:
            return np.empty(0, dtype=np.int64)
        # Chunks take turns, so that a wide part of the space cannot crowd out the others.
        goals = np.concatenate([goal for goal, _ in self._pool])
        keys = np.concatenate([keys for _, keys in self._pool])
        turns = np.concatenate([np.argsort(np.argsort(goal)) for goal, _ in self._pool])
        keep = np.lexsort((keys, goals, turns))[:most]
        _, first = np.unique(keys[keep], return_index=True)
        return np.asarray(keys[keep][np.sort(first)])
