"""Axes on which the pick stands at the wall of the space, and what one step beyond would give.

A pick at a wall was stopped by the space, not by the budget or the law: the reader has to know.
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


@dataclasses.dataclass(frozen=True)
class Edge:
    """One wall that the pick stands at."""

    axis: str
    value: float
    side: str
    """`most` or `least`: which end of the axis."""
    beyond: float | None
    """The next value; None where no such model exists."""
    loss_difference: float | None
    """Expected loss of the best shape there less the pick's; None where nothing there is feasible
    or the space is too large."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def _space_field(space: Space, axis: str) -> str:
    if axis == "n_blocks":
        return "n_blocks" if space.n_blocks is not None else "depth"
    if axis == "mlp_attention_ratio":
        return "mlp_attention_ratio" if space.mlp_attention_ratio is not None else "d_ff"
    return axis


def _axes(grid: Grid) -> dict[str, tuple[np.ndarray, Callable[[Architecture], float]]]:
    """Axis -> its values and the architecture's own, for axes on which loss or cost depend."""
    found: dict[str, tuple[np.ndarray, Callable[[Architecture], float]]] = {
        "d_model": (grid.d_model, lambda a: a.d_model),
        "n_blocks": (
            grid.blocks,
            (lambda a: a.depth) if grid.blocks_are_depth else (lambda a: a.n_blocks),
        ),
        "sharing": (grid.sharing, lambda a: a.sharing),
        "gqa_group": (grid.gqa_group, lambda a: a.gqa_group),
        "head_dim": (grid.head_dim, lambda a: a.head_dim),
    }
    if grid.ratio is not None:
        found["mlp_attention_ratio"] = (
            grid.ratio,
            # d_ff is rounded: the ratio asked for is the nearest.
            lambda a: float(grid.ratio[np.argmin(np.abs(grid.ratio - a.mlp_attention_ratio))]),  # type: ignore[index]
        )
    if grid.attention_width is not None:
        widths = grid.attention_width
        found["attention_width"] = (
            widths,
            lambda a: float(widths[np.argmin(np.abs(widths - a.query_width / a.d_model))]),
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
    """The walls at which the pick, of this expected loss and speed, stands."""
    grid, a = space.grid(), best
    found = []
    for axis, (values, of) in _axes(grid).items():
        values = np.unique(np.asarray(values, dtype=float))
        if len(values) < 2:
            continue
        value = float(of(a))
        for side, end, inner in (("most", -1, -2), ("least", 0, 1)):
            if abs(value - values[end]) > 1e-9:
                continue
            if axis == "gqa_group" and side == "most" and a.n_kv_heads == 1:
                continue  # one key-value head is the least there is
            if axis in ("gqa_group", "sharing") and side == "least" and value == 1:
                continue  # nothing is shared by less than one
            found.append(
                _edge(problem, space, axis, values, side, end, inner, (loss, speed), confidence)
            )
    return found


def _edge(
    problem: Problem,
    space: Space,
    axis: str,
    values: np.ndarray,
    side: str,
    end: int,
    inner: int,
    pick: tuple[float, float],
    confidence: float,
) -> Edge:
    value = float(values[end])
    beyond = round(2 * value - float(values[inner]), 9)
    if axis in ("head_dim", "sharing", "gqa_group") and side == "most":
        beyond = 2 * value if axis == "head_dim" else beyond
    if beyond <= 0:
        return Edge(axis, value, side, None, None, "no model has less")
    field = _space_field(space, axis)
    whole = axis not in ("mlp_attention_ratio", "attention_width")
    wider = msgspec.structs.replace(space, **{field: int(beyond) if whole else beyond})
    try:
        grid = wider.grid()
    except BadInput:  # nothing is left after divisibility
        return Edge(axis, value, side, beyond, None, "no model divides so")
    if grid.size() > min(MOST_BEYOND, MOST_POINTS):
        return Edge(axis, value, side, beyond, None, "too many shapes to look at")
    key, goal = best_confident(problem, grid, confidence)
    if key is None:
        return Edge(axis, value, side, beyond, None, "nothing there meets the budgets")
    if problem.target_loss is not None:
        gain = -goal / pick[1] - 1
        return Edge(axis, value, side, beyond, None, f"{gain:+.1%} of speed one step beyond")
    difference = goal - pick[0]
    reason = (
        "the budget, not the space, is what stops it"
        if difference >= 0
        else f"the space stops it: {difference:+.4f} nats one step beyond"
    )
    return Edge(axis, value, side, beyond, difference, reason)
