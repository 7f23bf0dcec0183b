"""Search of spaces too large to enumerate: Optuna explores, a neighbourhood search polishes.

Two searches that share nothing run one after the other; what each found of what they found together
is the certificate's estimate of completeness. Their union is then polished until no neighbour of
any front point improves the front (Pareto local search), or the time is up.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.search.pareto.certificate import Certificate
from shapelaw.search.pareto.draw_screen import DrawScreen
from shapelaw.search.pareto.exhaustive import THREADS, Relaxation, relaxation_of
from shapelaw.search.pareto.front import hypervolume, reference_point
from shapelaw.search.pareto.problem import Columns, Points, Problem
from shapelaw.search.pareto.search_finds import ChunkFinds, Collected
from shapelaw.search.space.grid import AXES, Grid
from shapelaw.search.space.neighbours import Neighbours

_RANDOM_POINTS = 60_000
"""Points of the first look, spread over the space."""

_TRIALS = 400
"""Trials Optuna's NSGA-II may propose; in a stored study, fewer where the time runs out."""

_OPTUNA_SHARE = 0.15
"""Of the time."""

_BATCH = 96
"""Front points whose neighbours are looked at together."""

_CHILDREN = 20_000
"""Mixed points tried when no neighbour improves, to leave local optima."""

_STILL = 1e-5
"""Relative growth of the hypervolume below which a round of mixing brought nothing."""

_STILL_ROUNDS = 3


class Explorer:
    """One search: a collected, and which of its front points have had their neighbours seen."""

    def __init__(
        self,
        problem: Problem,
        grid: Grid,
        seed: int,
        pool: ThreadPoolExecutor,
        screen: DrawScreen | None = None,
    ) -> None:
        self.problem, self.grid, self.pool = problem, grid, pool
        self.neighbours = Neighbours(grid)
        self.collected = Collected(problem, screen=screen)
        self.generator = np.random.default_rng(seed)
        self.seen = np.empty(0, dtype=np.int64)
        """Keys of front points whose neighbours were looked at."""
        self._wanted = tuple(
            {"memory_bytes", "decode_tokens_per_s"}
            | {limit.column for limit in problem.limits if limit.column != "loss"}
            | {o.column for o in problem.objectives if o.column not in ("loss", "training_flops")}
        )

    def columns(self, points: np.ndarray) -> tuple[Points, np.ndarray]:
        """Valid points among [n, axes] with the columns the search needs, and their coordinates."""
        batch, bits, valid = self.grid.decode(points)
        rows = np.flatnonzero(valid)
        batch, bits = batch.take(rows), bits[rows]
        found: Columns = self.problem.loss_columns(batch) | self.problem.cost(
            batch, bits, self._wanted
        )
        keys = np.ravel_multi_index(tuple(points[rows].T), self.grid.shape)
        return Points(batch, bits, found, np.asarray(keys, dtype=np.int64)), points[rows]

    def look(self, points: np.ndarray) -> None:
        """Evaluate points [n, axes] and keep what is worth keeping."""
        halves = np.array_split(points, THREADS) if len(points) > 4096 else [points]

        def look_at(half: np.ndarray) -> ChunkFinds:
            found, _ = self.columns(half)
            return self.collected.look_at(found, len(half))

        for finds in list(self.pool.map(look_at, halves)):
            self.collected.add(finds)

    def front(self) -> np.ndarray:
        """Coordinates of the front."""
        return coordinates(self.grid, self.collected.front.keys)

    def polish(self, deadline: float) -> bool:
        """Look at neighbours of the front until none improves it; False where time ran out."""
        while True:
            keys = self.collected.front.keys
            fresh = keys[~np.isin(keys, self.seen)]
            if not len(fresh):
                return True
            if time.monotonic() > deadline:
                return False
            # A spread over the whole front first: its ends and its middle move together.
            chosen = np.sort(self.generator.permutation(len(fresh))[:_BATCH])
            self.seen = np.union1d(self.seen, fresh[chosen])
            self.look(self.neighbours.of(coordinates(self.grid, fresh[chosen])))

    def approach(self, deadline: float) -> None:
        """Where nothing feasible is known, walk towards the budgets."""
        points = self.neighbours.random(_RANDOM_POINTS, self.generator)
        best = np.inf
        while not self.collected.feasible and time.monotonic() < deadline:
            found, where = self.columns(points)
            self.collected.add(self.collected.look_at(found, len(points)))
            worst = misses(self.problem, found.columns).max(axis=0)
            order = np.argsort(worst, kind="stable")[:_BATCH]
            if not len(order) or worst[order[0]] >= best:
                return
            best = worst[order[0]]
            points = self.neighbours.of(where[order])

    def run(self, deadline: float) -> bool:
        """Random look, polish, then mix and polish until nothing more is gained.

        Returns whether the front is locally optimal.
        """
        self.look(self.neighbours.random(_RANDOM_POINTS, self.generator))
        if not self.collected.feasible:
            self.approach(deadline)
        if not self.collected.feasible:
            return False
        polished = self.polish(deadline)
        still = 0
        while polished and still < _STILL_ROUNDS and time.monotonic() < deadline:
            before = self.collected.front.objectives
            self.look(self.neighbours.mixed(self.front(), _CHILDREN, self.generator))
            polished = self.polish(deadline)
            after = self.collected.front.objectives
            reference = reference_point(after)
            grown = hypervolume(after, reference) - hypervolume(before, reference)
            still = still + 1 if grown <= _STILL * hypervolume(after, reference) else 0
        return polished


