"""What the pick rests on: beliefs about shape that the evidence leaves open, and what would be best
if each were settled the other way.

A belief is a side of one axis (shared blocks, a deep stack, few key-value heads, ...). In each draw
of the law the best finalist of the pick's side meets the best of the other; where the other wins,
the draw contradicts the belief.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.decision import LEAST_DRAWS, Decision

APART = 1.5
"""Two values of a ratio axis are on different sides when they are this many times apart."""

DISPUTED = 0.02
"""Share of the draws that have to contradict a belief for it to be called disputed."""

MOST = 5


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of shape that beliefs are about."""

    name: str
    value: Callable[[ArchitectureBatch], np.ndarray]
    more: str
    """How a person says that the other side has more of it."""
    less: str


AXES = (
    Axis("sharing", lambda a: np.asarray(a.sharing), "more sharing", "less sharing"),
    Axis("depth", lambda a: np.asarray(a.depth), "a deeper stack", "a shallower stack"),
    Axis(
        "mlp_attention_ratio",
        lambda a: np.asarray(a.mlp_attention_ratio),
        "a larger share for the MLP",
        "a larger share for attention",
    ),
    Axis(
        "gqa_group",
        lambda a: np.asarray(a.gqa_group),
        "fewer key-value heads",
        "more key-value heads",
    ),
)


@dataclasses.dataclass(frozen=True)
class Otherwise:
    """A belief settled against the pick."""

    axis: str
    says: str
    """Such as `if sharing does not help`."""
    probability: float
    """Share of the draws in which the other side holds the better shape."""
    row: int
    """Of the finalists: the shape with the least expected loss over those draws."""
    gain: float
    """Nats by which it beats the pick, expected over those draws."""
    cost: float
    """Nats by which it falls behind the pick, expected over all draws."""


def otherwise(decision: Decision) -> list[Otherwise]:
    """The disputed beliefs, the most disputed first."""
    losses = decision.joint.losses
    if len(losses) < LEAST_DRAWS:
        return []
    shapes, pick = decision.finalists.architectures, decision.pick
    rows = np.flatnonzero(decision.confident)
    mine = losses[:, pick]
    found = []
    for axis in AXES:
        values = axis.value(shapes).astype(float)
        own = values[pick]
        for more in (False, True):
            side = values >= own * APART if more else values <= own / APART
            if axis.name == "sharing":
                side = values > own if more else (values == 1) & (own > 1)
            there, here = rows[side[rows]], rows[~side[rows]]
            if not len(there) or not len(here):
                continue
            wins = losses[:, there].min(axis=1) < losses[:, here].min(axis=1)
            share = float(wins.mean())
            if share < DISPUTED:
                continue
            means = losses[np.ix_(wins, there)].mean(axis=0)
            best = int(there[np.argmin(means)])
            gain = float(mine[wins].mean() - means.min())
            if gain <= 0:  # a better one on the pick's own side was beaten, not the pick
                continue
            found.append(
                Otherwise(
                    axis=axis.name,
                    says=_says(axis, more),
                    probability=share,
                    row=best,
                    gain=gain,
                    cost=float((losses[:, best] - mine).mean()),
                )
            )
    found.sort(key=lambda each: -each.probability)
    return found[:MOST]


def _says(axis: Axis, more: bool) -> str:
    if axis.name == "sharing":
        return "if more sharing helps" if more else "if sharing does not help"
    words = axis.more if more else axis.less
    return f"if {words} {'are' if words.endswith('heads') else 'is'} better"
