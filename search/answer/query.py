"""Query: the best shape for a device and a budget. The one entry to the search side.

`query` takes a device, a law, budgets, a workload and a space; it searches (exactly where the space
can be enumerated), and composes the answer. `answer_command` does the same from the words of the
command line.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling import units
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.answer.answer import Answer, candidates
from shapelaw.search.answer.format_choice import asked_formats
from shapelaw.search.answer.format_search import best_over_formats
from shapelaw.search.answer.law_choice import default_law, opinions
from shapelaw.search.answer.remarks import (
    BLIND_MOST,
    Named,
    blind_axes,
    blind_spots,
    compared,
    extrapolation_warnings,
    familiar,
    gains,
    near_ties,
    rising,
)
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.certificate import Certificate
from shapelaw.search.pareto.collected import Harvest
from shapelaw.search.pareto.confidence import Confidence, confidence, reaching
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.device_memory import within_device
from shapelaw.search.pareto.exhaustive import (
    MOST_POINTS,
    Relaxation,
    least_relaxation,
    points_of,
    search_all,
)
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import LossModel, Points, Problem, parse_objectives
from shapelaw.search.space.space import Space, load_space

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload

__all__ = ["Budget", "Infeasible", "answer_command", "feasible_architectures", "query"]

_RIVALS = 4096
"""Good points judged by the law's draws."""

_FRONT = 2000
"""Points shown of the front of a space too large to enumerate; an exact front is shown whole."""

_SPACES = {"phone": "phone", "board": "phone", "laptop": "laptop", "cpu": "laptop", "gpu": "gpu"}
"""Kind of device -> preset searched where the user names no space."""


