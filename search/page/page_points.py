"""The shapes a page must hold so that its sliders answer as `query` does.

Under limits, `query` picks the first point that meets them with confidence in one fixed order (best
goal, then the other objectives in turn, then the space's order). A slider is held against what a
point keeps to with that confidence (columns named `bound:`), each budget by itself. So a point can
be the pick for some limits exactly when no point before it in that order is as good in every bound.
Those points are kept: the nondominated set over (place in the order, bounds). Sliders stand on
round values; rounding each bound to the slider position from which on it is let through shrinks the
set by an order of magnitude and changes no pick at any position.
"""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shapelaw.search.pareto.exhaustive import CHUNK, MOST_POINTS, THREADS, points_of
from shapelaw.search.pareto.feasibility import confident_columns
from shapelaw.search.pareto.problem import OBJECTIVES, Columns, Points, Problem
from shapelaw.search.space.grid import Grid

ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Slider positions in each decade."""

LOSS_STEP = 0.01
"""Between slider positions of a loss to reach, nats per token."""

MOST_ROWS = 12_000
"""Beyond this many points decode speed is rounded as well; the page stays a few megabytes."""

ALL_COLUMNS_UP_TO = 5_000_000
"""Points up to which every cost is computed; beyond, only those the query speaks of."""

BOUND = "bound:"
"""Before the name of a column: what the point keeps to with confidence."""

LIMITABLE = ("memory_bytes", "decode_tokens_per_s", "ttft_s", "energy_per_token_j")

_MERGE = 150_000
"""Rows held before they are reduced again."""


@dataclasses.dataclass(frozen=True)
class Slider:
    """One budget and the values it may stand on."""

    name: str
    """As on the command line: memory, decode, ttft, energy, target_loss."""
    column: str
    at_least: bool
    positions: np.ndarray
    """Rising. Every one of the query's own limits is among them."""

    def level(self, column: np.ndarray) -> np.ndarray:
        """Less is better: number of the tightest position that lets a value through [n]."""
        if self.at_least:
            return -(np.searchsorted(self.positions, column, side="right") - 1.0)
        return np.searchsorted(self.positions, column, side="left").astype(float)

    def between(self, low: float, high: float) -> "Slider":
        """With the positions that tell values from `low` to `high` apart, and one beyond."""
        first = max(int(np.searchsorted(self.positions, low, side="right")) - 1, 0)
        last = int(np.searchsorted(self.positions, high, side="left"))
        return dataclasses.replace(self, positions=self.positions[first : last + 1])


@dataclasses.dataclass(frozen=True, eq=False)
class Explored:
    """What the page holds."""

    points: Points
    """In the order of choice: the first feasible one is the pick."""
    sliders: list[Slider]
    exact: bool
    """Every point of the space was looked at: picks are those of `query`."""
    front_complete: bool
    """The page holds the whole front at every position; otherwise only the picks."""


def round_values(low: int, high: int) -> np.ndarray:
    """ROUND·10^k for k from `low` to `high`, as people write them."""
    # Through text: 6e-3 is the float nearest to .006, which 6 * 10**-3 need not be.
    return np.array(
        [float(f"{step:g}e{power}") for power in range(low, high + 1) for step in ROUND]
    )


def ceiling(problem: Problem) -> float:
    """Most bytes that the device gives an application: no query may ask for more."""
    profile = getattr(problem.cost, "profile", None)
    return np.inf if profile is None else float(profile.app_memory)


def sliders_of(problem: Problem, columns: list[str]) -> list[Slider]:
    """A slider for each limited column that can be limited, over all round values."""
    asked = {limit.column: limit.value for limit in problem.limits}
    found = []
    for name in ("memory", "decode", "ttft", "energy"):
        objective = OBJECTIVES[name]
        if objective.column in columns:
            values = np.append(round_values(-7, 15), asked.get(objective.column, 1.0))
            most = ceiling(problem) if name == "memory" else np.inf
            values = np.append(values[values <= most], most if np.isfinite(most) else values[0])
            found.append(Slider(name, objective.column, objective.maximise, np.unique(values)))
    if problem.target_loss is not None:
        values = np.append(np.round(np.arange(0, 20, LOSS_STEP), 6), problem.target_loss)
        found.append(Slider("target_loss", "loss", False, np.unique(values)))
    return found


def explored(problem: Problem, grid: Grid, confidence: float) -> Explored:
    """Look at every point of the grid and keep what some slider positions could pick.

    The front over loss and decode speed is complete at every position too, unless the page would
    grow too large.
    """
    free = dataclasses.replace(
        problem,
        budget=dataclasses.replace(
            problem.budget, memory_bytes=None, decode_tokens_per_s=None, ttft_s=None, energy_j=None
        ),
        target_loss=None,
    )
    sliders = sliders_of(problem, _columns(problem, grid))
    complete = True
    rows = _kept(problem, free, grid, sliders, [s for s in sliders if not s.at_least], confidence)
    if len(rows.keys) > MOST_ROWS:
        rows = rows.reduced(problem, sliders, sliders)
        complete = False
    points = bounded(free, points_of(free, grid, rows.keys[rows.order(problem)]), confidence)
    return Explored(points, _fitted(sliders, points), True, complete)


