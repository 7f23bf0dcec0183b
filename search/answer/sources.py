"""What each source says about the choices that the pick makes: agreement and contradiction."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.answer.beliefs import Otherwise
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.problem import LossModel


@dataclasses.dataclass(frozen=True)
class Source:
    """One source's word on one axis."""

    axis: str
    says: str
    source: str
    """Who says it."""
    difference: float
    """Nats by which the other side's shape is worse (below 0: better) than the pick."""
    interval: tuple[float, float]
    beyond: float = 0.0
    """How many times beyond what it saw, in size or training, the source is asked; 0 inside."""

    def to_dict(self) -> dict[str, Any]:
        """`axis`, `says` and `from`, and the numbers behind them."""
        return {
            "axis": self.axis,
            "says": self.says,
            "from": self.source,
            "difference": self.difference,
            "interval": list(self.interval),
            "beyond": self.beyond,
        }


def sources(
    laws: Mapping[str, LossModel],
    pick: Architecture,
    rivals: list[tuple[Otherwise, Architecture]],
    budget: Budget,
) -> list[Source]:
    """Each law's difference between the pick and the rival of each disputed belief.

    Each trained as the budget says; the interval holds 90 % of the law's draws.
    """
    if not rivals:
        return []
    shapes = ArchitectureBatch.of([pick, *(rival for _, rival in rivals)])
    tokens = budget.training_tokens(shapes)
    heard = {name: law.loss_draws(shapes, tokens) for name, law in laws.items()}
    beyond = {name: law.extrapolated(shapes, tokens) for name, law in laws.items()}
    found = []
    for row, (belief, _) in enumerate(rivals, start=1):
        for name, draws in heard.items():
            gaps = draws[:, row] - draws[:, 0]
            low, high = (float(end) for end in np.quantile(gaps, [0.05, 0.95]))
            middle = float(gaps.mean())
            factors: dict[str, float] = {}
            for seen in (beyond[name][0], beyond[name][row]):
                for axis in ("N", "tokens"):
                    factors[axis] = max(factors.get(axis, 0.0), seen.get(axis, 0.0))
            far = ", ".join(f"{axis} {factor:.2g}×" for axis, factor in factors.items() if factor)
            found.append(
                Source(
                    axis=belief.axis,
                    says=f"{belief.says.removeprefix('if ')}: the rival shape "
                    f"{'loses' if middle >= 0 else 'gains'} {abs(middle):.3f} nats "
                    f"[{low:+.3f}, {high:+.3f}]" + (f", extrapolated {far}" if far else ""),
                    source=name,
                    difference=middle,
                    interval=(low, high),
                    beyond=max(factors.values()),
                )
            )
    return found
