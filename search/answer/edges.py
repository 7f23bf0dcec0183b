"""Axes on which the pick stands at the wall of the space, and what one step beyond would give.

A pick at a wall was stopped by the space, not by the budget or the law: the reader has to know.
Some walls are the model's own (a block is applied at least once), and some axes the space holds
fixed; they are named too, and told apart.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.pareto.exhaustive import MOST_POINTS
from shapelaw.search.pareto.finalists import best_confident
from shapelaw.search.pareto.problem import Problem
from shapelaw.search.space.grid import Grid
from shapelaw.search.space.space import Space

MOST_BEYOND = 2_000_000
"""Points looked at beyond one wall."""

SPACE, BUDGET, MODEL, FIXED = "space", "budget", "model", "fixed"
"""What a wall is made of: the space stops the pick; the budget or the law would stop it there
anyway; no model goes further; the space holds one value."""


@dataclasses.dataclass(frozen=True)
class Edge:
    """One wall that the pick stands at."""

    axis: str
    value: float
    side: str
    """`most` or `least`: which end of the axis; `only` where the space holds one value."""
    wall: str
    """`space`, `budget`, `model` or `fixed`."""
    beyond: float | None
    """The next value; None where no such model exists or nothing was looked at."""
    loss_difference: float | None
    """Expected loss of the best shape there less the pick's; None where nothing there is feasible
    or it was not looked at."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class _Axis:
    field: str
    """Of the space."""
    values: np.ndarray
    """Rising: those that the rest of the pick's shape leaves possible."""
    value: float
    """The pick's own."""
    following: Callable[[str], float | None]
    """Side -> the next value beyond the wall; None where no model goes further."""
    whole: bool = True
    no_further: str = ""


def _axes(space: Space, grid: Grid, a: Architecture) -> dict[str, _Axis]:
    """Axes on which loss or cost depend."""

    def stepped(values: np.ndarray) -> Callable[[str], float | None]:
        def following(side: str) -> float | None:
            end, inner = (-1, -2) if side == "most" else (0, 1)
            beyond = round(2 * float(values[end]) - float(values[inner]), 9)
            return beyond if beyond > 0 else None

        return following

    def plain(field: str, values: Any, value: float) -> _Axis:
        rising = np.unique(np.asarray(values, dtype=float))
        return _Axis(field, rising, value, stepped(rising), no_further="no model has less")

    blocks = "n_blocks" if space.n_blocks is not None else "depth"
    found = {
        "d_model": plain("d_model", grid.d_model, a.d_model),
        "n_blocks": plain(blocks, grid.blocks, a.depth if grid.blocks_are_depth else a.n_blocks),
    }
    head_dim = plain("head_dim", grid.head_dim, a.head_dim)
    found["head_dim"] = dataclasses.replace(
        head_dim, following=lambda side: a.head_dim * 2 if side == "most" else a.head_dim // 2
    )
    sharing = np.unique(np.asarray(grid.sharing, dtype=float))
    found["sharing"] = _Axis(
        "sharing",
        sharing,
        a.sharing,
        lambda side: float(sharing[-1] + 1) if side == "most" else None,
        no_further="a block is applied at least once",
    )
    divides = [g for g in range(1, a.n_heads + 1) if a.n_heads % g == 0]
    groups = np.unique([g for g in np.asarray(grid.gqa_group).tolist() if g in divides])
    found["gqa_group"] = _Axis(
        "gqa_group",
        groups.astype(float),
        a.gqa_group,
        lambda side: (
            next((float(g) for g in divides if g > groups[-1]), None) if side == "most" else None
        ),
        no_further="one key-value head is the least, one for each head the most",
    )
    if grid.ratio is not None:
        nearest = float(grid.ratio[np.argmin(np.abs(grid.ratio - a.mlp_attention_ratio))])
        ratios = plain("mlp_attention_ratio", grid.ratio, nearest)  # d_ff is rounded
        found["mlp_attention_ratio"] = dataclasses.replace(ratios, whole=False)
    if grid.attention_width is not None:
        widths = grid.attention_width
        own = float(widths[np.argmin(np.abs(widths - a.query_width / a.d_model))])
        found["attention_width"] = dataclasses.replace(
            plain("attention_width", widths, own), whole=False
        )
    return found


def edges(
    problem: Problem,
    space: Space,
    best: Architecture,
    loss: float,
    speed: float,
    confidence: float,
) -> list[Edge]:
    """The walls at which the pick, of this expected loss and speed, stands: those of the space
    first, the model's own and the fixed axes last."""
    grid = space.grid()
    found = []
    for name, axis in _axes(space, grid, best).items():
        if len(axis.values) < 2:
            reason = "the space holds this value alone"
            found.append(Edge(name, axis.value, "only", FIXED, None, None, reason))
            continue
        for side, end in (("most", -1), ("least", 0)):
            if abs(axis.value - axis.values[end]) > 1e-9:
                continue
            beyond = axis.following(side)
            if beyond is None:
                found.append(Edge(name, axis.value, side, MODEL, None, None, axis.no_further))
            else:
                found.append(
                    _edge(problem, space, name, axis, side, beyond, (loss, speed), confidence)
                )
    found += _fixed(grid, best)
    order = (SPACE, BUDGET, MODEL, FIXED)
    return sorted(found, key=lambda edge: order.index(edge.wall))


def _fixed(grid: Grid, a: Architecture) -> list[Edge]:
    """What else the space decides by holding one value."""
    told = []
    if len(grid.bits) == 1:
        reason = "--formats or --bits searches others"
        told.append(Edge("weight_bits", float(grid.bits[0]), "only", FIXED, None, None, reason))
    if len(grid.vocab_size) == 1:
        reason = "the space holds this vocabulary alone"
        told.append(Edge("vocab_size", float(a.vocab_size), "only", FIXED, None, None, reason))
    return told


def _edge(
    problem: Problem,
    space: Space,
    name: str,
    axis: _Axis,
    side: str,
    beyond: float,
    pick: tuple[float, float],
    confidence: float,
) -> Edge:
    def of(wall: str, difference: float | None, reason: str) -> Edge:
        return Edge(name, axis.value, side, wall, beyond, difference, reason)

    step = int(beyond) if axis.whole else beyond
    wider = msgspec.structs.replace(space, **{axis.field: step})
    try:
        grid = wider.grid()
    except BadInput:  # nothing is left after divisibility
        return of(MODEL, None, "no model divides so")
    if grid.size() > min(MOST_BEYOND, MOST_POINTS):
        return of(SPACE, None, "too many shapes beyond to look at")
    key, goal = best_confident(problem, grid, confidence)
    if key is None:
        return of(BUDGET, None, "nothing beyond meets the budgets")
    if problem.target_loss is not None:
        gain = -goal / pick[1] - 1
        return of(SPACE if gain > 0 else BUDGET, None, f"{gain:+.1%} of speed one step beyond")
    difference = goal - pick[0]
    if difference >= 0:
        return of(BUDGET, difference, f"{difference:+.3f} nats one step beyond: no gain")
    return of(SPACE, difference, f"{difference:+.3f} nats one step beyond")
