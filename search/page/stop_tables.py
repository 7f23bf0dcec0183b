"""Which shape of which weight format stands at every combination of stops."""

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.answer.format_choice import fallback, price_of, priced
from shapelaw.search.page.answer_grid import (
    NOTHING,
    Branch,
    DrawnStops,
    closest_beside,
    picks,
)
from shapelaw.search.page.stop_questions import Training
from shapelaw.search.page.stops import BudgetStops
from shapelaw.search.pareto.budget import Limit
from shapelaw.search.pareto.exhaustive import THREADS
from shapelaw.search.pareto.feasibility import joint_draws
from shapelaw.search.pareto.problem import OBJECTIVES, Columns, Points, Problem


class Eligible:
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


class Tables:
    """What each format alone answers with at every combination of stops."""

    def __init__(
        self,
        branches: Sequence[Sequence[Branch]],
        trainings: Sequence[Training],
        stops: list[BudgetStops],
        confidence: float,
        *,
        closest: bool = False,
    ) -> None:
        """
        Args:
            branches: the shapes of each format at every serving [servings, formats].
            closest: where no shape fits, name the one that comes closest.
        """
        self.points = [branch.points for branch in branches[0]]
        self.trainings = trainings
        sizes = (len(self.points), len(branches), len(trainings), *(len(s.values) for s in stops))
        self.rows = np.empty(sizes, dtype=np.int64)
        """[formats, servings, trainings, *stops]: the row of the format's points, or NOTHING."""
        self.fits = np.empty(sizes, dtype=bool)
        self.goals = np.empty(sizes)
        """Of the rows that fit, less is better; infinite elsewhere."""

        def fill(number: int, place: int, losses: Sequence[Columns]) -> None:
            drawn = DrawnStops(branches[place][number], stops, confidence)
            for stop, (training, columns) in enumerate(zip(trainings, losses, strict=True)):
                asked, at = training.problems[number], (number, place, stop)
                table = _table(drawn, asked, columns)
                self.fits[at] = table != NOTHING
                self.goals[at] = _goals(drawn, asked, columns, table)
                self.rows[at] = _or_closest(drawn, asked, columns, table) if closest else table

        with ThreadPoolExecutor(THREADS) as pool:
            for number, points in enumerate(self.points):
                asked = [training.problems[number] for training in trainings]
                losses = [*pool.map(_losses, asked, itertools.repeat(points))]
                places = range(len(branches))
                for _ in pool.map(fill, itertools.repeat(number), places, itertools.repeat(losses)):
                    pass  # what a thread raises is raised here

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

    def best_format(self, eligible: Eligible) -> np.ndarray:
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
    return picks(drawn, order, drawn.levels_of(lambda rows: _reaching(drawn, problem, rows)))


def _or_closest(
    drawn: DrawnStops, problem: Problem, losses: Columns, table: np.ndarray
) -> np.ndarray:
    """The table, with the shape that comes closest wherever none fits."""
    if problem.target_loss is None:
        return closest_beside(drawn, table)
    reach = Limit("target_loss", "loss", problem.target_loss, at_least=False)
    levels = drawn.levels_of(lambda rows: _reaching(drawn, problem, rows))
    return closest_beside(drawn, table, levels, reach.ratio(losses["loss"]))


def _order(drawn: DrawnStops, problem: Problem, losses: Columns) -> np.ndarray:
    """Rows that might fit at all, in the order of choice."""
    rows = np.flatnonzero((drawn.corner > 0).all(axis=1))
    others = [
        _price(drawn, problem, losses, each.name)[rows]
        for each in problem.objectives
        if each != problem.goal
    ]
    goal = _price(drawn, problem, losses, problem.goal.name)[rows]
    order = np.lexsort((*reversed(others), goal))  # stable: then the space's order
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
