"""The study's records: which may be fitted, which are held out, which shapes make the panel."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.run_table import RunTable
from shapelaw.sweeps.training import schedule

FOLDER = Path(__file__).parents[2] / "results" / "reference"
HELD_OUT_FROM = 0.9
"""Share of the largest non-embedding count from which a record counts as of the held-out size."""

LEAST_STEPS = 300
"""Runs of fewer optimizer steps enter no fit: they have hardly left the warmup, and their loss does
not yet fall as a power of the tokens. Chosen below the held-out size, by `rollouts`."""


def followed_the_rule(record: RunRecord) -> bool:
    """Whether the run used the recipe's own learning rate, not a multiple tried as a check."""
    recipe = record.recipe
    version = schedule.TRAINER_VERSION
    if recipe.trainer_version == schedule.UNSCALED_LOGITS:
        version = schedule.UNSCALED_LOGITS
    wanted = schedule.learning_rate_for(
        record.architecture.build(),
        recipe.batch_sequences * recipe.sequence_length,
        trainer_version=version,
    )
    return abs(recipe.learning_rate / wanted - 1) < 1e-6


@dataclasses.dataclass(frozen=True)
class Study:
    """All records, and those of them that fits may see."""

    records: list[RunRecord]
    learning_rate_checks: list[RunRecord]
    """Runs at a multiple of the rule's learning rate: evidence for the rule, no part of a fit."""
    short: list[RunRecord]
    """Runs below the held-out size of fewer than LEAST_STEPS: no part of a fit."""
    fitted: list[RunRecord]
    """What the laws are fitted on: the rule's learning rate, below the held-out size."""
    held_out: list[RunRecord]

    @property
    def fitted_table(self) -> RunTable:
        """The runs a law may see."""
        return table_of(self.fitted)

    @property
    def held_out_table(self) -> RunTable:
        """The largest size."""
        return table_of(self.held_out)

    @property
    def whole_table(self) -> RunTable:
        """All sizes: what the shipped law is fitted on."""
        return table_of([*self.fitted, *self.held_out])


def by_size(records: list[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
    """Those below the largest size, and those of it."""
    least = HELD_OUT_FROM * max(record.n_parameters.non_embedding for record in records)
    return (
        [record for record in records if record.n_parameters.non_embedding <= least],
        [record for record in records if record.n_parameters.non_embedding > least],
    )


def load_study(folder: Path = FOLDER) -> Study:
    """Read and part the records."""
    records = read_records(folder)
    finished = [record for record in records if record.status == "finished"]
    below, held_out = by_size([record for record in finished if followed_the_rule(record)])
    return Study(
        records=records,
        learning_rate_checks=[record for record in finished if not followed_the_rule(record)],
        short=[record for record in below if record.recipe.total_steps < LEAST_STEPS],
        fitted=[record for record in below if record.recipe.total_steps >= LEAST_STEPS],
        held_out=held_out,
    )


def size_of(record: RunRecord) -> int:
    """The nominal size a run belongs to: shapes of one size lie within five per cent."""
    return round_size(record.n_parameters.non_embedding)


def round_size(count: int) -> int:
    """To a quarter of an octave: the sizes of the design are about an octave apart."""
    return round(2 ** (round(float(np.log2(count)) * 4) / 4))


class SeedNoise(NamedTuple):
    """What another seed does to ln loss, as standard deviations."""

    run: float
    """Between seeds of one shape and budget."""
    freedom: int
    """Degrees of freedom behind it."""
    paired: float
    """What is left of it between shapes of one seed: less what a seed, that is the text it reads,
    does to every shape of a size and budget alike."""


@functools.cache
def seed_noise() -> SeedNoise:
    """From the repeated runs among those that laws are fitted on."""
    cells: dict[tuple[int, int], dict[Any, dict[int, float]]] = {}
    for record in load_study().fitted:
        assert record.loss is not None
        shapes = cells.setdefault((size_of(record), record.tokens), {})
        shapes.setdefault((record.architecture, record.recipe), {})[record.seed] = float(
            np.log(record.loss)
        )
    squares, freedom, paired_squares, paired_freedom = 0.0, 0, 0.0, 0
    for shapes in cells.values():
        seeds = sorted({seed for losses in shapes.values() for seed in losses})
        whole = np.array(
            [
                [losses[seed] for seed in seeds]
                for losses in shapes.values()
                if len(losses) == len(seeds)
            ]
        )
        if len(seeds) < 2 or not len(whole):
            continue
        within = whole - whole.mean(axis=1, keepdims=True)
        squares += float((within**2).sum())
        freedom += len(whole) * (len(seeds) - 1)
        paired_squares += float(((within - within.mean(axis=0)) ** 2).sum())
        paired_freedom += (len(whole) - 1) * (len(seeds) - 1)
    if not freedom or not paired_freedom:
        return SeedNoise(float("nan"), 0, float("nan"))
    return SeedNoise(
        float(np.sqrt(squares / freedom)), freedom, float(np.sqrt(paired_squares / paired_freedom))
    )


def mean_losses(records: list[RunRecord]) -> dict[tuple[Architecture, int], float]:
    """(shape, tokens) -> loss, the mean over seeds."""
    found: dict[tuple[Architecture, int], list[float]] = {}
    for record in records:
        assert record.loss is not None
        found.setdefault((record.architecture.build(), record.tokens), []).append(record.loss)
    return {key: float(np.mean(losses)) for key, losses in found.items()}