def coordinates(grid: Grid, keys: np.ndarray) -> np.ndarray:
    """[n, axes] from keys of the plain product of the axes."""
    return np.stack(np.unravel_index(keys, grid.shape), axis=1)


def misses(problem: Problem, columns: Columns) -> np.ndarray:
    """[limits, n]: how many times as generous each limit would have to be."""
    return np.stack([limit.ratio(columns[limit.column]) for limit in problem.limits])


def points_at(problem: Problem, grid: Grid, keys: np.ndarray) -> Points:
    """Every column of points by key."""
    architectures, bits, _ = grid.decode(coordinates(grid, np.asarray(keys, dtype=np.int64)))
    return problem.evaluate(architectures, bits, keys)


def explore(
    problem: Problem,
    grid: Grid,
    *,
    seconds: float,
    seed: int,
    study_name: str,
    storage: str | None,
    screen: DrawScreen | None = None,
) -> tuple[
    Collected, Callable[[np.ndarray], Points], Callable[[np.ndarray], np.ndarray], Certificate
]:
    """Search the grid for `seconds`; what `query` needs to compose an answer.

    Raises:
        BadInput: the space has more points than can be numbered.
    """
    size = grid.size()
    if np.prod([float(length) for length in grid.shape]) >= 2.0**62:
        raise BadInput(f"space {grid.name}: {size:.2g} points cannot be numbered; use larger steps")
    start = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        first, second, union = (Explorer(problem, grid, seed + k, pool, screen) for k in range(3))
        first.look(optuna_points(first, study_name, storage, start + _OPTUNA_SHARE * seconds, seed))
        first.run(start + 0.5 * seconds)
        second.run(start + 0.8 * seconds)
        ratio = _agreement(first.collected, second.collected)
        for part in (first, second):
            union.seen = np.union1d(union.seen, part.seen)
            union.look(part.front())
        polished = bool(union.collected.feasible) and union.polish(start + seconds)
    collected = merged(union.collected, [first.collected, second.collected])
    certificate = Certificate(
        space_size=size,
        exact=False,
        hypervolume_ratio=ratio,
        evaluated=collected.points,
        front_size=len(collected.front),
        feasible=collected.feasible,
        locally_optimal=polished,
    )
    return (
        collected,
        lambda keys: points_at(problem, grid, keys),
        lambda keys: coordinates(grid, keys),
        certificate,
    )


