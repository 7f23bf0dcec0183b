"""The answers at every stop of the page's sliders: picks, the familiar choice beside each, and the
few shapes that any of them are.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix, mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.baselines import known_families, llama_like
from shapelaw.search.answer.format_choice import (
    ServedFormat,
    eight_bits_beside,
    fallback,
    price_of,
    priced,
)
from shapelaw.search.answer.law_choice import default_law, demotion, is_shipped
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.page.answer_grid import (
    NOTHING,
    Branch,
    DrawnStops,
    closest_beside,
    picks,
)
from shapelaw.search.page.stops import (
    BUDGETS,
    BudgetStops,
    batch_stops,
    budget_stops,
    context_stops,
    training_stops,
    useful_span,
)
from shapelaw.search.pareto.budget import Budget, Limit
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.expected_loss import ExpectedLoss
from shapelaw.search.pareto.feasibility import joint_draws
from shapelaw.search.pareto.finalists import prepared
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import OBJECTIVES, Columns, LossModel, Points, Problem
from shapelaw.search.space.grid import Grid

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
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
class StopAnswers:
    """Every answer that the sliders can ask for."""

    stops: list[BudgetStops]
    trainings: list[Training]
    asked_training: int
    servings: list[Serving]
    asked_serving: int
    formats: list[Mix | None]
    shapes: ArchitectureBatch
    """The picks, then the familiar choices, then the named models, each in every format."""
    format: np.ndarray
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
    """[servings, trainings, *stops]: the LLaMA-like shape that `query` names there
    (answer.baselines.best_row), in the format of the pick."""
    familiar_fits: np.ndarray
    """The same shape: whether it meets the budgets."""
    exact: bool
    """Every shape of the space was looked at."""


def stop_answers(answer: Answer) -> StopAnswers:
    """Ask everything that the page's sliders can ask."""
    formats, judge, grids = _searched(answer)
    mixes = [None if each is None else each.mix for each in formats]
    exact = sum(grid.size() for grid in grids) <= MOST_POINTS
    points = [_points(grid) if exact else _found(answer) for grid in grids]
    trainings, asked_training = _trainings(answer, judge, formats, grids)
    servings, asked_serving = _servings(answer, formats, sum(len(each) for each in points))
    stops = _stops(answer, trainings[asked_training], servings, points)
    asked = [each is None or each.asked for each in formats]
    eligible = _Eligible(mixes, asked)
    every = _Tables(points, trainings, servings, stops, answer.confidence)
    picked, pick_table, _ = every.of_format(every.best_format(eligible))
    known = [_familiar(answer, grid.bits) for grid in grids]
    count = sum(len(each) for each in picked)
    stored = np.append(_in_format(picked), 0)[np.where(pick_table == NOTHING, count, pick_table)]
    familiar = _Tables(known, trainings, servings, stops, answer.confidence, closest=True)
    alike, alike_table, alike_fits = familiar.of_format(stored)
    families = known_families()
    members = [
        (family, name, shape) for family, each in families.items() for name, shape in each.items()
    ]
    models = ArchitectureBatch.of([shape for _, _, shape in members])
    named = [_at_bits(models, grid.bits) for grid in grids]
    repeats = [member for grid in grids for member in members for _ in grid.bits]
    groups = (picked, alike, named)
    found = StopAnswers(
        stops=stops,
        trainings=trainings,
        asked_training=asked_training,
        servings=servings,
        asked_serving=asked_serving,
        formats=mixes,
        shapes=Points.join([each for group in groups for each in group]).architectures,
        format=np.concatenate([_in_format(group) for group in groups]),
        bits=np.concatenate([each.bits for group in groups for each in group]),
        n_picks=count,
        n_familiar=sum(len(each) for each in alike),
        names=[name for _, name, _ in repeats],
        families=[family for family, _, _ in repeats],
        picks=pick_table,
        familiar=alike_table + count,
        familiar_fits=alike_fits,
        exact=exact and answer.certificate.exact,
    )
    return _without_demoted(found, answer, judge)


# --- the question in its parts -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Format:
    """A weight format, the device with the engine that reads it, and whether it was asked for."""

    mix: Mix
    device: "DeviceProfile"
    asked: bool = True


def _searched(answer: Answer) -> tuple[list[_Format | None], LossModel, list[Grid]]:
    """Each weight format (None: by bits alone), the law without prices, and the spaces."""
    judge = answer.problem.law
    while isinstance(judge, ExpectedLoss | PricedLaw):
        judge = judge.law
    if not answer.formats:
        return [None], judge, [answer.space.grid()]
    formats = [
        _Format(mix(each.format, each.family), _with_engine(answer, each.engine))
        for each in answer.formats
    ]
    # What `query` asks beside the others where none of them may be picked.
    wide = eight_bits_beside(ServedFormat(formats[0].mix, formats[0].device))
    if all(each.mix != wide.mix for each in formats):
        formats.append(_Format(wide.mix, wide.device, asked=False))
    spaces = [answer.space.with_bits((nominal_bits(each.mix),)) for each in formats]
    return [*formats], judge, [each.grid() for each in spaces]


