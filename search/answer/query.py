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
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.answer.answer import Answer, Beside, Contrary, candidates
from shapelaw.search.answer.beliefs import Otherwise, otherwise
from shapelaw.search.answer.edges import edges
from shapelaw.search.answer.format_choice import asked_formats
from shapelaw.search.answer.format_search import best_over_formats
from shapelaw.search.answer.law_choice import Judges, default_law, demotion, is_shipped
from shapelaw.search.answer.measurements import measurements
from shapelaw.search.answer.remarks import (
    BLIND_MOST,
    Named,
    baselines,
    blind_axes,
    blind_spots,
    compared,
    extrapolation_warnings,
    gains,
    near_ties,
    rising,
)
from shapelaw.search.answer.sources import Source, sources
from shapelaw.search.answer.training_cost import (
    DEFAULT_ACCELERATOR,
    UTILISATION,
    TrainingCost,
    training_cost,
)
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.pareto.budget import DEFAULT_TOKENS, Budget
from shapelaw.search.pareto.certificate import Certificate
from shapelaw.search.pareto.decision import UNKNOWN, Decision
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.device_memory import within_device
from shapelaw.search.pareto.exhaustive import (
    MOST_POINTS,
    Relaxation,
    least_relaxation,
    points_of,
    search_all,
)
from shapelaw.search.pareto.feasibility import probability
from shapelaw.search.pareto.finalists import (
    POOLED_AGAIN,
    best_confident,
    decision,
    pick_key,
    prepared,
)
from shapelaw.search.pareto.front import nondominated
from shapelaw.search.pareto.loss_differences import loss_differences
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import LossModel, Points, Problem, parse_objectives
from shapelaw.search.pareto.search_finds import Collected
from shapelaw.search.space.space import Space, load_space

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload

__all__ = ["Budget", "Infeasible", "answer_command", "feasible_architectures", "query"]

CONFIDENCE = 0.9
"""Probability with which a pick meets every budget, where none is asked for."""

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

    collected: Collected
    points_of: Callable[[np.ndarray], Points]
    """Every column of points, by the collected's keys."""
    coordinates_of: Callable[[np.ndarray], np.ndarray]
    """The same as coordinates on the grid."""
    certificate: Certificate


def default_space(device: "DeviceProfile") -> Space:
    """The preset for the kind of device, whatever the law: shapes are for the device."""
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
    confidence: float = CONFIDENCE,
    accelerator: str = DEFAULT_ACCELERATOR,
    utilisation: float = UTILISATION,
    measure: int = 0,
    storage: str | None = None,
    seconds: float = 25.0,
    seed: int = 0,
) -> Answer:
    """The shape of the space to expect most of, on the device under the budgets.

    The pick has the least expected loss over the law's draws among the shapes that meet every
    budget, by the device's draws, with probability `confidence`.

    Args:
        law: where none is named, the package's own pooled evidence. A law asked more than
            law_choice.FACTOR times beyond its runs is demoted: it is heard, another judges.
        formats: weight formats to search with the shape, such as `q8_0,q4_k_m`: each with the
            bytes of its file and its price in loss. Without them the engine's usual format at
            the space's bits.
        objectives: names among problem.OBJECTIVES that span the front; loss is always one.
        target_loss: reach this loss (nats per token) with that probability and be as fast as
            possible, instead of the least loss. Needs a law fitted to runs of one's own: no other
            knows the level of the loss on one's corpus.
        confidence: above 0 and below 1.
        accelerator: what the model is trained on, a catalogued device; for the cost of training.
        utilisation: share of its peak that training reaches.
        measure: time this many of the best candidates on this machine's own engine.
        storage: an Optuna storage URL that keeps the study of the answer.
        seconds: how long a space too large to enumerate may be explored.

    Raises:
        BadInput: a name, a budget or a file that cannot be used.
        Infeasible: no point of the space meets the budgets with that probability.
    """
    budget = budget or Budget()
    profile, named, work, where = _resolve(device, law, workload, space, budget)
    if not 0 < confidence < 1:
        raise BadInput(f"confidence = {confidence}: a probability above 0 and below 1 is needed")
    training = training_cost(accelerator, utilisation)
    budget = within_device(budget, profile)
    if budget.bits is not None:
        where = where.with_bits(budget.bits)
    if target_loss is not None and not 0 < target_loss < np.inf:
        raise BadInput(f"target_loss = {target_loss}: nats per token, above 0, are needed")
    if target_loss is not None and is_shipped(named):
        raise BadInput(
            f"target_loss: law {named.label} does not know the level of the loss on your corpus; "
            "fit a law to runs of your own and name it with --law"
        )
    chosen = parse_objectives(objectives)
    if target_loss is not None and all(o.name != "decode" for o in chosen):
        chosen = parse_objectives((*(o.name for o in chosen), "decode"))

    mixes = asked_formats(formats, budget.bits, profile)

    def answered(judges: Judges) -> Answer:
        if not mixes:
            return of_format(judges, None)
        return best_over_formats(mixes, lambda mix: of_format(judges, mix))

    def of_format(judges: Judges, mix: Mix | None) -> Answer:
        believed, shapes = judges.judge, where
        if mix is not None:
            believed = PricedLaw(believed, mix, public_format_prices())
            shapes = where.with_bits((nominal_bits(mix),))
        asked = Problem(believed, DeviceCost(profile, work, mix), budget, chosen, target_loss)
        _check_energy(asked, profile)
        problem = prepared(asked, shapes.grid(), confidence)
        searched = _search(problem, shapes, profile.name, work.name, storage, seconds, seed)
        context = Context(profile, work, shapes, confidence, training, judges)
        return _compose(problem, context, searched, measure, storage)

    tokens = float(budget.tokens or DEFAULT_TOKENS) if budget.flops is None else 0.0
    reason = None if law is None or is_shipped(named) else demotion(named, 0.0, tokens)
    if reason is None:
        answer = answered(Judges(named))
        if law is None or is_shipped(named):
            return answer
        size = float(answer.best.architecture.non_embedding_parameters)
        reason = demotion(named, size, answer.best.training_tokens)
        if reason is None:
            return answer
    if target_loss is not None:
        raise BadInput(f"target_loss: {reason}; no other law knows the level of your corpus")
    return answered(Judges(default_law(budget, where), named, reason))


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """What a question is asked about, beside the problem itself."""

    profile: "DeviceProfile"
    workload: "Workload"
    space: Space
    confidence: float
    training: TrainingCost
    judges: Judges


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
        space = default_space(device)
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
    collected = search_all(problem, grid)
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


