"""Which runs are too short to fit and which form is taken, decided below the held-out size."""

import dataclasses

import numpy as np

from benchmarks.study.records import LEAST_STEPS, Study
from shapelaw.results.record import RunRecord
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.estimate import estimate_law
from shapelaw.scaling.fit import HUBER

FLOORS = (0, 200, 300, 400)
"""Least optimizer steps that are tried."""

SPLITS = (
    (30_000, 30_000, 60_000),
    (60_000, 60_000, 100_000),
    (30_000, 60_000, 100_000),
    (100_000, 100_000, 160_000),
)
"""Fit below the first non-embedding count, ask about those between the others."""

NAMES = ("24k to 48k", "48k to 80k", "24k to 80k", "80k to 128k")

OWN_FORMS = ("shape", "shape-depth")
"""The forms with a term for every axis that the study moved."""


@dataclasses.dataclass(frozen=True)
class RollOut:
    """One floor and how the `shape` form did with it."""

    floor: int
    left_out: int
    """Runs below the held-out size that it leaves out."""
    errors: tuple[float, ...]
    """Mean absolute log error, by split; every run asked about, however short."""


def roll_out(study: Study) -> list[RollOut]:
    """Every floor on every split, by the plainer of our forms."""
    below = [*study.fitted, *study.short]
    return [
        RollOut(
            floor=floor,
            left_out=sum(record.recipe.total_steps < floor for record in below),
            errors=_errors(below, floor, OWN_FORMS[0]),
        )
        for floor in FLOORS
    ]


def roll_out_forms(study: Study) -> dict[str, tuple[float, ...]]:
    """Each of our forms -> mean absolute log error by split; the best in the mean first."""
    below = [*study.fitted, *study.short]
    errors = {form: _errors(below, LEAST_STEPS, form) for form in OWN_FORMS}
    return dict(sorted(errors.items(), key=lambda item: float(np.mean(item[1]))))


def _errors(below: list[RunRecord], floor: int, form: str) -> tuple[float, ...]:
    return tuple(_error(below, floor, form, *split) for split in SPLITS)


def _error(
    below: list[RunRecord], floor: int, form: str, fit_below: int, ask_from: int, ask_below: int
) -> float:
    seen = [
        record
        for record in below
        if record.n_parameters.non_embedding < fit_below and record.recipe.total_steps >= floor
    ]
    asked = table_of(
        [record for record in below if ask_from <= record.n_parameters.non_embedding < ask_below]
    )
    # The law alone: the intervals of a fit's parameters take longer than all else.
    estimate = estimate_law(table_of(seen), form, bootstrap=0, delta=HUBER, holdout=False)
    predicted = np.array([row["loss"] for row in estimate.law.predict_table(asked)["rows"]])
    return float(np.abs(np.log(predicted / asked.loss)).mean())
