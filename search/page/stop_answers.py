"""The answers at every stop of the page's sliders: picks, the familiar choice beside each, and the
few shapes that any of them are.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.baselines import known_families, llama_like
from shapelaw.search.answer.law_choice import demotion, is_shipped
from shapelaw.search.page.answer_grid import NOTHING
from shapelaw.search.page.stop_questions import (
    Serving,
    Training,
    branches_of,
    found_points,
    searched_formats,
    serving_questions,
    space_points,
    stops_of,
    training_questions,
)
from shapelaw.search.page.stop_tables import Eligible, Tables
from shapelaw.search.page.stops import BudgetStops
from shapelaw.search.pareto.problem import LossModel, Points

BEYOND = -2
"""In place of a pick that the law named is not asked about: another law would judge it."""

MOST_POINTS = 2_500_000
"""Shapes of a space looked at whole; of a larger one, those its search kept."""


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
    formats, judge, grids = searched_formats(answer)
    mixes = [None if each is None else each.mix for each in formats]
    exact = sum(grid.size() for grid in grids) <= MOST_POINTS
    points = [space_points(grid) if exact else found_points(answer) for grid in grids]
    trainings, asked_training = training_questions(answer, judge, formats, grids)
    servings, asked_serving = serving_questions(answer, formats, sum(len(each) for each in points))
    training = trainings[asked_training]
    branches = branches_of(training, servings, points)
    stops = stops_of(answer, training, servings, branches)
    asked = [each is None or each.asked for each in formats]
    eligible = Eligible(mixes, asked)
    every = Tables(branches, trainings, stops, answer.confidence)
    picked, pick_table, _ = every.of_format(every.best_format(eligible))
    known = [_familiar(answer, grid.bits) for grid in grids]
    count = sum(len(each) for each in picked)
    stored = np.append(_in_format(picked), 0)[np.where(pick_table == NOTHING, count, pick_table)]
    known_branches = branches_of(training, servings, known)
    familiar = Tables(known_branches, trainings, stops, answer.confidence, closest=True)
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
