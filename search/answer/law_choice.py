"""Which of the shipped laws judges where the user names none, and what the other one says.

The project's own law, `reference`, saw very small models. Inside what it saw it judges; outside,
`evidence` does, and the pick of `reference` stands beside it with how far that extrapolates.
"""

import dataclasses

import numpy as np

from shapelaw.results.shipped_laws import AnyLaw, law_names, load_law
from shapelaw.search.answer.answer import Answer, Candidate, candidates
from shapelaw.search.pareto.budget import DEFAULT_TOKENS, Budget
from shapelaw.search.pareto.exhaustive import points_of, search_all
from shapelaw.search.space.space import Space

OWN, POOLED = "reference", "evidence"

_SAMPLE = 100_000
"""Points of a named space that are looked at for models of sizes the own law saw: its first ones,
which are its shallowest and narrowest."""


def default_law(budget: Budget, space: Space | None) -> AnyLaw:
    """The law to judge by where none is named.

    Args:
        space: as the user named it; None where it follows from device and law.
    """
    if OWN not in law_names():
        return load_law(POOLED)
    own = load_law(OWN)
    return own if _inside(own, budget, space) else load_law(POOLED)


def _inside(law: AnyLaw, budget: Budget, space: Space | None) -> bool:
    """Whether the training, and some model of the space, lie within what the law saw."""
    low, high = law.range["N"]
    least, most = law.range["tokens"]
    if budget.flops is not None:
        if not 6 * low * least <= float(budget.flops) <= 6 * high * most:
            return False
    elif not least <= float(budget.tokens or DEFAULT_TOKENS) <= most:
        return False
    if space is None:
        return True
    shapes, _ = next(iter(space.enumerate(_SAMPLE)))
    sizes = shapes.non_embedding_parameters
    return bool(np.any((low <= sizes) & (sizes <= high)))


def opinions(answer: Answer, law_named: bool) -> dict[str, Candidate]:
    """What each shipped law would choose, by name, where the own law is asked beyond what it saw.

    Empty inside its range, for every other law that the user named, and for spaces too large to
    enumerate.
    """
    asked = answer.law.label
    if asked == OWN:
        if not answer.best.extrapolated:
            return {}
    elif law_named or OWN not in law_names():
        return {}
    if answer.problem.target_loss is not None or not answer.certificate.exact:
        return {}
    other = POOLED if asked == OWN else OWN
    problem = dataclasses.replace(answer.problem, law=load_law(other))
    grid = answer.space.grid()
    front = points_of(problem, grid, search_all(problem, grid).front.keys)
    pick = front.take(np.array([problem.best_of(front)]))
    return {asked: answer.best, other: candidates(problem, pick)[0]}
