"""What a search keeps of the points it passes: the front, and the few others the answer speaks of.

Chunks are looked at (possibly in another thread) into something small, and finds are added up.
The sum does not depend on how the space was cut into chunks, except for `pool`.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.draw_screen import BestByDraws, DrawScreen, joined
from shapelaw.search.pareto.front import Front, nondominated
from shapelaw.search.pareto.problem import Columns, Points, Problem

POOL = 512
"""Best points kept of each chunk and kind, so that the best which meets the budgets by the draws is
nearly always among them."""

KINDS = ("usual", "least", "even", "likely", "lucky", "luckiest")
"""Margins (problem.Margin) by which points are pooled; a point counts to the first that holds."""

PLAIN_MARGIN = 0.03
"""Plainness is looked at within this share of the chunk's best loss."""


def plainness(a: ArchitectureBatch) -> np.ndarray:
    """How few surprises a shape holds [n], 0 to 5: what engines and people handle without thought.

    One each for: no sharing; full attention; heads that fill d_model exactly; d_model a multiple of
    256; d_ff a multiple of 256.
    """
    points = (a.sharing == 1).astype(np.int64) + (a.window == 0)
    points += a.query_width == a.d_model
    points += a.d_model % 256 == 0
    points += a.d_ff % 256 == 0
    return points


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkFinds:
    """What one chunk adds."""

    points: int
    feasible: int
    front: tuple[np.ndarray, np.ndarray]
    small: tuple[np.ndarray, np.ndarray]
    plain: tuple[np.ndarray, np.ndarray]
    pools: "dict[str, Pool]"
    by_draws: "BestByDraws | None"
    relaxed: "dict[str, Pool]"
    """Limit -> the best points of those that the relaxed limit may let through."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """The best few points of one kind in one chunk, by the goal, less first."""

    goals: np.ndarray
    keys: np.ndarray
    left_out: float
    """Goal of the best point that was not kept; infinite where all were."""

    @classmethod
    def of(cls, goals: np.ndarray, keys: np.ndarray, most: int) -> "Pool":
        """The best `most`."""
        if len(goals) <= most:
            rows, left_out = np.lexsort((keys, goals)), np.inf
        else:
            rows = np.argpartition(goals, most)
            left_out = float(goals[rows[most]])
            rows = rows[:most][np.lexsort((keys[rows[:most]], goals[rows[:most]]))]
        return cls(goals[rows], keys[rows], left_out)


def best_first(pools: "list[Pool]") -> tuple[np.ndarray, np.ndarray]:
    """Goals and keys of all points of the pools, each point once, best first."""
    if not pools:
        return np.empty(0), np.empty(0, dtype=np.int64)
    keys, first = np.unique(np.concatenate([pool.keys for pool in pools]), return_index=True)
    goals = np.concatenate([pool.goals for pool in pools])[first]
    rows = np.lexsort((keys, goals))
    return goals[rows], keys[rows]


class Collected:
    """Running results of a search. Less is better in everything held here."""

    def __init__(
        self, problem: Problem, pool: int = POOL, screen: DrawScreen | None = None
    ) -> None:
        self.problem = problem
        self.screen = screen
        self.by_draws: BestByDraws | None = None
        """The best points by single draws of law and device, where there is a screen."""
        self.pool_size = pool
        self.front = Front(len(problem.objectives))
        self.small = Front(2)
        """Front of the goal against memory."""
        self.plain = Front(2)
        """Front of the goal against plainness."""
        self.relaxed: dict[str, list[Pool]] = {limit.name: [] for limit in problem.limits}
        """Limit -> the best points that may meet every budget, that limit relaxed by its slack."""
        self.points = 0
        self.feasible = 0
        self.pools: dict[str, list[Pool]] = {kind: [] for kind in KINDS}
        self._second = next(o for o in problem.objectives if o is not problem.goal)

    def look_at(self, points: Points, passed: int) -> ChunkFinds:
        """What to keep of points; `passed` is how many were looked at to get them.

        Points may be left out beforehand that miss any limit even when relaxed.
        """
        architectures, columns, keys = points.architectures, points.columns, points.keys
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
        return ChunkFinds(
            points=passed,
            feasible=len(rows),
            front=front,
            small=small,
            plain=plain,
            pools=self._pools(columns, goal, keys, feasible),
            by_draws=None if self.screen is None else self.screen.look(points),
            relaxed=self._relaxed(columns, goal, keys),
        )

    def _pools(
        self, columns: Columns, goal: np.ndarray, keys: np.ndarray, feasible: np.ndarray
    ) -> dict[str, Pool]:
        taken, found = np.isnan(goal), {}
        for kind in KINDS:
            rows = feasible if kind == "usual" else self.problem.feasible(columns, kind)
            rows = rows & ~taken
            found[kind] = Pool.of(goal[rows], keys[rows], self.pool_size)
            taken = taken | rows
        return found

    def _chunk_front(
        self, so_far: Front, objectives: np.ndarray, keys: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        open_rows = np.flatnonzero(~so_far.beaten(objectives))
        kept = open_rows[nondominated(objectives[open_rows], keys[open_rows])]
        return objectives[kept], keys[kept]

    def _relaxed(self, columns: Columns, goal: np.ndarray, keys: np.ndarray) -> dict[str, Pool]:
        limits = self.problem.limits
        met = [
            limit.met(columns[limit.column], 1 / self.problem.margin(limit.name).least)
            for limit in limits
        ]
        found = {}
        for index, limit in enumerate(limits):
            others = [m for other, m in enumerate(met) if other != index]
            rows = np.logical_and.reduce(
                [limit.met(columns[limit.column], self.problem.relaxed(limit)), *others]
            )
            rows &= ~np.isnan(goal)
            found[limit.name] = Pool.of(goal[rows], keys[rows], self.pool_size)
        return found

    def add(self, finds: ChunkFinds) -> None:
        """Take in what a chunk gave."""
        self.points += finds.points
        self.feasible += finds.feasible
        self.front.offer(*finds.front)
        self.small.offer(*finds.small)
        self.plain.offer(*finds.plain)
        for kind, pool in finds.pools.items():
            self.pools[kind].append(pool)
        self.by_draws = joined(self.by_draws, finds.by_draws)
        for name, pool in finds.relaxed.items():
            self.relaxed[name].append(pool)

    def absorb(self, other: "Collected") -> None:
        """Take in what another search of the same space kept."""
        self.points += other.points
        self.feasible += other.feasible
        for mine, theirs in (
            (self.front, other.front),
            (self.small, other.small),
            (self.plain, other.plain),
        ):
            mine.offer(theirs.objectives, theirs.keys)
        for kind, pools in other.pools.items():
            self.pools[kind] += pools
        self.by_draws = joined(self.by_draws, other.by_draws)
        for name, pools in other.relaxed.items():
            self.relaxed[name] += pools

    def pool(self, most: int) -> np.ndarray:
        """Keys of up to `most` good feasible points, the best of every part of the space first."""
        pools = [pool for pool in self.pools["usual"] if len(pool.keys)]
        if not pools:
            return np.empty(0, dtype=np.int64)
        # Chunks take turns, so that a wide part of the space cannot crowd out the others.
        goals = np.concatenate([pool.goals for pool in pools])
        keys = np.concatenate([pool.keys for pool in pools])
        turns = np.concatenate([np.arange(len(pool.goals)) for pool in pools])
        keep = np.lexsort((keys, goals, turns))[:most]
        _, first = np.unique(keys[keep], return_index=True)
        return np.asarray(keys[keep][np.sort(first)])

    def ranked(self, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Goals and keys of all pooled points of these kinds, best first."""
        return best_first([pool for kind in kinds for pool in self.pools[kind]])

    def ranked_relaxed(self, limit: str) -> tuple[np.ndarray, np.ndarray]:
        """The same of the points that one limit, relaxed, may let through."""
        return best_first(self.relaxed[limit])

    def left_out(self) -> float:
        """Goal of the best point, feasible or nearly so, that no pool kept."""
        pools = [pool for kind in ("usual", "least") for pool in self.pools[kind]]
        return min((pool.left_out for pool in pools), default=np.inf)
