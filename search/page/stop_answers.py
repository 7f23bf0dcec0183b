"""The answers at every stop of the page's sliders: picks, the familiar choice beside each, and the
few shapes that any of them are.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix, mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.baselines import known_families, llama_like
from shapelaw.search.answer.law_choice import default_law, demotion, is_shipped
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.page.answer_grid import NOTHING, Branch, DrawnStops, picks
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
from shapelaw.search.pareto.feasibility import joint_draws
from shapelaw.search.pareto.finalists import prepared
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import OBJECTIVES, Columns, LossModel, Points, Problem
from shapelaw.search.space.grid import Grid

if TYPE_CHECKING:
    from shapelaw.search.workload import Workload

BEYOND = -2
"""In place of a pick that the law named is not asked about: another law would judge it."""

MOST_COSTED = 2_500_000
"""Shapes × workloads that are costed; larger spaces get fewer workloads."""

MOST_POINTS = 2_500_000
"""Shapes of a space looked at whole; of a larger one, those its search kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """One stop of training: the same question with other tokens (or FLOPs)."""

    budget: Budget
    problems: list[Problem]
    """Of each branch, with the law's expected loss."""


@dataclasses.dataclass(frozen=True, eq=False)
class Serving:
    """One stop of batch and context."""

    batch: int
    context: int | None
    workload: "Workload"
    costs: list[DeviceCost]
    """Of each branch."""


@dataclasses.dataclass(frozen=True, eq=False)
class StopAnswers:
    """Every answer that the sliders can ask for."""

    stops: list[BudgetStops]
    trainings: list[Training]
    asked_training: int
    servings: list[Serving]
    asked_serving: int
    formats: list[Mix | None]
    """Of each branch."""
    shapes: ArchitectureBatch
    """The picks, then the familiar choices, then the named models."""
    branch: np.ndarray
    """[shapes]: which format each is stored in."""
    bits: np.ndarray
    """[shapes], nominal."""
    n_picks: int
    n_familiar: int
    names: list[str]
    """Of the named models."""
    families: list[str]
    """Of each of them."""
    picks: np.ndarray
    """[servings, trainings, *stops]: numbers of shapes, NOTHING or BEYOND."""
    familiar: np.ndarray
    """[servings, trainings, *stops]: the best LLaMA-like shape there, or NOTHING."""
    exact: bool
    """Every shape of the space was looked at."""


def stop_answers(answer: Answer) -> StopAnswers:
    """Ask everything that the page's sliders can ask."""
    formats, judge, grids = _branches(answer)
    exact = sum(grid.size() for grid in grids) <= MOST_POINTS
    points = [_points(grid) if exact else _found(answer) for grid in grids]
    trainings, asked_training = _trainings(answer, judge, formats, grids)
    servings, asked_serving = _servings(answer, formats, sum(len(each) for each in points))
    familiar = _familiar(answer, [grid.bits for grid in grids])
    stops = _stops(answer, trainings[asked_training], servings, points)
    losses = [_losses(training, points) for training in trainings]
    familiar_losses = [_losses(training, familiar) for training in trainings]
    tables, beside = [], []
    for serving in servings:
        drawn = _drawn(trainings[0], serving, points, stops, answer.confidence)
        known = _drawn(trainings[0], serving, familiar, stops, answer.confidence)
        tables.append([
            _table(drawn, training, held) for training, held in zip(trainings, losses, strict=True)
        ])  # fmt: skip
        beside.append([
            _table(known, training, held)
            for training, held in zip(trainings, familiar_losses, strict=True)
        ])  # fmt: skip
    pick_rows, pick_table = _renumbered(np.array(tables), 0)
    familiar_rows, familiar_table = _renumbered(np.array(beside), len(pick_rows))
    families = known_families()
    named = [each for members in families.values() for each in members.values()]
    named_points = Points(
        ArchitectureBatch.of(named),
        np.full(len(named), grids[0].bits[0]),
        {},
        np.arange(len(named)),
    )
    chosen = Points.join([_rows(points, pick_rows), _rows(familiar, familiar_rows), named_points])
    branch = np.concatenate(
        [_branch_of(points, pick_rows), _branch_of(familiar, familiar_rows), np.zeros(len(named))]
    ).astype(np.int64)
    found = StopAnswers(
        stops=stops,
        trainings=trainings,
        asked_training=asked_training,
        servings=servings,
        asked_serving=asked_serving,
        formats=formats,
        shapes=chosen.architectures,
        branch=branch,
        bits=chosen.bits,
        n_picks=len(pick_rows),
        n_familiar=len(familiar_rows),
        names=[name for members in families.values() for name in members],
        families=[family for family, members in families.items() for _ in members],
        picks=pick_table,
        familiar=familiar_table,
        exact=exact and answer.certificate.exact,
    )
    return _without_demoted(found, answer, judge)


