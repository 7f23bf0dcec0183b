"""Which shape `query` picks at every combination of budgets, for one workload and training.

Under budgets, `query` picks the first shape, in one fixed order (best goal, then the other
objectives in turn, then the space's order), that meets all of them together with the confidence
asked for, by joint draws. A draw meets a stop or it does not, so what the draws say of a shape is
one bit a draw and a stop; the draws that meet a combination of stops are the bits that all of them
share. Shapes are taken in the order of choice, and each combination belongs to the first that it
lets through.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from shapelaw.search.answer.baselines import closest
from shapelaw.search.page.stops import BudgetStops
from shapelaw.search.pareto.feasibility import UncertainCost, cost_draws
from shapelaw.search.pareto.problem import Points, Problem

NOTHING = -1
"""In place of a pick where no shape meets the budgets."""

_BLOCK = 20_000
"""Shapes looked at together, in the order of choice."""

_TOGETHER = 128
"""Shapes whose combinations are counted together."""

_COUNTED = 32
"""The same, where all their combinations are."""

_PLACES = 4096
"""Combinations looked at together."""

_SURER = 0.9
"""A shape may need this share of the least margin that a sampled shape needed."""

_SAMPLE = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """The shapes of one weight format: where a query names several, each has its own costs."""

    problem: Problem
    points: Points
    """Without columns."""

    def middle(self, columns: Sequence[str]) -> np.ndarray:
        """Middle costs [n, columns]."""
        found = self.problem.cost(self.points.architectures, self.points.bits, tuple(columns))
        return np.stack([found[name] for name in columns], axis=1)

    def drawn(self, rows: np.ndarray, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Columns [k, rows] by the device's draws; the middle ones where it has none."""
        points = self.points.take(rows)
        if not isinstance(self.problem.cost, UncertainCost):
            held = self.problem.cost(points.architectures, points.bits, columns)
            points = dataclasses.replace(points, columns=held)
        return cost_draws(self.problem, points, columns)


class DrawnStops:
    """How many stops, from the loosest on, each draw lets every shape meet."""

    def __init__(self, branch: Branch, stops: Sequence[BudgetStops], confidence: float) -> None:
        self.branch, self.stops, self.confidence = branch, stops, confidence
        self.columns = tuple(each.column for each in stops)
        self.middle = branch.middle(self.columns)
        """[n, budgets]"""
        self.corner = self._optimistic()
        """[n, budgets]: the tightest stops that a shape might keep to with confidence."""
        self._held = np.full(len(self.middle), -1, dtype=np.int64)
        self._levels = np.empty((0, 0, len(stops)), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.middle)

    def drawn(self, rows: np.ndarray) -> list[np.ndarray]:
        """Each budget's column [k, rows]."""
        found = self.branch.drawn(rows, self.columns)
        return [found[name] for name in self.columns]

    def _optimistic(self) -> np.ndarray:
        rows = np.random.default_rng(0).permutation(len(self))[:_SAMPLE]
        rows.sort()
        found = np.empty(self.middle.shape, dtype=np.uint8)
        for place, (stops, drawn) in enumerate(zip(self.stops, self.drawn(rows), strict=True)):
            middle = self.middle[rows, place]
            worse = middle / drawn if stops.at_least else drawn / middle
            least = _SURER * float(np.quantile(worse, self.confidence, axis=0).min())
            column = self.middle[:, place]
            found[:, place] = stops.met(column / least if stops.at_least else column * least)
        return found

    def levels(self, rows: np.ndarray) -> np.ndarray:
        """[rows, k, budgets]."""
        wanted = np.sort(rows[self._held[rows] < 0])
        if len(wanted):
            found = self.stop_counts(self.drawn(wanted))
            self._held[wanted] = len(self._levels) + np.arange(len(wanted))
            self._levels = np.concatenate([self._levels, found]) if len(self._levels) else found
        return np.asarray(self._levels[self._held[rows]])

    def stop_counts(self, drawn: Sequence[np.ndarray]) -> np.ndarray:
        """[n, k, budgets] from each budget's column [k, n]."""
        return np.stack(
            [stops.met(column).T for stops, column in zip(self.stops, drawn, strict=True)], axis=-1
        )


Levels = Callable[[np.ndarray], np.ndarray]


