"""The answer to a question, composed from what the search found.

The pick and how sure it is; what stands beside it; what would change it; the evidence behind it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.units import show_bytes, show_joules, show_seconds, show_speed
from shapelaw.search.answer.answer import Answer, Beside, Candidate, Contrary, candidates
from shapelaw.search.answer.beliefs import Otherwise, otherwise
from shapelaw.search.answer.edges import edges
from shapelaw.search.answer.law_choice import Judges, is_shipped
from shapelaw.search.answer.measurements import measurements
from shapelaw.search.answer.remarks import (
    BLIND_MOST,
    Named,
    baselines,
    blind_axes,
    blind_spots,
    compared,
    depth_warnings,
    extrapolation_warnings,
    gains,
    near_ties,
    rising,
)
from shapelaw.search.answer.sources import Source, sources
from shapelaw.search.answer.space_search import Searched, infeasible
from shapelaw.search.answer.training_cost import (
    TrainingCost,
)
from shapelaw.search.pareto.decision import UNKNOWN, Decision
from shapelaw.search.pareto.exhaustive import (
    points_of,
    search_all,
)
from shapelaw.search.pareto.feasibility import probability
from shapelaw.search.pareto.finalists import (
    POOLED_AGAIN,
    Where,
    best_confident,
    decision,
    pick_key,
)
from shapelaw.search.pareto.front import nondominated
from shapelaw.search.pareto.loss_differences import loss_differences
from shapelaw.search.pareto.problem import LossModel, Points, Problem
from shapelaw.search.pareto.search_finds import Collected
from shapelaw.search.space.space import Space

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload


_FRONT = 2000
"""Points shown of the front of a space too large to enumerate; an exact front is shown whole."""


@dataclasses.dataclass(frozen=True, eq=False)
class Context:
    """What a question is asked about, beside the problem itself."""

    profile: "DeviceProfile"
    workload: "Workload"
    space: Space
    confidence: float
    training: TrainingCost
    judges: Judges


def compose(
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
        collected = search_all(problem, grid, POOLED_AGAIN, collected.screen)
        key, goal = pick_key(problem, collected, searched.points_of, confidence)
        proven = collected.left_out() >= (np.inf if key is None else goal)
        certificate = dataclasses.replace(certificate, exact=proven)
    if key is None:
        raise infeasible(problem, context.space, context.profile, confidence, goal)
    front = searched.points_of(_front_keys(collected, searched.certificate.exact))
    # Margins are the usual ones: the front keeps what the draws themselves let through.
    front = front.take(probability(problem, front) >= confidence)
    where = Where(grid, searched.points_of, searched.coordinates_of)
    found = decision(problem, collected, where, key, confidence, front.keys)
    front = _with_pick(problem, found, front)
    chosen = found.finalists.take(np.array([found.pick]))
    beliefs = otherwise(found) if problem.target_loss is None else []
    groups = {
        "near": near_ties(problem, chosen, searched.points_of, collected, confidence),
        "known": baselines(problem, chosen.architectures[0], grid.bits, confidence),
        "second": []
        if found.runner_up is None or problem.target_loss is not None
        else [Named("runner-up", found.finalists.take(np.array([found.runner_up])))],
        "contrary": [
            Named(each.says, found.finalists.take(np.array([each.row]))) for each in beliefs
        ],
    }
    named = [each for group in groups.values() for each in group]
    best, beside = compared(problem, chosen, named, confidence)
    ends = np.cumsum([0, *(len(group) for group in groups.values())])
    parts = {name: beside[ends[place] : ends[place + 1]] for place, name in enumerate(groups)}
    rivals = found.finalists.take(np.flatnonzero(found.confident))
    relax, binding = gains(problem, collected, searched.points_of, rivals, best, confidence)
    heard = _sources(problem, context, best.architecture, beliefs, found)
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
        sources=heard,
        training=context.training,
        front=candidates(problem, front),
        certificate=certificate,
        relax=relax,
        binding=binding,
        near_ties=parts["near"],
        baselines=parts["known"],
        warnings=_warnings(problem, context, best, heard),
        demoted=context.judges.demoted,
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
            "confident_regret": found.confident_regret,
            "near_best_confident_probability": float(
                np.minimum(found.near_best_confident_probability, most)
            ),
            "runner_up_probability": found.runner_up_probability,
        }
    return {
        "near_best_probability": UNKNOWN,
        "probability_best": UNKNOWN,
        "regret": (UNKNOWN, UNKNOWN),
        "confident_regret": UNKNOWN,
        "near_best_confident_probability": UNKNOWN,
        "runner_up_probability": UNKNOWN,
    }


_LEFT = 0.25
"""Share of a budget that the pick's expected cost has to leave unused, on account of how uncertain
the device is, to be warned of."""


def _warnings(
    problem: Problem, context: Context, best: Candidate, heard: list[Source]
) -> list[str]:
    found = [] if context.judges.reason is None else [context.judges.reason]
    if problem.target_loss is None and is_shipped(problem.law):
        found.append(
            f"the level of the loss is not known: law {problem.law.label} pools other people's "
            "corpora; compare differences"
        )
    found += extrapolation_warnings(problem, best) + depth_warnings(problem, best)
    found += blind_spots(problem, context.space.grid())
    found += rising(problem, best) + list(getattr(problem.law, "remarks", ()))
    if problem.budget.tokens is None and problem.budget.flops is None:
        found.append("training tokens were not given: 1e12 is taken (--tokens or --flops)")
    if problem.limits and not best.intervals:
        found.append(
            f"device {context.profile.name} does not say how uncertain its figures are: budgets "
            "are met by the middle figures, and no probability stands behind that"
        )
    found += _unused(problem, context, best)
    found += _against(heard, problem.law.label)
    return found


def _unused(problem: Problem, context: Context, best: Candidate) -> list[str]:
    """Budgets of which an uncertain device leaves much unused."""
    show = {"memory": show_bytes, "decode": show_speed, "ttft": show_seconds, "energy": show_joules}
    lines = []
    for limit in problem.limits:
        if limit.name not in show or limit.column not in best.intervals:
            continue
        value = float(getattr(best, limit.column))
        low, high = best.intervals[limit.column]
        at_risk = low if limit.at_least else high
        # The interval's worse end beyond the limit: it is the uncertainty that binds.
        beyond = at_risk < limit.value if limit.at_least else at_risk > limit.value
        ratio = float(limit.ratio(np.array([value]))[0])
        if beyond and ratio < 1 - _LEFT:
            say = show[limit.name]
            lines.append(
                f"{limit.name}: {context.profile.name} is known so poorly that a shape expected to "
                f"take {say(value)} may take {say(at_risk)}; measure it there before you train"
                if not limit.at_least
                else f"{limit.name}: {context.profile.name} is known so poorly that a shape "
                f"expected to reach {say(value)} may reach {say(at_risk)}; measure it there "
                "before you train"
            )
    return lines


def _against(heard: list[Source], judge: str) -> list[str]:
    """Laws whose whole interval contradicts the pick on an axis."""
    against: dict[str, list[str]] = {}
    for source in heard:
        if source.source != judge and source.interval[1] < 0:
            axes = against.setdefault(source.source, [])
            if source.axis not in axes:
                axes.append(source.axis)
    return [
        f"law {name} contradicts the pick on {', '.join(axes)}: by it another shape would be better"
        for name, axes in against.items()
    ]


def _sources(
    problem: Problem,
    context: Context,
    pick: Architecture,
    beliefs: list[Otherwise],
    found: Decision,
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
    rivals = [(each, shapes[each.row]) for each in beliefs]
    return sources(laws, pick, rivals, problem.budget)


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