# --- the question in its parts -------------------------------------------------------------------


def _branches(answer: Answer) -> tuple[list[Mix | None], LossModel, list[Grid]]:
    """Each weight format that was searched (None: by bits alone), the law, and their spaces."""
    judge = answer.problem.law
    while isinstance(judge, ExpectedLoss | PricedLaw):
        judge = judge.law
    if not answer.formats:
        return [None], judge, [answer.space.grid()]
    formats: list[Mix | None] = [mix(each.format, each.family) for each in answer.formats]
    grids = [
        answer.space.with_bits((nominal_bits(each),)).grid() for each in formats if each is not None
    ]
    return formats, judge, grids


def _points(grid: Grid) -> Points:
    numbers = np.arange(grid.n_architectures())
    architectures = grid.architectures(np.repeat(numbers, len(grid.bits)))
    bits = np.tile(grid.bits, len(numbers))
    return Points(architectures, bits, {}, np.arange(len(bits)))


def _found(answer: Answer) -> Points:
    """What a search of a space too large to enumerate kept."""
    some = (answer.best, *answer.front, *(each.candidate for each in answer.near_ties))
    shown = list(dict.fromkeys((each.architecture, each.weight_bits) for each in some))
    batch = ArchitectureBatch.of(architecture for architecture, _ in shown)
    return Points(batch, np.array([bits for _, bits in shown]), {}, np.arange(len(shown)))


def _familiar(answer: Answer, bits: Sequence[np.ndarray]) -> list[Points]:
    best = answer.best.architecture
    shapes = ArchitectureBatch.of(llama_like(best.vocab_size, best.tied_embeddings))
    rows = np.arange(len(shapes))
    return [
        Points(
            shapes.take(np.repeat(rows, len(each))),
            np.tile(each, len(rows)),
            {},
            np.arange(len(rows) * len(each)),
        )
        for each in bits
    ]


def _trainings(
    answer: Answer, judge: LossModel, formats: Sequence[Mix | None], grids: Sequence[Grid]
) -> tuple[list[Training], int]:
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
            law = judge if each is None else PricedLaw(judge, each, public_format_prices())
            cost = DeviceCost(answer.device, answer.workload, each)
            unlimited = Problem(law, cost, _training_alone(budget), problem.objectives)
            expected = prepared(unlimited, grid, answer.confidence).law
            problems.append(
                Problem(expected, cost, budget, problem.objectives, problem.target_loss)
            )
        found.append(Training(budget, problems))
    return found, kept.index(asked)


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


def _servings(
    answer: Answer, formats: Sequence[Mix | None], shapes: int
) -> tuple[list[Serving], int]:
    workload = answer.workload
    batches, contexts = batch_stops(workload), context_stops(workload)
    if shapes * len(batches) * len(contexts) > MOST_COSTED:
        contexts = [None]
    if shapes * len(batches) * len(contexts) > MOST_COSTED:
        batches = [workload.batch]
    found = []
    for batch in batches:
        for context in contexts:
            served = workload.served(batch, context)
            costs = [DeviceCost(answer.device, served, each) for each in formats]
            found.append(Serving(batch, context, served, costs))
    asked = next(
        number
        for number, each in enumerate(found)
        if each.batch == workload.batch and each.context is None
    )
    return found, asked


def _stops(
    answer: Answer, training: Training, servings: Sequence[Serving], points: Sequence[Points]
) -> list[BudgetStops]:
    """Stops over the region where shapes differ: see `useful_span`."""
    loss = np.concatenate([
        problem.law.loss(each.architectures, problem.budget.training_tokens(each.architectures))
        for problem, each in zip(training.problems, points, strict=True)
    ])  # fmt: skip
    columns = [OBJECTIVES[name].column for name in BUDGETS]
    ceiling = float(answer.device.app_memory)
    spans: dict[str, tuple[float, float]] = {}
    for serving in servings:
        own = serving.batch == answer.workload.batch and serving.context is None
        middle = np.concatenate([
            Branch(dataclasses.replace(problem, cost=cost), each).middle(columns)
            for problem, cost, each in zip(training.problems, serving.costs, points, strict=True)
        ])  # fmt: skip
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


# --- the tables ----------------------------------------------------------------------------------


def _losses(training: Training, points: Sequence[Points]) -> list[Columns]:
    found = []
    for problem, each in zip(training.problems, points, strict=True):
        columns = problem.loss_columns(each.architectures)
        found.append({name: columns[name] for name in ("loss", "training_flops")})
    return found