def picks(drawn: DrawnStops, order: np.ndarray, levels: Levels | None = None) -> np.ndarray:
    """[*stops]: the shape that `query` picks at every combination of stops, NOTHING where none.

    Args:
        order: rows of the shapes from the best on.
        levels: of rows, in place of the device's own: where a loss is to be reached, a draw of the
            law that misses it meets no stop.
    """
    levels = levels or drawn.levels
    sizes = tuple(len(each.values) for each in drawn.stops)
    table = np.full(sizes, NOTHING, dtype=np.int64)
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        rows = rows[_open(drawn.corner[rows], table)]
        if len(rows):
            _settle(table, rows, levels(rows), drawn.confidence)
            if not (table == NOTHING).any():
                break
    return table


def closest_beside(
    drawn: DrawnStops,
    table: np.ndarray,
    levels: Levels | None = None,
    least_miss: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The table of `picks` with, in place of NOTHING, the shape that comes closest to the stops.

    Args:
        levels: as in `picks`.
        least_miss: what each shape [n] misses by at any stop.
    """
    places = np.argwhere(table == NOTHING)
    if not len(places):
        return table
    held = (levels or drawn.levels)(np.arange(len(drawn)))
    counts = np.concatenate([
        met_together(held[first : first + _COUNTED], table.shape).astype(np.uint16)
        for first in range(0, len(held), _COUNTED)
    ])  # fmt: skip
    ratios = [stops.ratio(drawn.middle[:, place]) for place, stops in enumerate(drawn.stops)]
    filled = table.copy()
    for first in range(0, len(places), _PLACES):
        some = tuple(places[first : first + _PLACES].T)
        miss = np.broadcast_to(least_miss, len(held))[:, None]
        for ratio, stop in zip(ratios, some, strict=True):
            miss = np.maximum(miss, ratio[:, stop])
        filled[some] = closest(counts[(slice(None), *some)], miss)
    return filled


def _settle(table: np.ndarray, rows: np.ndarray, levels: np.ndarray, confidence: float) -> None:
    """Give each combination that is no shape's yet to the first of the rows that it lets through.

    `levels` [rows, k, budgets].
    """
    count = levels.shape[1]
    least = needed(count, confidence)
    # What each budget alone lets through bounds what all of them do.
    alone = np.partition(levels, count - least, axis=1)[:, count - least]
    for first in range(0, len(rows), _TOGETHER):
        chunk = np.arange(first, min(first + _TOGETHER, len(rows)))
        chunk = chunk[_open(alone[chunk], table)]
        if not len(chunk):
            continue
        most = tuple(alone[chunk].max(axis=0).tolist())
        met = met_together(levels[chunk], most) >= least
        earliest = np.argmax(met, axis=0)
        there = np.take_along_axis(met, earliest[None], axis=0)[0]
        corner = table[tuple(slice(0, size) for size in most)]
        new = there & (corner == NOTHING)
        corner[new] = rows[chunk[earliest[new]]]


def _open(corner: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Numbers of the rows whose tightest combination is not yet any shape's."""
    possible = np.flatnonzero((corner > 0).all(axis=1))
    place = tuple((corner[possible].astype(np.int64) - 1).T)
    return np.asarray(possible[table[place] == NOTHING])


def needed(draws: int, confidence: float) -> int:
    """Fewest of so many draws whose share reaches the confidence."""
    return int(np.argmax(np.arange(draws + 1) / draws >= confidence))


def met_together(levels: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """[n, *sizes]: how many draws meet every combination of stops. `levels` [n, k, budgets]."""
    words = -(-levels.shape[1] // 64)
    shared = np.full((len(levels), 1, words), ~np.uint64(0))
    for place, size in enumerate(sizes):
        mine = _bits(levels[:, :, place], size)
        shared = shared[:, :, None, :] & mine[:, None, :, :]
        shared = shared.reshape(len(levels), -1, words)
    counts = np.bitwise_count(shared).sum(axis=-1)
    return np.asarray(counts.reshape(len(levels), *sizes))


def _bits(levels: np.ndarray, size: int) -> np.ndarray:
    """[n, size, words]: for each stop, which draws meet it, one bit each."""
    met = levels[:, None, :] > np.arange(size, dtype=np.uint8)[None, :, None]
    packed = np.packbits(met, axis=-1)
    whole = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), dtype=np.uint8)
    whole[..., : packed.shape[-1]] = packed
    return whole.view(np.uint64)
