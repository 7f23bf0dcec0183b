"""Which shape `query` picks at every combination of budgets, for one workload and training.

Under budgets, `query` picks the first shape, in one fixed order (best goal, then the other
objectives in turn, then the space's order), that meets all of them together with the confidence
asked for, by joint draws. A draw meets a stop or it does not, so what the draws say of a shape is
one bit a draw and a stop; the draws that meet a combination of stops are the bits that all of them
share. Shapes are taken in the order of choice, and each combination belongs to the first that it
lets through.

Where a shape fits, it fits at every looser combination too. So the combinations that are nobody's
yet are those at the tight end: a shape that is let through by none of the loosest of them is let
through by none at all, and of the others only that corner of what they might reach is looked at.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from shapelaw.search.answer.baselines import closest
from shapelaw.search.page.stops import BudgetStops
from shapelaw.search.pareto.feasibility import UncertainCost, cost_draws
from shapelaw.search.pareto.problem import Columns, Points, Problem

NOTHING = -1
"""In place of a pick where no shape meets the budgets."""

_SCANNED = 8192
"""Shapes whose bounds are looked at together, in the order of choice."""

_BLOCK = 512
"""Shapes that are drawn together: what they leave open is asked of the rest."""

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
    """The shapes of one weight format, served at one batch and context: each has its own costs."""

    problem: Problem
    points: Points
    """Without columns."""
    _held: Columns = dataclasses.field(default_factory=dict)

    def middle(self, columns: Sequence[str]) -> np.ndarray:
        """Middle costs [n, columns]; found once."""
        absent = tuple(name for name in columns if name not in self._held)
        if absent:
            found = self.problem.cost(self.points.architectures, self.points.bits, absent)
            self._held.update(found)
        return np.stack([self._held[name] for name in columns], axis=1)

    def drawn(self, rows: np.ndarray, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Columns [k, rows] by the device's draws; the middle ones where it has none."""
        points = self.points.take(rows)
        if not isinstance(self.problem.cost, UncertainCost):
            held = self.problem.cost(points.architectures, points.bits, columns)
            points = dataclasses.replace(points, columns=held)
        return cost_draws(self.problem, points, columns)


class Levels:
    """How many stops of each budget, from the loosest on, draws let shapes meet; found once."""

    def __init__(
        self,
        most: np.ndarray,
        find: Callable[[np.ndarray], np.ndarray],
        confidence: float,
    ) -> None:
        """
        Args:
            most: [n, budgets] stops that no shape meets more of with confidence.
            find: rows -> levels [rows, k, budgets], for rows in ascending order.
            confidence: that a shape must meet its stops with.
        """
        self._find, self._confidence = find, confidence
        self.most = most.copy()
        """[n, budgets]: what each budget is met up to at most; of rows whose levels were found,
        what it is met up to by itself with confidence, which bounds what all of them together are.
        """
        self._place = np.full(len(most), -1, dtype=np.int64)
        self._found = 0
        self._each = np.empty((0, 0, most.shape[1]), dtype=np.uint8)

    def each(self, rows: np.ndarray) -> np.ndarray:
        """[rows, k, budgets]."""
        self.need(rows)
        return np.asarray(self._each[self._place[rows]])

    def need(self, rows: np.ndarray) -> None:
        """Find what these rows meet."""
        wanted = np.sort(rows[self._place[rows] < 0])
        if not len(wanted):
            return
        new = self._find(wanted)
        draws = new.shape[1]
        end = self._found + len(wanted)
        if end > len(self._each):
            # Twice as much each time: what stands there is copied a few times, not once a block.
            self._each = _with_room(self._each, (max(end, 2 * len(self._each)), *new.shape[1:]))
        self._each[self._found : end] = new
        # Sixteen bits and draws side by side: what NumPy sorts fastest.
        ordered = np.sort(new.transpose(2, 0, 1).astype(np.uint16, order="C"), axis=-1)
        self.most[wanted] = ordered[..., draws - needed(draws, self._confidence)].T
        self._place[wanted] = np.arange(self._found, end)
        self._found = end