def _with_engine(answer: Answer, engine: str) -> "DeviceProfile":
    from shapelaw.search.devices.catalogue import with_each_engine

    usual = answer.device
    if engine == usual.engine:
        return usual
    return next(each for each in with_each_engine(usual.name) if each.engine == engine)


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


def _familiar(answer: Answer, bits: np.ndarray) -> Points:
    best = answer.best.architecture
    return _at_bits(ArchitectureBatch.of(llama_like(best.vocab_size, best.tied_embeddings)), bits)


def _at_bits(shapes: ArchitectureBatch, bits: np.ndarray) -> Points:
    """Every shape at every precision."""
    rows = np.repeat(np.arange(len(shapes)), len(bits))
    return Points(shapes.take(rows), np.tile(bits, len(shapes)), {}, np.arange(len(rows)))


def _in_format(points: Sequence[Points]) -> np.ndarray:
    """Which format each of the formats' shapes is stored in, one after the other."""
    return np.repeat(np.arange(len(points)), [len(each) for each in points])


def _trainings(
    answer: Answer, judge: LossModel, formats: Sequence[_Format | None], grids: Sequence[Grid]
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
            law = judge if each is None else PricedLaw(judge, each.mix, public_format_prices())
            cost = _cost(answer, each, answer.workload)
            unlimited = Problem(law, cost, _training_alone(budget), problem.objectives)
            expected = prepared(unlimited, grid, answer.confidence).law
            problems.append(
                Problem(expected, cost, budget, problem.objectives, problem.target_loss)
            )
        found.append(Training(budget, problems))
    return found, kept.index(asked)


def _cost(answer: Answer, chosen: _Format | None, workload: "Workload") -> DeviceCost:
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


def _servings(
    answer: Answer, formats: Sequence[_Format | None], shapes: int
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
            costs = [_cost(answer, each, served) for each in formats]
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


class _Eligible:
    """Which shapes of which formats may be picked: as answer.format_search has it."""

    def __init__(self, mixes: Sequence[Mix | None], asked: Sequence[bool]) -> None:
        self.mixes, self.asked = mixes, asked

    def may(self, number: int, shape: Architecture, tokens: float) -> bool:
        """Whether a shape may be picked in one format."""
        chosen = self.mixes[number]
        if chosen is None:
            return True
        price = price_of(chosen, shape, tokens, in_loss=True)
        return priced(chosen, price) and fallback(chosen, shape) is None


class _Tables:
    """What each format alone answers with at every combination of stops."""

    def __init__(
        self,
        points: Sequence[Points],
        trainings: Sequence[Training],
        servings: Sequence[Serving],
        stops: list[BudgetStops],
        confidence: float,
        *,
        closest: bool = False,
    ) -> None:
        """
        Args:
            points: the shapes of each format.
            closest: where no shape fits, name the one that comes closest.
        """
        self.points, self.trainings = points, trainings
        tables, fits, goals = [], [], []
        for number, each in enumerate(points):
            losses = [_losses(training.problems[number], each) for training in trainings]
            for serving in servings:
                problem = trainings[0].problems[number]
                problem = dataclasses.replace(problem, cost=serving.costs[number])
                drawn = DrawnStops(Branch(problem, each), stops, confidence)
                for training, columns in zip(trainings, losses, strict=True):
                    asked = training.problems[number]
                    table = _table(drawn, asked, columns)
                    fits.append(table != NOTHING)
                    goals.append(_goals(drawn, asked, columns, table))
                    tables.append(_or_closest(drawn, asked, columns, table) if closest else table)
        shape = (len(points), len(servings), len(trainings), *tables[0].shape)
        self.rows = np.array(tables).reshape(shape)
        """[formats, servings, trainings, *stops]: the row of the format's points, or NOTHING."""
        self.fits = np.array(fits).reshape(shape)
        self.goals = np.array(goals).reshape(shape)
        """Of the rows that fit, less is better; infinite elsewhere."""

    def of_format(self, chosen: np.ndarray) -> tuple[list[Points], np.ndarray, np.ndarray]:
        """The answers of the chosen format at every combination of stops.

        Args:
            chosen: number of a format [servings, trainings, *stops].

        Returns:
            The shapes that occur, of each format; their numbers [servings, trainings, *stops],
            counted through the formats, or NOTHING; and whether they fit.
        """
        kept, numbers = [], np.full(chosen.shape, NOTHING, dtype=np.int64)
        first = 0
        for number, (each, table) in enumerate(zip(self.points, self.rows, strict=True)):
            here = (chosen == number) & (table != NOTHING)
            rows = np.unique(table[here])
            kept.append(each.take(rows))
            numbers[here] = first + np.searchsorted(rows, table[here])
            first += len(rows)
        return kept, numbers, np.take_along_axis(self.fits, chosen[None], axis=0)[0]

    def best_format(self, eligible: _Eligible) -> np.ndarray:
        """Which format holds the pick at every combination: the best that may be picked; where none
        may, that which is asked beside the others; and where none fits that may, the best of all.
        """
        may = np.ones(self.rows.shape, dtype=bool)
        if len(may) == 1:
            return np.zeros(may.shape[1:], dtype=np.int64)
        for number, table in enumerate(self.rows):
            shapes = self.points[number].architectures
            for place, training in enumerate(self.trainings):
                here = table[:, place]
                rows = np.unique(here[here != NOTHING])
                tokens = np.broadcast_to(training.budget.training_tokens(shapes), len(shapes))
                allowed = np.array(
                    [eligible.may(number, shapes[int(row)], float(tokens[row])) for row in rows],
                    dtype=bool,
                )
                where = here != NOTHING
                may[number, :, place][where] = allowed[np.searchsorted(rows, here[where])]
        own = np.array(eligible.asked).reshape(-1, *(1,) * (may.ndim - 1))
        # The one asked beside the others takes part where none of them may be picked.
        settled = (self.fits & may & own).any(axis=0)
        part = self.fits & (own | ~settled)
        first = np.where(part & may, self.goals, np.inf)
        second = np.where(part, self.goals, np.inf)
        return np.where(
            np.isfinite(first).any(axis=0), np.argmin(first, axis=0), np.argmin(second, axis=0)
        )


def _losses(problem: Problem, points: Points) -> Columns:
    columns = problem.loss_columns(points.architectures)
    return {name: columns[name] for name in ("loss", "training_flops")}


def _goals(drawn: DrawnStops, problem: Problem, losses: Columns, table: np.ndarray) -> np.ndarray:
    goal = _price(drawn, problem, losses, problem.goal.name)
    return np.where(table == NOTHING, np.inf, goal[np.maximum(table, 0)])


def _table(drawn: DrawnStops, problem: Problem, losses: Columns) -> np.ndarray:
    order = _order(drawn, problem, losses)
    if problem.target_loss is None:
        return picks(drawn, order)
    # What reaches a loss with confidence does so on average, but for a very lopsided law.
    order = order[losses["loss"][order] <= problem.target_loss]
    return picks(drawn, order, lambda rows: _reaching(drawn, problem, rows))


def _or_closest(
    drawn: DrawnStops, problem: Problem, losses: Columns, table: np.ndarray
) -> np.ndarray:
    """The table, with the shape that comes closest wherever none fits."""
    if problem.target_loss is None:
        return closest_beside(drawn, table)
    reach = Limit("target_loss", "loss", problem.target_loss, at_least=False)
    return closest_beside(
        drawn, table, lambda rows: _reaching(drawn, problem, rows), reach.ratio(losses["loss"])
    )


def _order(drawn: DrawnStops, problem: Problem, losses: Columns) -> np.ndarray:
    """Rows that might fit at all, in the order of choice."""
    rows = np.flatnonzero((drawn.corner > 0).all(axis=1))
    others = [
        _price(drawn, problem, losses, each.name)[rows]
        for each in problem.objectives
        if each != problem.goal
    ]
    goal = _price(drawn, problem, losses, problem.goal.name)[rows]
    order = np.lexsort((rows, *reversed(others), goal))
    return np.asarray(rows[order[~np.isnan(goal[order])]])


def _price(drawn: DrawnStops, problem: Problem, losses: Columns, name: str) -> np.ndarray:
    """An objective's column [n], turned so that less is better."""
    objective = OBJECTIVES[name]
    if objective.column in losses:
        column = losses[objective.column]
    elif objective.column in drawn.columns:
        column = drawn.middle[:, drawn.columns.index(objective.column)]
    else:
        column = drawn.branch.middle([objective.column])[:, 0]
    return np.asarray(-column if objective.maximise else column)


def _reaching(drawn: DrawnStops, problem: Problem, rows: np.ndarray) -> np.ndarray:
    """[rows, j, budgets]: stops that each joint draw of law and device meets."""
    points = drawn.branch.points.take(rows)
    asked = dataclasses.replace(problem, cost=drawn.branch.problem.cost)
    joint = joint_draws(asked, asked.evaluate(points.architectures, points.bits))
    levels = drawn.stop_counts(drawn.drawn(rows))
    levels = levels[:, joint.device_rows % levels.shape[1]]
    return np.asarray(levels * joint.met["target_loss"].T[:, :, None])


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
