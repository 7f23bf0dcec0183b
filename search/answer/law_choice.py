"""Which law judges a question, and which laws are only heard.

A user's own law judges inside what it saw and somewhat beyond. Asked about models many times larger
or training many times longer than any of its runs, it is demoted: another law judges, and what the
demoted one would say stands among the sources.
"""

import dataclasses

import numpy as np

from shapelaw.results.shipped_laws import law_names, load_law
from shapelaw.scaling.units import show_count
from shapelaw.search.pareto.budget import DEFAULT_TOKENS, Budget
from shapelaw.search.pareto.problem import LossModel
from shapelaw.search.space.space import Space

POOLED, OWN = "evidence", "reference"

FACTOR = 10.0
"""How many times beyond its runs, in parameters or in training tokens, a law still judges. Largest
sizes held out by a factor of 2 to 5 already fall outside a third of the 90 % intervals of single
forms (METHODS, section 5)."""

_SAMPLE = 100_000
"""Points of a named space that are looked at for models of sizes the own law saw: its first ones,
which are its shallowest and narrowest."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judges:
    """The law that judges, and the one that was named but only heard."""

    judge: LossModel
    demoted: LossModel | None = None
    reason: str | None = None
    """Why, as a warning."""


def default_law(budget: Budget, space: Space | None) -> LossModel:
    """The law to judge by where none is named.

    Args:
        space: as the user named it; None where it follows from the device.
    """
    if OWN in law_names() and space is not None:
        own = load_law(OWN)
        if _inside(own, budget, space):
            return own
    return load_law(POOLED)


def _inside(law: LossModel, budget: Budget, space: Space) -> bool:
    """Whether the training, and some model of the space, lie within what the law saw."""
    seen = getattr(law, "range", {})
    if "N" not in seen or "tokens" not in seen:
        return False
    low, high = seen["N"]
    least, most = seen["tokens"]
    if budget.flops is not None:
        if not 6 * low * least <= float(budget.flops) <= 6 * high * most:
            return False
    elif not least <= float(budget.tokens or DEFAULT_TOKENS) <= most:
        return False
    shapes, _ = next(iter(space.enumerate(_SAMPLE)))
    sizes = shapes.non_embedding_parameters
    return bool(np.any((low <= sizes) & (sizes <= high)))


def demotion(law: LossModel, parameters: float, tokens: float) -> str | None:
    """Why a law cannot judge models of so many parameters trained so long; None where it can.

    Only models and training beyond its largest count: below its smallest it interpolates towards
    what it saw.
    """
    seen = getattr(law, "range", {})
    far = []
    for axis, value, words in (
        ("tokens", tokens, "training tokens"),
        ("N", parameters, "parameters"),
    ):
        if axis in seen and value > FACTOR * seen[axis][1]:
            far.append(
                f"{value / seen[axis][1]:.2g} times the most {words} it saw "
                f"({show_count(seen[axis][1])})"
            )
    if not far:
        return None
    return (
        f"law {law.label} is only heard here: the question asks for {' and '.join(far)}, "
        f"and a law judges up to {FACTOR:g} times beyond its runs"
    )


def is_shipped(law: LossModel) -> bool:
    """Whether the law comes with the package: its level is that of other people's corpora."""
    return law.label in law_names()