def _with_room(held: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    larger = np.empty(shape, dtype=held.dtype)
    if len(held):
        larger[: len(held)] = held
    return larger


class DrawnStops:
    """How many stops, from the loosest on, each draw of the device lets every shape meet."""

    def __init__(self, branch: Branch, stops: Sequence[BudgetStops], confidence: float) -> None:
        self.branch, self.stops, self.confidence = branch, stops, confidence
        self.columns = tuple(each.column for each in stops)
        self.middle = branch.middle(self.columns)
        """[n, budgets]"""
        self.corner = self._optimistic()
        """[n, budgets]: the tightest stops that a shape might keep to with confidence."""
        self.levels = self.levels_of(lambda rows: self.stop_counts(self.drawn(rows)))

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

    def levels_of(self, find: Callable[[np.ndarray], np.ndarray]) -> Levels:
        """Levels of these shapes by other draws."""
        return Levels(self.corner, find, self.confidence)

    def stop_counts(self, drawn: Sequence[np.ndarray]) -> np.ndarray:
        """[n, k, budgets] from each budget's column [k, n]."""
        return np.stack(
            [stops.met(column).T for stops, column in zip(self.stops, drawn, strict=True)], axis=-1
        )


def picks(drawn: DrawnStops, order: np.ndarray, levels: Levels | None = None) -> np.ndarray:
    """[*stops]: the shape that `query` picks at every combination of stops, NOTHING where none.

    Args:
        order: rows of the shapes from the best on, of those whose corner is no edge of the table.
        levels: in place of the device's own: where a loss is to be reached, a draw of the law that
            misses it meets no stop.
    """
    levels = levels or drawn.levels
    sizes = tuple(len(each.values) for each in drawn.stops)
    table = np.full(sizes, NOTHING, dtype=np.int64)
    for first in range(0, len(order), _SCANNED):
        rows = order[first : first + _SCANNED]
        while len(rows := rows[_open(levels.most[rows], table)]):
            _settle(table, rows[:_BLOCK], levels, drawn.confidence)
            rows = rows[_BLOCK:]
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
    held = (levels or drawn.levels).each(np.arange(len(drawn)))
    counts = np.concatenate([
        met_together(held[first : first + _COUNTED], table.shape)
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


def _settle(table: np.ndarray, rows: np.ndarray, levels: Levels, confidence: float) -> None:
    """Give each combination that is nobody's yet to the first of the rows that it lets through."""
    levels.need(rows)
    rows = rows[_open(levels.most[rows], table)]
    loosest = _loosest_open(table)
    for first in range(0, len(rows), _TOGETHER):
        chunk = rows[first : first + _TOGETHER]
        each = levels.each(chunk)
        least = needed(each.shape[1], confidence)
        some = (_met_at(each, loosest) >= least).any(axis=1)
        chunk, each = chunk[some], each[some]
        if not len(chunk):
            continue
        most = levels.most[chunk].max(axis=0).tolist()
        corner = tuple(slice(*ends) for ends in zip(_first_open(table, most), most, strict=True))
        met = met_together(each, corner) >= least
        earliest = np.argmax(met, axis=0)
        there = np.take_along_axis(met, earliest[None], axis=0)[0]
        mine = table[corner]
        new = there & (mine == NOTHING)
        mine[new] = chunk[earliest[new]]
        loosest = _loosest_open(table)


def _loosest_open(table: np.ndarray) -> np.ndarray:
    """[combinations, budgets]: those of nobody's that no looser one is beside."""
    free = table == NOTHING
    loosest = free.copy()
    for axis in range(table.ndim):
        here = np.moveaxis(loosest, axis, 0)
        here[1:] &= ~np.moveaxis(free, axis, 0)[:-1]
    return np.argwhere(loosest)


def _first_open(table: np.ndarray, most: Sequence[int]) -> list[int]:
    """On each axis the loosest stop, of so many, that some combination of nobody's yet stands on.

    With a combination every tighter one is open too: the loosest stop is found along the edge where
    all other budgets are as tight as they get.
    """
    found = []
    for axis, size in enumerate(most):
        edge: list[int | slice] = [each - 1 for each in most]
        edge[axis] = slice(0, size)
        found.append(int(np.argmax(table[tuple(edge)] == NOTHING)))
    return found


def _open(corner: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Numbers of the rows whose tightest combination is not yet any shape's."""
    possible = np.flatnonzero((corner > 0).all(axis=1))
    place = tuple((corner[possible].astype(np.int64) - 1).T)
    return np.asarray(possible[table[place] == NOTHING])


def needed(draws: int, confidence: float) -> int:
    """Fewest of so many draws whose share reaches the confidence."""
    return int(np.argmax(np.arange(draws + 1) / draws >= confidence))


def met_together(levels: np.ndarray, stops: Sequence[int | slice]) -> np.ndarray:
    """How many draws meet every combination of stops.

    Args:
        levels: [n, k, budgets].
        stops: of each budget, how many of them, or which slice.

    Returns:
        [n, *stops].
    """
    spans = [range(each) if isinstance(each, int) else range(each.stop)[each] for each in stops]
    masks = [_bits(levels[:, :, place], span) for place, span in enumerate(spans)]
    counts = np.zeros((len(levels), *map(len, spans)), dtype=np.uint16)
    for word in range(masks[0].shape[0]):
        shared = masks[0][word]
        for mask in masks[1:]:
            shared = shared[..., None] & mask[word].reshape(
                len(levels), *(1,) * (shared.ndim - 1), -1
            )
        counts += np.bitwise_count(shared)
    return counts


def _met_at(levels: np.ndarray, combinations: np.ndarray) -> np.ndarray:
    """How many draws of `levels` [n, k, budgets] meet each of some combinations [m, budgets]."""
    counts = np.zeros((len(levels), len(combinations)), dtype=np.uint16)
    if not len(combinations):
        return counts
    masks = [
        _bits(levels[:, :, place], range(stops.max() + 1))
        for place, stops in enumerate(combinations.T)
    ]
    for word in range(masks[0].shape[0]):
        shared = masks[0][word][:, combinations[:, 0]]
        for mask, stops in zip(masks[1:], combinations.T[1:], strict=True):
            shared &= mask[word][:, stops]
        counts += np.bitwise_count(shared)
    return counts


def _bits(levels: np.ndarray, span: range) -> np.ndarray:
    """[words, n, stops]: for each stop, which draws meet it, one bit each."""
    met = levels[:, None, :] > np.asarray(span, dtype=np.uint8)[None, :, None]
    packed = np.packbits(met, axis=-1)
    whole = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), dtype=np.uint8)
    whole[..., : packed.shape[-1]] = packed
    return np.ascontiguousarray(np.moveaxis(whole.view(np.uint64), -1, 0))
