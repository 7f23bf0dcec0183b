"""Search by looking at every point: exact, for spaces of up to some ten millions."""

import collections
import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from shapelaw.search.pareto.draw_screen import DrawScreen
from shapelaw.search.pareto.problem import Columns, Points, Problem
from shapelaw.search.pareto.search_finds import POOL, ChunkFinds, Collected
from shapelaw.search.space.grid import Grid

Result = TypeVar("Result")

MOST_POINTS = 20_000_000
"""Spaces up to this size are enumerated."""

CHUNK = 32_768
"""Architectures looked at together."""

THREADS = 2
"""NumPy lets go of the interpreter inside its loops, so two threads use two cores."""


def search_all(
    problem: Problem, grid: Grid, pool: int = POOL, screen: DrawScreen | None = None
) -> Collected:
    """Look at every point of the grid; keys are point numbers.

    Points that miss a limit even when it is relaxed are dropped as soon as the column it bounds is
    known, memory first because it is the cheapest; this changes nothing in the result.

    Args:
        pool: points kept of each chunk and kind.
        screen: keeps the best points by single draws of law and device, too.
    """
    collected = Collected(problem, pool, screen)

    def look_at(start: int) -> ChunkFinds:
        return _chunk(collected, grid, start)

    for finds in _in_order(look_at, range(0, grid.n_architectures(), CHUNK)):
        collected.add(finds)
    return collected


def _in_order(work: Callable[[int], Result], starts: range) -> Iterator[Result]:
    """Results of `work` in the order of `starts`, a few ahead of their use."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: collections.deque[Future[Result]] = collections.deque()
        for start in starts:
            waiting.append(pool.submit(work, start))
            if len(waiting) > 2 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunk(collected: Collected, grid: Grid, start: int) -> ChunkFinds:
    problem, n_bits = collected.problem, len(grid.bits)
    numbers = np.arange(start, min(start + CHUNK, grid.n_architectures()))
    architectures = grid.architectures(numbers)
    parts = []
    for bit, bits in enumerate(grid.bits):
        points = Points(architectures, np.full(len(numbers), bits), {}, numbers * n_bits + bit)
        for stage in _stages(problem):
            points = _filtered(problem, points, stage)
        parts.append(points)
    points = parts[0] if len(parts) == 1 else Points.join(parts)
    return collected.look_at(points, len(numbers) * n_bits)


def _stages(problem: Problem) -> list[tuple[str, ...]]:
    """Columns in the order to compute them: after each stage, points that miss a limit are dropped.

    A cost column that nothing bounds is computed together with the next, which is cheaper.
    """
    limited = {limit.column for limit in problem.limits}
    needed = {"memory_bytes", "decode_tokens_per_s"} | limited
    needed |= {objective.column for objective in problem.objectives}
    stages: list[tuple[str, ...]] = [("loss",)]
    waiting: tuple[str, ...] = ()
    for name in ("memory_bytes", "decode_tokens_per_s", "energy_per_token_j", "ttft_s"):
        if name not in needed:
            continue
        waiting = (*waiting, name)
        if name in limited:
            # Memory is cheaper than the loss, everything else dearer.
            stages.insert(0 if name == "memory_bytes" else len(stages), waiting)
            waiting = ()
    return [*stages, waiting] if waiting else stages


def _filtered(problem: Problem, points: Points, stage: tuple[str, ...]) -> Points:
    """Points with the columns of a stage, those dropped that miss a limit on them when relaxed."""
    found = (
        problem.loss_columns(points.architectures)
        if stage == ("loss",)
        else problem.cost(points.architectures, points.bits, stage)
    )
    points = Points(points.architectures, points.bits, points.columns | found, points.keys)
    limits = [limit for limit in problem.limits if limit.column in stage]
    if not limits:
        return points
    met = np.logical_and.reduce(
        [limit.met(found[limit.column], problem.loosest(limit)) for limit in limits]
    )
    return points if met.all() else points.take(np.flatnonzero(met))


def points_of(problem: Problem, grid: Grid, keys: np.ndarray) -> Points:
    """Every column of points by their numbers."""
    architecture, bit = np.divmod(np.asarray(keys, dtype=np.int64), len(grid.bits))
    return problem.evaluate(grid.architectures(architecture), grid.bits[bit], keys)


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """What would have to give for something to be feasible."""

    alone: dict[str, float]
    """Limit -> the value at which it lets a point through that meets all other limits."""
    together: float | None
    """Least factor by which all limits have to be more generous at once."""


def least_relaxation(problem: Problem, grid: Grid) -> Relaxation:
    """The least that would have to give, over every point of the grid."""
    limits = problem.limits
    wanted = tuple({limit.column for limit in limits} - {"loss"})

    def ratios(start: int) -> np.ndarray:
        """[limits + 1]: the least ratio of each limit where the others are met, and of all."""
        numbers = np.arange(start, min(start + CHUNK, grid.n_architectures()))
        architectures = grid.architectures(numbers)
        found = []
        for bits in grid.bits:
            columns = problem.loss_columns(architectures) | problem.cost(
                architectures, np.full(len(numbers), bits), wanted
            )
            found.append(_least_ratios(problem, columns))
        return np.min(found, axis=0)

    least = np.full(len(limits) + 1, np.inf)
    for chunk in _in_order(ratios, range(0, grid.n_architectures(), CHUNK)):
        least = np.minimum(least, chunk)
    return relaxation_of(problem, least)


def _least_ratios(problem: Problem, columns: Columns) -> np.ndarray:
    each = np.stack([limit.ratio(columns[limit.column]) for limit in problem.limits])
    least = [
        np.min(each[index], where=(np.delete(each, index, axis=0) <= 1).all(axis=0), initial=np.inf)
        for index in range(len(each))
    ]
    return np.array([*least, each.max(axis=0).min(initial=np.inf)])


def relaxation_of(problem: Problem, ratios: np.ndarray) -> Relaxation:
    """Values of the limits from the ratios by which they would have to be more generous."""
    alone = {
        limit.name: limit.value / ratio if limit.at_least else limit.value * ratio
        for limit, ratio in zip(problem.limits, ratios[:-1].tolist(), strict=True)
        if np.isfinite(ratio)
    }
    return Relaxation(alone, float(ratios[-1]) if np.isfinite(ratios[-1]) else None)