def bounded(problem: Problem, points: Points, confidence: float) -> Points:
    """The points with what each limitable column keeps to with confidence."""
    names = (*LIMITABLE, "loss")
    held = confident_columns(problem, points, names, confidence)
    columns = points.columns | {BOUND + name: column for name, column in held.items()}
    return dataclasses.replace(points, columns=columns)


def only(problem: Problem, points: Points, confidence: float) -> Explored:
    """The same from points already found, where the space is too large to enumerate."""
    rows = _Rows(points.columns, points.keys)
    points = bounded(problem, points.take(rows.order(problem)), confidence)
    usable = [name for name in LIMITABLE if not np.isnan(points.columns[name]).any()]
    sliders = sliders_of(problem, usable)
    return Explored(points, _fitted(sliders, points), False, False)


def can_enumerate(grid: Grid) -> bool:
    """Whether the search itself would look at every point."""
    return grid.size() <= MOST_POINTS


def _fitted(sliders: list[Slider], points: Points) -> list[Slider]:
    return [
        slider.between(
            float(points.columns[BOUND + slider.column].min()),
            float(points.columns[BOUND + slider.column].max()),
        )
        for slider in sliders
    ]


def _columns(problem: Problem, grid: Grid) -> list[str]:
    """Cost columns to compute, none of which is NaN."""
    profile = getattr(problem.cost, "profile", None)
    asked = {limit.column for limit in problem.limits}
    asked |= {objective.column for objective in problem.objectives}
    every = ["memory_bytes", "decode_tokens_per_s", "ttft_s", "energy_per_token_j"]
    if profile is None or profile.energy is None:
        every.remove("energy_per_token_j")
    if grid.size() > ALL_COLUMNS_UP_TO:
        every = [
            name
            for name in every
            if name in asked or name in ("memory_bytes", "decode_tokens_per_s")
        ]
    return every


@dataclasses.dataclass(frozen=True, eq=False)
class _Rows:
    """Columns and keys of points, without their shapes."""

    columns: Columns
    keys: np.ndarray

    def order(self, problem: Problem) -> np.ndarray:
        """Rows in the order in which `query` would choose them."""
        others = [problem.price(self.columns, o) for o in problem.objectives if o != problem.goal]
        goal = problem.price(self.columns, problem.goal)
        return np.lexsort((self.keys, *reversed(others), goal))

    def reduced(self, problem: Problem, sliders: list[Slider], rounded: list[Slider]) -> "_Rows":
        """Without rows that another precedes and equals or betters in every limited column."""
        import moocore

        order = self.order(problem)
        place = np.empty(len(order))
        place[order] = np.arange(len(order))
        levels = [
            slider.level(self.columns[BOUND + slider.column])
            if slider in rounded
            else (-1 if slider.at_least else 1) * self.columns[BOUND + slider.column]
            for slider in sliders
        ]
        kept = moocore.is_nondominated(np.stack([place, *levels], axis=1))
        return self.take(kept)

    def take(self, kept: np.ndarray) -> "_Rows":
        return _Rows({name: column[kept] for name, column in self.columns.items()}, self.keys[kept])

    @classmethod
    def join(cls, parts: "list[_Rows]") -> "_Rows":
        names = parts[0].columns
        return cls(
            {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
            np.concatenate([part.keys for part in parts]),
        )


def _kept(
    problem: Problem,
    free: Problem,
    grid: Grid,
    sliders: list[Slider],
    rounded: list[Slider],
    confidence: float,
) -> _Rows:
    limited = tuple(slider.column for slider in sliders)
    wanted = [slider.column for slider in sliders if slider.column != "loss"]
    wanted += [o.column for o in problem.objectives if o.name not in ("loss", "flops")]
    wanted = list(dict.fromkeys(wanted))

    def chunk(start: int) -> _Rows:
        numbers = np.arange(start, min(start + CHUNK, grid.n_architectures()))
        architectures = grid.architectures(numbers)
        losses = free.loss_columns(architectures)
        parts = []
        for bit, bits in enumerate(grid.bits):
            each = np.full(len(numbers), bits)
            columns = losses | free.cost(architectures, each, wanted)
            keys = numbers * len(grid.bits) + bit
            points = Points(architectures, each, columns, keys)
            held = confident_columns(free, points, limited, confidence)
            columns = columns | {BOUND + name: column for name, column in held.items()}
            parts.append(_Rows(columns, keys))
        rows = _Rows.join(parts)
        open_rows = ~np.isnan(problem.price(rows.columns, problem.goal))
        if BOUND + "memory_bytes" in rows.columns:
            open_rows &= rows.columns[BOUND + "memory_bytes"] <= ceiling(problem)
        rows = rows.take(open_rows)
        return rows.reduced(problem, sliders, rounded)

    def batches() -> Iterator[range]:
        starts = range(0, grid.n_architectures(), CHUNK)
        for first in range(0, len(starts), 16):
            yield starts[first : first + 16]

    held: list[_Rows] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in batches():
            held += pool.map(chunk, batch)
            if sum(len(rows.keys) for rows in held) > _MERGE:
                held = [_Rows.join(held).reduced(problem, sliders, rounded)]
    return _Rows.join(held).reduced(problem, sliders, rounded)