class Infeasible(NoAnswer):
    """Nothing in the space meets the budgets; says what would have to give."""

    def __init__(self, message: str, relaxation: Relaxation) -> None:
        super().__init__(message)
        self.relaxation = relaxation
        self.least_relaxation: dict[str, Any] = dataclasses.asdict(relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """What a search hands to the composing of the answer."""

    harvest: Harvest
    points_of: Callable[[np.ndarray], Points]
    """Every column of points, by the harvest's keys."""
    coordinates_of: Callable[[np.ndarray], np.ndarray]
    """The same as coordinates on the grid."""
    certificate: Certificate


def default_space(device: "DeviceProfile", law: LossModel) -> Space:
    """The preset for the kind of device; around what it saw for a law of very small models."""
    seen = getattr(law, "range", {}).get("N")
    if seen is not None and seen[1] < 1e7:
        return Space.around(law).with_bits(_stored_bits(device, 8.0))
    space = load_space(_SPACES[device.kind])
    return space.with_bits(_stored_bits(device, float(space.grid().bits[0])))


def _stored_bits(device: "DeviceProfile", usual: float) -> tuple[float, ...]:
    """The usual precision where the device's engine stores it, else the nearest that it does."""
    known = [float(bits) for bits in device.weights]
    if not known or usual in known:
        return (usual,)
    return (min(known, key=lambda bits: (abs(bits - usual), -bits)),)


def query(
    device: "DeviceProfile | str",
    law: LossModel | str | None = None,
    budget: Budget | None = None,
    workload: "Workload | str" = "chat",
    space: Space | str | None = None,
    *,
    formats: str | tuple[str, ...] | None = None,
    objectives: str | tuple[str, ...] | None = None,
    target_loss: float | None = None,
    measure: int = 0,
    storage: str | None = None,
    seconds: float = 25.0,
    seed: int = 0,
) -> Answer:
    """The best shape of the space on the device under the budgets.

    Args:
        law: where none is named, `reference` inside what it saw, else `evidence`.
        formats: weight formats to search with the shape, such as `q8_0,q4_k_m`: each with the
            bytes of its file and its price in loss. Without them the engine's usual format at
            the space's bits.
        objectives: names among problem.OBJECTIVES that span the front; loss is always one.
        target_loss: reach this loss (nats per token) and be as fast as possible, instead of the
            least loss.
        measure: time this many of the best candidates on this machine's own engine.
        storage: an Optuna storage URL that keeps the study of the answer.
        seconds: how long a space too large to enumerate may be explored.

    Raises:
        BadInput: a name, a budget or a file that cannot be used.
        Infeasible: no point of the space meets the budgets.
    """
    budget = budget or Budget()
    profile, judge, work, where = _resolve(device, law, workload, space, budget)
    budget = within_device(budget, profile)
    if budget.bits is not None:
        where = where.with_bits(budget.bits)
    if target_loss is not None and not 0 < target_loss < np.inf:
        raise BadInput(f"target_loss = {target_loss}: nats per token, above 0, are needed")
    chosen = parse_objectives(objectives)
    if target_loss is not None and all(o.name != "decode" for o in chosen):
        chosen = parse_objectives((*(o.name for o in chosen), "decode"))

    def answered(weight_format: Mix | None) -> Answer:
        cost = DeviceCost(profile, work, weight_format)
        believed, space = judge, where
        if weight_format is not None:
            believed = PricedLaw(judge, weight_format, public_format_prices())
            space = where.with_bits((nominal_bits(weight_format),))
        problem = Problem(believed, cost, budget, chosen, target_loss)
        _check_energy(problem, profile)
        searched = _search(problem, space, profile.name, work.name, storage, seconds, seed)
        if not searched.harvest.feasible:
            raise _infeasible(problem, space, profile)
        return _compose(problem, profile, work, space, searched, measure, storage, law is not None)

    searched_formats = asked_formats(formats, budget.bits, profile)
    if not searched_formats:
        return answered(None)
    return best_over_formats(searched_formats, answered)


def _resolve(
    device: Any, law: Any, workload: Any, space: Any, budget: Budget
) -> "tuple[DeviceProfile, LossModel, Workload, Space]":
    """Names to things."""
    if isinstance(device, str):
        from shapelaw.search.devices.catalogue import load_device

        device = load_device(device)
    if isinstance(space, str):
        space = load_space(space)
    if law is None:
        law = default_law(budget, space)
    elif isinstance(law, str):
        from shapelaw.results.shipped_laws import load_law

        law = load_law(law)
    if isinstance(workload, str):
        from shapelaw.search.workload import load_workload

        workload = load_workload(workload)
    if space is None:
        space = default_space(device, law)
    return device, law, workload, space


def _check_energy(problem: Problem, profile: "DeviceProfile") -> None:
    """Energy asked of a device whose energy nobody measured cannot be answered."""
    asked = {limit.column for limit in problem.limits} | {o.column for o in problem.objectives}
    if "energy_per_token_j" in asked and profile.energy is None:
        raise BadInput(
            f"energy: device {profile.name} has no energy figures; leave energy out, or "
            "add an [energy] table to its profile"
        )


def _search(
    problem: Problem,
    space: Space,
    device: str,
    workload: str,
    storage: str | None = None,
    seconds: float = 25.0,
    seed: int = 0,
) -> Searched:
    grid = space.grid()
    size = grid.size()
    if size > MOST_POINTS:
        from shapelaw.search.pareto.optuna_search import explore
        from shapelaw.search.pareto.optuna_study import study_name

        name = study_name(problem, space, device, workload)
        return Searched(
            *explore(problem, grid, seconds=seconds, seed=seed, study_name=name, storage=storage)
        )
    harvest = search_all(problem, grid)
    certificate = Certificate(
        space_size=size,
        exact=True,
        hypervolume_ratio=1.0,
        evaluated=size,
        front_size=len(harvest.front),
        feasible=harvest.feasible,
    )
    return Searched(
        harvest, lambda keys: points_of(problem, grid, keys), grid.coordinates, certificate
    )


def _infeasible(problem: Problem, space: Space, profile: "DeviceProfile") -> Infeasible:
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
    return Infeasible(
        f"nothing in space {space.name} fits {profile.name} with {asked}: "
        f"{', or '.join(ways) or 'no relaxing of these budgets helps; try another space'}",
        relaxation,
    )


def _compose(
    problem: Problem,
    profile: "DeviceProfile",
    work: "Workload",
    space: Space,
    searched: Searched,
    measure: int,
    storage: str | None,
    law_named: bool,
) -> Answer:
    harvest = searched.harvest
    keys = harvest.front.keys
    if not searched.certificate.exact:
        keys = _thinned(keys)
    front = searched.points_of(keys)
    best_key = int(front.keys[problem.best_of(front)])
    rivals = searched.points_of(np.unique(np.append(harvest.pool(_RIVALS), [best_key, *keys])))
    pick = int(np.searchsorted(rivals.keys, best_key))
    chosen = rivals.take(np.array([pick]))
    sure = _sureness(problem, rivals, pick, chosen)
    if blind_axes(problem.law, space.grid()):
        # A probability that is not known stays so.
        sure = dataclasses.replace(
            sure, probability_best=float(np.minimum(sure.probability_best, BLIND_MOST))
        )
    near = near_ties(problem, chosen, searched.points_of, harvest)
    known = familiar(problem, chosen.architectures[0], space.grid().bits)
    second = (
        []
        if sure.runner_up is None
        else [Named("runner-up", rivals.take(np.array([sure.runner_up])))]
    )
    best, beside = compared(problem, chosen, [*near, *known, *second])
    relax, binding = gains(problem, harvest, rivals, best)
    warnings = [
        *extrapolation_warnings(problem, best),
        *blind_spots(problem, space.grid()),
        *rising(problem, best),
        *getattr(problem.law, "remarks", ()),
    ]
    if problem.budget.tokens is None and problem.budget.flops is None:
        warnings.append("training tokens were not given: 1e12 is taken (--tokens or --flops)")
    answer = Answer(
        problem=problem,
        device=profile,
        workload=work,
        space=space,
        best=best,
        probability_best=sure.probability_best,
        runner_up=beside[-1].candidate if second else None,
        runner_up_probability=sure.runner_up_probability,
        regret=sure.regret,
        front=candidates(problem, front),
        certificate=searched.certificate,
        relax=relax,
        binding=binding,
        near_ties=beside[: len(near)],
        familiar=beside[len(near) : len(near) + len(known)],
        warnings=warnings,
        storage=storage,
        front_points=front,
        front_coordinates=searched.coordinates_of(keys),
    )
    answer = dataclasses.replace(answer, opinions=opinions(answer, law_named))
    if measure:
        from shapelaw.search.answer.measured import measured

        answer = measured(answer, rivals, measure)
    if storage is not None:
        answer.study  # noqa: B018  # written now: it is what the storage is for
    return answer


def _thinned(keys: np.ndarray) -> np.ndarray:
    """Front points spread evenly, both ends included: fine steps can make a front of ten thousands,
    each hardly another model than the next."""
    return keys[np.unique(np.linspace(0, len(keys) - 1, _FRONT).astype(int))]


def _sureness(problem: Problem, rivals: Points, pick: int, chosen: Points) -> Confidence:
    """How sure the pick is: of being best, or of reaching the loss it was chosen to reach."""
    if problem.target_loss is None:
        return confidence(problem, rivals, pick)
    return Confidence(
        probability_best=reaching(problem, chosen),
        runner_up=None,
        runner_up_probability=0.0,
        regret=(0.0, 0.0),
    )


def answer_command(
    device: str,
    *,
    law: str | None = None,
    memory: float | str | None = None,
    decode: float | str | None = None,
    ttft: float | str | None = None,
    energy: float | str | None = None,
    tokens: float | str | None = None,
    flops: float | str | None = None,
    bits: str | None = None,
    formats: str | None = None,
    workload: str = "chat",
    space: str | None = None,
    objectives: str | None = None,
    target_loss: float | None = None,
    measure: int | None = None,
    storage: str | None = None,
) -> Answer:
    """`query` in the command line's words. Raises what `query` raises."""
    budget = Budget(
        memory_bytes=memory,
        decode_tokens_per_s=decode,
        ttft_s=ttft,
        energy_j=energy,
        tokens=tokens,
        flops=flops,
        bits=bits,
    )
    return query(
        device,
        law,
        budget,
        workload,
        space,
        formats=formats,
        objectives=objectives,
        target_loss=target_loss,
        measure=measure or 0,
        storage=storage,
    )


def feasible_architectures(
    law: LossModel,
    *,
    device: "DeviceProfile | str",
    memory: Any = None,
    decode: Any = None,
    workload: "Workload | str" = "chat",
    space: Space | str | None = None,
    tokens: float | str | None = None,
    most: int = 512,
) -> list[Architecture]:
    """Good shapes that fit the device and budgets: what further runs should teach the law about.

    Raises:
        BadInput, Infeasible: as `query`.
    """
    budget = Budget(memory_bytes=memory, decode_tokens_per_s=decode, tokens=tokens)
    profile, judge, work, where = _resolve(device, law, workload, space, budget)
    budget = within_device(budget, profile)
    problem = Problem(judge, DeviceCost(profile, work), budget, parse_objectives(None))
    searched = _search(problem, where, profile.name, work.name)
    if not searched.harvest.feasible:
        raise _infeasible(problem, where, profile)
    batch = searched.points_of(searched.harvest.pool(most)).architectures
    return list(dict.fromkeys(batch[row] for row in range(len(batch))))
