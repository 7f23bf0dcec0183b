"""A page's question in its parts: weight formats and their spaces, and the stops of training, of
batch and context, and of every budget.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix, mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.format_choice import ServedFormat, eight_bits_beside
from shapelaw.search.answer.law_choice import default_law, demotion, is_shipped
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.page.answer_grid import Branch
from shapelaw.search.page.stops import (
    BUDGETS,
    BudgetStops,
    batch_stops,
    budget_stops,
    context_stops,
    training_stops,
    useful_span,
)
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.expected_loss import ExpectedLoss
from shapelaw.search.pareto.finalists import prepared
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import OBJECTIVES, LossModel, Points, Problem
from shapelaw.search.space.grid import Grid

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload

_MOST_COSTED = 2_500_000
"""Shapes × workloads that are costed; larger spaces get fewer workloads."""


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """One stop of training: the same question with other tokens (or FLOPs)."""

    budget: Budget
    problems: list[Problem]
    """Of each format, with the law's expected loss."""


@dataclasses.dataclass(frozen=True, eq=False)
class Serving:
    """One stop of batch and context."""

    batch: int
    context: int | None
    workload: "Workload"
    costs: list[DeviceCost]
    """Of each format, by the engine that reads it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Format:
    """A weight format, the device with the engine that reads it, and whether it was asked for."""

    mix: Mix
    device: "DeviceProfile"
    asked: bool = True


def searched_formats(answer: Answer) -> tuple[list[Format | None], LossModel, list[Grid]]:
    """Each weight format (None: by bits alone), the law without prices, and the spaces."""
    judge = answer.problem.law
    while isinstance(judge, ExpectedLoss | PricedLaw):
        judge = judge.law
    if not answer.formats:
        return [None], judge, [answer.space.grid()]
    formats = [
        Format(mix(each.format, each.family), _with_engine(answer, each.engine))
        for each in answer.formats
    ]
    # What `query` asks beside the others where none of them may be picked.
    wide = eight_bits_beside(ServedFormat(formats[0].mix, formats[0].device))
    if all(each.mix != wide.mix for each in formats):
        formats.append(Format(wide.mix, wide.device, asked=False))
    spaces = [answer.space.with_bits((nominal_bits(each.mix),)) for each in formats]
    return [*formats], judge, [each.grid() for each in spaces]


def _with_engine(answer: Answer, engine: str) -> "DeviceProfile":
    from shapelaw.search.devices.catalogue import with_each_engine

    usual = answer.device
    if engine == usual.engine:
        return usual
    return next(each for each in with_each_engine(usual.name) if each.engine == engine)


def space_points(grid: Grid) -> Points:
    """Every shape of a space at each of its precisions, without columns."""
    numbers = np.arange(grid.n_architectures())
    architectures = grid.architectures(np.repeat(numbers, len(grid.bits)))
    bits = np.tile(grid.bits, len(numbers))
    return Points(architectures, bits, {}, np.arange(len(bits)))


def found_points(answer: Answer) -> Points:
    """What a search of a space too large to enumerate kept."""
    some = (answer.best, *answer.front, *(each.candidate for each in answer.near_ties))
    shown = list(dict.fromkeys((each.architecture, each.weight_bits) for each in some))
    batch = ArchitectureBatch.of(architecture for architecture, _ in shown)
    return Points(batch, np.array([bits for _, bits in shown]), {}, np.arange(len(shown)))


def training_questions(
    answer: Answer, judge: LossModel, formats: Sequence[Format | None], grids: Sequence[Grid]
) -> tuple[list[Training], int]:
    """The question at every stop of training that the same law judges, and which is the one asked.

    Args:
        judge: the law, without prices of formats.
        formats, grids: as `searched_formats` has them.
    """
    problem = answer.problem
    budgets, asked = training_stops(problem.budget, answer.best.training_tokens)
    kept = [
        number
        for number, budget in enumerate(budgets)
        if number == asked or _same_judge(answer, judge, budget)
    ]
    found = []
    for number in kept:
        budget = problem.budget if number == asked else budgets[number]
        problems = []
        for each, grid in zip(formats, grids, strict=True):
            law = judge if each is None else PricedLaw(judge, each.mix, public_format_prices())
            cost = _cost(answer, each, answer.workload)
            unlimited = Problem(law, cost, _training_alone(budget), problem.objectives)
            expected = prepared(unlimited, grid, answer.confidence).law
            problems.append(
                Problem(expected, cost, budget, problem.objectives, problem.target_loss)
            )
        found.append(Training(budget, problems))
    return found, kept.index(asked)


def _cost(answer: Answer, chosen: Format | None, workload: "Workload") -> DeviceCost:
    cache = 16.0 if answer.kv_cache is None else answer.kv_cache.bits
    if chosen is None:
        return DeviceCost(answer.device, workload, kv_bits=cache)
    return DeviceCost(chosen.device, workload, chosen.mix, cache)


def _training_alone(budget: Budget) -> Budget:
    """Without limits: what the law expects does not depend on them."""
    return Budget(
        tokens=budget.tokens, flops=budget.flops, training_sequence=budget.training_sequence
    )


def _same_judge(answer: Answer, judge: LossModel, budget: Budget) -> bool:
    """Whether `query` would ask the same law at another training budget."""
    best = answer.best.architecture
    size = float(best.non_embedding_parameters)
    tokens = float(np.max(budget.training_tokens(ArchitectureBatch.of([best]))))
    if answer.demoted is not None:
        return demotion(answer.demoted, size, tokens) is not None
    if not is_shipped(judge):
        return demotion(judge, size, tokens) is None
    usual = default_law(answer.problem.budget, answer.space).label == judge.label
    return not usual or default_law(budget, answer.space).label == judge.label


def serving_questions(
    answer: Answer, formats: Sequence[Format | None], shapes: int
) -> tuple[list[Serving], int]:
    """The costs at every stop of batch and context, and which is the one asked.

    Args:
        shapes: to be costed, in all formats.
    """
    workload = answer.workload
    batches, contexts = batch_stops(workload), context_stops(workload)
    if shapes * len(batches) * len(contexts) > _MOST_COSTED:
        contexts = [None]
    if shapes * len(batches) * len(contexts) > _MOST_COSTED:
        batches = [workload.batch]
    found = []
    for batch in batches:
        for context in contexts:
            served = workload.served(batch, context)
            costs = [_cost(answer, each, served) for each in formats]
            found.append(Serving(batch, context, served, costs))
    asked = next(
        number
        for number, each in enumerate(found)
        if each.batch == workload.batch and each.context is None
    )
    return found, asked


def branches_of(
    training: Training, servings: Sequence[Serving], points: Sequence[Points]
) -> list[list[Branch]]:
    """The shapes of each format with the costs of every serving [servings, formats]."""
    return [
        [
            Branch(dataclasses.replace(problem, cost=cost), each)
            for problem, cost, each in zip(training.problems, serving.costs, points, strict=True)
        ]
        for serving in servings
    ]


def stops_of(
    answer: Answer,
    training: Training,
    servings: Sequence[Serving],
    branches: Sequence[Sequence[Branch]],
) -> list[BudgetStops]:
    """Stops over the region where shapes differ: see `useful_span`."""
    shapes = [branch.points.architectures for branch in branches[0]]
    loss = np.concatenate([
        problem.law.loss(each, problem.budget.training_tokens(each))
        for problem, each in zip(training.problems, shapes, strict=True)
    ])  # fmt: skip
    columns = [OBJECTIVES[name].column for name in BUDGETS]
    ceiling = float(answer.device.app_memory)
    spans: dict[str, tuple[float, float]] = {}
    for serving, served in zip(servings, branches, strict=True):
        own = serving.batch == answer.workload.batch and serving.context is None
        middle = np.concatenate([branch.middle(columns) for branch in served])
        within = middle[:, 0] <= ceiling
        if not within.any():
            continue
        for place, (name, column) in enumerate(zip(BUDGETS, columns, strict=True)):
            if np.isnan(middle[:, place]).any() or not (own or name == "decode"):
                continue
            span = useful_span(middle[within, place], loss[within], name == "decode")
            before = spans.get(column, span)
            spans[column] = (min(before[0], span[0]), max(before[1], span[1]))
    return budget_stops(answer.problem, spans, ceiling)