def _drawn(
    training: Training,
    serving: Serving,
    points: Sequence[Points],
    stops: list[BudgetStops],
    confidence: float,
) -> DrawnStops:
    branches = [
        Branch(dataclasses.replace(problem, cost=cost), each)
        for problem, cost, each in zip(training.problems, serving.costs, points, strict=True)
    ]
    return DrawnStops(branches, stops, confidence)


def _table(drawn: DrawnStops, training: Training, losses: Sequence[Columns]) -> np.ndarray:
    order = _order(drawn, training, losses)
    if training.problems[0].target_loss is None:
        return picks(drawn, order)
    mean = np.concatenate([each["loss"] for each in losses])
    # What reaches a loss with confidence does so on average, but for a very lopsided law.
    order = order[mean[order] <= training.problems[0].target_loss]
    return picks(drawn, order, lambda rows: _reaching(drawn, training, rows))


def _order(drawn: DrawnStops, training: Training, losses: Sequence[Columns]) -> np.ndarray:
    """Rows that might fit at all, in the order of choice."""
    problem = training.problems[0]
    rows = np.flatnonzero((drawn.corner > 0).all(axis=1))
    branch = np.concatenate([np.full(len(each["loss"]), n) for n, each in enumerate(losses)])
    wanted = [each.column for each in problem.objectives]
    missing = [name for name in wanted if name not in (*drawn.columns, *losses[0])]
    more = np.concatenate([each.middle(missing) for each in drawn.branches]) if missing else None

    def price(name: str) -> np.ndarray:
        objective = OBJECTIVES[name]
        if objective.column in losses[0]:
            column = np.concatenate([each[objective.column] for each in losses])
        elif objective.column in drawn.columns:
            column = drawn.middle[:, drawn.columns.index(objective.column)]
        else:
            assert more is not None
            column = more[:, missing.index(objective.column)]
        return np.asarray((-column if objective.maximise else column)[rows])

    others = [price(each.name) for each in problem.objectives if each != problem.goal]
    goal = price(problem.goal.name)
    order = np.lexsort((rows, *reversed(others), branch[rows], goal))
    return np.asarray(rows[order[~np.isnan(goal[order])]])


def _reaching(drawn: DrawnStops, training: Training, rows: np.ndarray) -> np.ndarray:
    """[rows, j, budgets]: stops that each joint draw of law and device meets."""
    found: np.ndarray | None = None
    for number, (problem, branch) in enumerate(zip(training.problems, drawn.branches, strict=True)):
        first, last = drawn.starts[number], drawn.starts[number + 1]
        mine = np.flatnonzero((rows >= first) & (rows < last))
        if not len(mine):
            continue
        points = branch.points.take(rows[mine] - first)
        asked = dataclasses.replace(problem, cost=branch.problem.cost)
        points = asked.evaluate(points.architectures, points.bits)
        joint = joint_draws(asked, points)
        of_device = branch.drawn(rows[mine] - first, drawn.columns)
        levels = drawn.stop_counts([of_device[name] for name in drawn.columns])
        levels = levels[:, joint.device_rows % levels.shape[1]]
        levels = levels * joint.met["target_loss"].T[:, :, None]
        if found is None:
            found = np.zeros((len(rows), *levels.shape[1:]), dtype=np.uint8)
        found[mine] = levels
    assert found is not None
    return found


def _renumbered(tables: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows that occur, and the tables with their numbers, from `first` on, in place of them."""
    rows = np.unique(tables[tables != NOTHING])
    numbers = first + np.searchsorted(rows, tables)
    return rows, np.where(tables == NOTHING, NOTHING, numbers)


def _rows(points: Sequence[Points], rows: np.ndarray) -> Points:
    starts = np.cumsum([0, *(len(each) for each in points)])
    return Points.join([
        each.take(rows[(rows >= start) & (rows < start + len(each))] - start)
        for each, start in zip(points, starts[:-1], strict=True)
    ])  # fmt: skip


def _branch_of(points: Sequence[Points], rows: np.ndarray) -> np.ndarray:
    ends = np.cumsum([len(each) for each in points])
    return np.searchsorted(ends, rows, side="right")


def _without_demoted(found: StopAnswers, answer: Answer, judge: LossModel) -> StopAnswers:
    """Where a user's law would be asked too far beyond its runs, another would judge: no pick."""
    if is_shipped(judge):
        return found
    sizes = np.asarray(found.shapes.non_embedding_parameters, dtype=float)[: found.n_picks]
    table = found.picks.copy()
    for number, training in enumerate(found.trainings):
        tokens = np.broadcast_to(training.budget.training_tokens(found.shapes), len(found.shapes))
        for shape in range(found.n_picks):
            if demotion(judge, sizes[shape], float(tokens[shape])) is not None:
                here = table[:, number]
                here[here == shape] = BEYOND
    return dataclasses.replace(found, picks=table)
