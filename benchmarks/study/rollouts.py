"""Which runs are too short to fit, decided below the held-out size."""

import dataclasses

import numpy as np

from benchmarks.study.records import Study
from results.record import RunRecord
from results.tables import table_of
from scaling.fit import fit_law

FLOORS = (0, 200, 300, 400)
"""Least optimizer steps that are tried."""

SPLITS = ((30_000, 30_000, 60_000), (60_000, 60_000, 100_000), (30_000, 60_000, 100_000))
"""Fit below the first non-embedding count, ask about those between the others."""

NAMES = ("24k to 48k", "48k to 80k", "24k to 80k")


@dataclasses.dataclass(frozen=True)
class RollOut:
    """One floor and how the `shape` form did with it."""

    floor: int
    left_out: int
    """Runs below the held-out size that it leaves out."""
    errors: tuple[float, ...]
    """Mean absolute log error, by split; every run asked about, however short."""


def roll_out(study: Study) -> list[RollOut]:
    """Every floor on every split."""
    below = [*study.fitted, *study.short]
    return [RollOut(floor=floor,
                    left_out=sum(record.recipe.total_steps < floor for record in below),
                    errors=tuple(_error(below, floor, *split) for split in SPLITS))
            for floor in FLOORS]


def _error(
    below: list[RunRecord], floor: int, fit_below: int, ask_from: int, ask_below: int
) -> float:
    seen = [record for record in below if record.n_parameters.non_embedding < fit_below
            and record.recipe.total_steps >= floor]
    asked = table_of([
        record for record in below if ask_from <= record.n_parameters.non_embedding < ask_below])
    law = fit_law(table_of(seen), form="shape", bootstrap=0, holdout=False).law
    predicted = np.array([row["loss"] for row in law.predict_table(asked)["rows"]])
    return float(np.abs(np.log(predicted / asked.loss)).mean())