def _agreement(first: Collected, second: Collected) -> float:
    """The smaller share of the joint hypervolume that one search alone found."""
    fronts = [first.front.objectives, second.front.objectives]
    together = np.concatenate(fronts)
    if not len(together):
        return 0.0
    reference = reference_point(together)
    whole = hypervolume(together, reference)
    return min(hypervolume(front, reference) for front in fronts) / whole if whole > 0 else 1.0


def merged(into: Collected, others: list[Collected]) -> Collected:
    """All that several searches kept, in one."""
    for other in others:
        into.absorb(other)
    return into


def optuna_points(
    explorer: Explorer, name: str, storage: str | None, deadline: float, seed: int
) -> np.ndarray:
    """Points [n, axes] that Optuna's NSGA-II proposes, told back in batches with their constraints.

    A stored study is gone on with: its earlier trials are points too, and it keeps the new ones.
    """
    from optuna.samplers import NSGAIISampler
    from optuna.trial import TrialState

    from shapelaw.search.pareto import optuna_study as studies

    problem, grid = explorer.problem, explorer.grid
    population = 50
    study = studies.open_study(
        problem, name, storage, NSGAIISampler(population_size=population, seed=seed)
    )
    axes, values = studies.distributions(grid), studies.axis_values(grid)
    place = {
        axis: {value: index for index, value in enumerate(column)}
        for axis, column in values.items()
    }
    columns = list(values)
    proposed = [
        studies.point_of(trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE
    ]
    with studies.quiet():
        while len(proposed) < _TRIALS and time.monotonic() < deadline:
            trials = [study.ask(axes) for _ in range(population)]
            wanted = np.zeros((population, len(AXES)), dtype=np.int64)
            for row, trial in enumerate(trials):
                for axis, value in trial.params.items():
                    known = place[axis]
                    wanted[row, columns.index(axis)] = (
                        known[value] if value in known else _nearest(values[axis], value)
                    )
            for row, trial in enumerate(trials):
                settled = explorer.neighbours.settle(wanted[[row]])
                found, where = explorer.columns(settled)
                if not len(found):
                    study.tell(trial, state=TrialState.FAIL)
                    continue
                for key, miss in studies.constraints_of(problem, found)[0].items():
                    trial.set_constraint(key, miss)
                trial.set_user_attr(studies.POINT, studies.point_name(where[0]))
                study.tell(trial, studies.values_of(problem, found)[0].tolist())
                proposed.append(where[0])
            if not proposed:
                break
    return np.array(proposed, dtype=np.int64).reshape(-1, len(AXES))


def _nearest(values: list[float], value: float) -> int:
    """Index of the closest value: a stepped float may come back a rounding error away."""
    return int(np.argmin(np.abs(np.array(values) - value)))


def sampled_relaxation(problem: Problem, grid: Grid, seed: int = 0) -> Relaxation:
    """What would have to give, by a search for the point that misses the budgets by least."""
    least = np.full(len(problem.limits) + 1, np.inf)
    with ThreadPoolExecutor(THREADS) as pool:
        explorer = Explorer(problem, grid, seed, pool)
        points = explorer.neighbours.random(4 * _RANDOM_POINTS, explorer.generator)
        for _ in range(200):
            found, where = explorer.columns(points)
            if not len(found):
                break
            ratios = misses(problem, found.columns)
            others = [
                np.delete(ratios, k, axis=0).max(axis=0, initial=0.0) for k in range(len(ratios))
            ]
            alone = [
                np.min(ratio, where=other <= 1, initial=np.inf)
                for ratio, other in zip(ratios, others, strict=True)
            ]
            now = np.minimum(least, [*alone, ratios.max(axis=0).min()])
            if np.all(now >= least):
                break
            least = now
            # Walk on from the points closest to each of the ways in.
            ways = [
                *(
                    np.maximum(ratio, 1e3 * (other > 1) * other)
                    for ratio, other in zip(ratios, others, strict=True)
                ),
                ratios.max(axis=0),
            ]
            rows = np.unique([np.argsort(way, kind="stable")[: _BATCH // 2] for way in ways])
            points = explorer.neighbours.of(where[rows])
    return relaxation_of(problem, least)
