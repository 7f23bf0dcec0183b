"""One search of a space under budgets: whole where it can be enumerated, else explored."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.scaling import units
from shapelaw.scaling.errors import NoAnswer
from shapelaw.search.pareto.certificate import Certificate
from shapelaw.search.pareto.draw_screen import DrawScreen
from shapelaw.search.pareto.exhaustive import (
    MOST_POINTS,
    Relaxation,
    least_relaxation,
    points_of,
    search_all,
)
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.pareto.search_finds import Collected
from shapelaw.search.space.space import Space

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile


EXPLORED_SECONDS = 10.0
"""For a space too large to enumerate: two threads then take less than 20 s of CPU, answer
included."""


class Infeasible(NoAnswer):
    """Nothing in the space meets the budgets; says what would have to give."""

    def __init__(self, message: str, relaxation: Relaxation) -> None:
        super().__init__(message)
        self.relaxation = relaxation
        self.least_relaxation: dict[str, Any] = dataclasses.asdict(relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """What a search hands to the composing of the answer."""

    collected: Collected
    points_of: Callable[[np.ndarray], Points]
    """Every column of points, by the collected's keys."""
    coordinates_of: Callable[[np.ndarray], np.ndarray]
    """The same as coordinates on the grid."""
    certificate: Certificate


def search_space(
    problem: Problem,
    space: Space,
    device: str,
    workload: str,
    storage: str | None = None,
    seconds: float = EXPLORED_SECONDS,
    seed: int = 0,
    screen: DrawScreen | None = None,
) -> Searched:
    grid = space.grid()
    size = grid.size()
    if size > MOST_POINTS:
        from shapelaw.search.pareto.optuna_search import explore
        from shapelaw.search.pareto.optuna_study import study_name

        name = study_name(problem, space, device, workload)
        return Searched(
            *explore(
                problem,
                grid,
                seconds=seconds,
                seed=seed,
                study_name=name,
                storage=storage,
                screen=screen,
            )
        )
    collected = search_all(problem, grid, screen=screen)
    certificate = Certificate(
        space_size=size,
        exact=True,
        hypervolume_ratio=1.0,
        evaluated=size,
        front_size=len(collected.front),
        feasible=collected.feasible,
    )
    return Searched(
        collected, lambda keys: points_of(problem, grid, keys), grid.coordinates, certificate
    )


def infeasible(
    problem: Problem,
    space: Space,
    profile: "DeviceProfile",
    confidence: float,
    highest: float,
) -> Infeasible:
    """What would have to give, as one line and as numbers."""
    grid = space.grid()
    if grid.size() > MOST_POINTS:
        from shapelaw.search.pareto.optuna_search import sampled_relaxation

        relaxation, how = sampled_relaxation(problem, grid), "about "
    else:
        relaxation, how = least_relaxation(problem, grid), ""
    show = {
        "memory": units.show_bytes,
        "decode": units.show_speed,
        "ttft": units.show_seconds,
        "energy": units.show_joules,
        "target_loss": lambda value: f"{value:.4f} nats/token",
    }
    asked = ", ".join(
        f"{limit.name} {'>=' if limit.at_least else '<='} {show[limit.name](limit.value)}"
        for limit in problem.limits
    )
    alone = " or ".join(
        f"{name} to {how}{show[name](value)}" for name, value in relaxation.alone.items()
    )
    ways = [f"relax {alone}"] if alone else []
    if relaxation.together is not None and len(problem.limits) > 1:
        ways.append(f"make every budget {how}{relaxation.together:.3g} times as generous")
    together = relaxation.together
    if not highest > 0 and together is not None and together <= 1:
        return Infeasible(
            f"nothing in space {space.name} fits {profile.name} with {asked} with probability "
            f"{confidence:g}, though some shapes are expected to: the device's figures are too "
            "uncertain; lower --confidence, relax a budget, or measure the device (calibrate)",
            relaxation,
        )
    if highest > 0:
        return Infeasible(
            f"nothing in space {space.name} fits {profile.name} with {asked} with probability "
            f"{confidence:g}; the likeliest does with {highest:.2g}: lower --confidence, or relax "
            "a budget",
            relaxation,
        )
    return Infeasible(
        f"nothing in space {space.name} fits {profile.name} with {asked}: "
        f"{', or '.join(ways) or 'no relaxing of these budgets helps; try another space'}",
        relaxation,
    )