def _infeasible(
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


def _compose(
    problem: Problem,
    context: Context,
    searched: Searched,
    measure: int,
    storage: str | None,
) -> Answer:
    collected, grid, confidence = searched.collected, context.space.grid(), context.confidence
    key, goal = pick_key(problem, collected, searched.points_of, confidence)
    certificate = searched.certificate
    if certificate.exact and collected.left_out() < (np.inf if key is None else goal):
        # A point that was not kept might be better: keep more of them.
        collected = search_all(problem, grid, POOLED_AGAIN)
        key, goal = pick_key(problem, collected, searched.points_of, confidence)
        proven = collected.left_out() >= (np.inf if key is None else goal)
        certificate = dataclasses.replace(certificate, exact=proven)
    if key is None:
        raise _infeasible(problem, context.space, context.profile, confidence, goal)
    front = searched.points_of(_front_keys(collected, searched.certificate.exact))
    # Margins are the usual ones: the front keeps what the draws themselves let through.
    front = front.take(probability(problem, front) >= confidence)
    found = decision(problem, collected, searched.points_of, key, confidence, front.keys)
    front = _with_pick(problem, found, front)
    chosen = found.finalists.take(np.array([found.pick]))
    beliefs = otherwise(found) if problem.target_loss is None else []
    groups = {
        "near": near_ties(problem, chosen, searched.points_of, collected),
        "known": baselines(problem, chosen.architectures[0], grid.bits),
        "second": []
        if found.runner_up is None or problem.target_loss is not None
        else [Named("runner-up", found.finalists.take(np.array([found.runner_up])))],
        "contrary": [
            Named(each.says, found.finalists.take(np.array([each.row]))) for each in beliefs
        ],
    }
    best, beside = compared(problem, chosen, [each for group in groups.values() for each in group])
    ends = np.cumsum([0, *(len(group) for group in groups.values())])
    parts = {name: beside[ends[place] : ends[place + 1]] for place, name in enumerate(groups)}
    rivals = found.finalists.take(np.flatnonzero(found.confident))
    relax, binding = gains(problem, collected, rivals, best)
    answer = Answer(
        problem=problem,
        device=context.profile,
        workload=context.workload,
        space=context.space,
        best=best,
        confidence=confidence,
        budget_probability=found.budget_probability,
        **_sureness(problem, context.space, found),
        runner_up=parts["second"][0].candidate if parts["second"] else None,
        equal_flops=None,
        equal_tokens=None,
        otherwise=[
            Contrary(belief=belief, candidate=each.candidate)
            for belief, each in zip(beliefs, parts["contrary"], strict=True)
        ],
        measurements=measurements(problem, found, beliefs, context.training, confidence),
        edges=edges(
            problem,
            context.space,
            best.architecture,
            best.loss,
            best.decode_tokens_per_s,
            confidence,
        )
        if certificate.exact
        else [],
        sources=_sources(problem, context, best.architecture, beliefs, found, best.training_tokens),
        training=context.training,
        front=candidates(problem, front),
        certificate=certificate,
        relax=relax,
        binding=binding,
        near_ties=parts["near"],
        baselines=parts["known"],
        warnings=_warnings(problem, context, best),
        storage=storage,
        front_points=front,
        front_coordinates=searched.coordinates_of(front.keys),
    )
    answer = _beside_equal_training(answer, context, certificate.exact)
    if measure:
        from shapelaw.search.answer.measured import measured

        answer = measured(answer, rivals, measure)
    if storage is not None:
        answer.study  # noqa: B018  # written now: it is what the storage is for
    return answer


def _front_keys(collected: Collected, exact: bool) -> np.ndarray:
    """The front's keys. Of an explored front, a spread with both ends: fine steps can make a front
    of ten thousands, each hardly another model than the next."""
    keys = collected.front.keys
    if exact or not len(keys):
        return keys
    return keys[np.unique(np.linspace(0, len(keys) - 1, _FRONT).astype(int))]


def _with_pick(problem: Problem, found: Decision, front: Points) -> Points:
    """The front with the pick on it, without what the pick dominates."""
    pick = found.finalists.take(np.array([found.pick]))
    together = Points.join([front, pick]) if not np.isin(pick.keys, front.keys)[0] else front
    kept = nondominated(problem.objective_rows(together.columns), together.keys)
    return together.take(kept)


def _sureness(problem: Problem, space: Space, found: Decision) -> dict[str, Any]:
    """How sure the pick is: of being best, or of reaching the loss it was chosen to reach."""
    if problem.target_loss is None:
        # A law blind to an axis cannot be sure; a probability that is not known stays so.
        most = BLIND_MOST if blind_axes(problem.law, space.grid()) else 1.0
        return {
            "near_best_probability": float(np.minimum(found.near_best_probability, most)),
            "probability_best": float(np.minimum(found.probability_best, most)),
            "regret": found.regret,
            "runner_up_probability": found.runner_up_probability,
        }
    return {
        "near_best_probability": UNKNOWN,
        "probability_best": UNKNOWN,
        "regret": (UNKNOWN, UNKNOWN),
        "runner_up_probability": UNKNOWN,
    }


def _warnings(problem: Problem, context: Context, best: Any) -> list[str]:
    found = [] if context.judges.reason is None else [context.judges.reason]
    found += extrapolation_warnings(problem, best) + blind_spots(problem, context.space.grid())
    found += rising(problem, best) + list(getattr(problem.law, "remarks", ()))
    if problem.budget.tokens is None and problem.budget.flops is None:
        found.append("training tokens were not given: 1e12 is taken (--tokens or --flops)")
    if problem.limits and not best.intervals:
        found.append(
            f"device {context.profile.name} does not say how uncertain its figures are: budgets "
            "are met by the middle figures, and no probability stands behind that"
        )
    return found


def _sources(
    problem: Problem,
    context: Context,
    pick: Architecture,
    beliefs: list[Otherwise],
    found: Decision,
    tokens: float,
) -> list[Source]:
    """What the judge, a demoted law and the other shipped laws say about the disputed beliefs."""
    from shapelaw.results.shipped_laws import law_names, load_law

    laws: dict[str, LossModel] = {problem.law.label: problem.law}
    if context.judges.demoted is not None:
        laws[context.judges.demoted.label] = context.judges.demoted
    for name in law_names():
        if name not in laws:
            laws[name] = load_law(name)
    shapes = found.finalists.architectures
    return sources(laws, pick, [(each, shapes[each.row]) for each in beliefs], tokens)


def _beside_equal_training(answer: Answer, context: Context, exact: bool) -> Answer:
    """The answer with the best shape at equal FLOPs (or tokens, where FLOPs were the budget)."""
    problem, best = answer.problem, answer.best
    if problem.target_loss is not None or not exact:
        return answer
    budget = problem.budget
    if budget.flops is None:
        other = dataclasses.replace(budget, tokens=None, flops=best.training_flops)
    else:
        other = dataclasses.replace(budget, flops=None, tokens=best.training_tokens)
    asked = dataclasses.replace(problem, budget=other)
    grid = context.space.grid()
    key, _ = best_confident(asked, grid, answer.confidence)
    if key is None:
        return answer
    point = points_of(asked, grid, np.array([key]))
    candidate = candidates(asked, point)[0]
    pair = ArchitectureBatch.of([best.architecture, candidate.architecture])
    tokens = np.array([best.training_tokens, candidate.training_tokens])
    gap = loss_differences(problem.law, Points(pair, np.zeros(2), {}, np.arange(2)), tokens)[0]
    beside = Beside(
        why="equal FLOPs" if budget.flops is None else "equal tokens",
        candidate=candidate,
        loss_difference=gap.middle,
        loss_difference_interval=gap.interval,
        probability_better=gap.probability_lower,
    )
    if budget.flops is None:
        return dataclasses.replace(answer, equal_flops=beside)
    return dataclasses.replace(answer, equal_tokens=beside)


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
    confidence: float = CONFIDENCE,
    accelerator: str = DEFAULT_ACCELERATOR,
    utilisation: float = UTILISATION,
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
        confidence=confidence,
        accelerator=accelerator,
        utilisation=utilisation,
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
    asked = Problem(judge, DeviceCost(profile, work), budget, parse_objectives(None))
    problem = prepared(asked, where.grid(), CONFIDENCE)
    searched = _search(problem, where, profile.name, work.name)
    if not searched.collected.feasible:
        raise _infeasible(problem, where, profile, CONFIDENCE, 0.0)
    batch = searched.points_of(searched.collected.pool(most)).architectures
    return list(dict.fromkeys(batch[row] for row in range(len(batch))))
