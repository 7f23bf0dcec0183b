"""The noise that power is computed from is that of the committed records; so are its claims."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.store import read_records
from shapelaw.sweeps.design import power

RECORDS = Path(__file__).parents[3] / "results" / "reference"
LEAST_STEPS = 300


def seeds_of_shapes() -> dict[tuple[object, ...], dict[int, float]]:
    """ln(loss) by seed, for each shape, budget and learning rate of the study."""
    found: dict[tuple[object, ...], dict[int, float]] = defaultdict(dict)
    for record in read_records(RECORDS):
        recipe = record.recipe
        if record.loss is not None and recipe.total_steps >= LEAST_STEPS:
            key = (record.architecture, round(recipe.learning_rate, 9), record.tokens)
            found[key][record.seed] = math.log(record.loss)
    return {key: losses for key, losses in found.items() if len(losses) > 1}


def test_the_noise_between_seeds_is_that_of_the_reference_study() -> None:
    """The standardised spread is one on the whole and for small and large budgets alike."""
    spread: list[tuple[int, float, int]] = []
    for (*_, tokens), losses in seeds_of_shapes().items():
        assert isinstance(tokens, int)
        variance = float(np.var(list(losses.values()), ddof=1))
        spread.append((tokens, variance / power.seed_noise(tokens) ** 2, len(losses) - 1))
    budgets, scaled, degrees = np.array(spread).T
    assert np.average(scaled, weights=degrees) == pytest.approx(1.0, abs=0.15)
    for half in (budgets < np.median(budgets), budgets >= np.median(budgets)):
        assert np.average(scaled[half], weights=degrees[half]) == pytest.approx(1.0, abs=0.35)


def correlated_normals(sources: np.random.Generator, correlation: float, n: int) -> np.ndarray:
    """Rows of `n` normal numbers that correlate with each other by so much."""
    shared, own = sources.standard_normal((4000, 1)), sources.standard_normal((4000, n))
    return math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own


def test_a_difference_of_that_size_is_seen_as_often_as_is_said() -> None:
    """By simulation of pairs of shapes with the noise that is supposed."""
    budgets, seeds = (1_000_000, 2_000_000, 4_000_000), 4
    difference = power.smallest_difference(budgets, seeds)
    source = np.random.default_rng(0)
    noise = [power.seed_noise(tokens) for tokens in budgets]
    means = np.zeros(4000)
    for _ in range(seeds):
        pair = [correlated_normals(source, power.BUDGETS_CORRELATE, 3) * noise for _ in range(2)]
        scale = math.sqrt(1 - power.SHAPES_CORRELATE)
        means += (pair[0] - pair[1]).mean(axis=1) * scale / seeds
    error = power.pair_noise(budgets) / math.sqrt(seeds)
    assert means.std() == pytest.approx(error, rel=0.05)
    assert np.mean(np.abs(means + difference) > 1.96 * error) == pytest.approx(0.9, abs=0.02)


def test_seeds_and_differences_are_inverse() -> None:
    budgets = (3_100_000, 6_200_000, 12_400_000)
    for pairs in (1, 2):
        seeds = power.seeds_needed(0.003, budgets, pairs)
        assert power.smallest_difference(budgets, seeds, pairs) <= 0.003
        assert power.smallest_difference(budgets, seeds - 1, pairs) > 0.003
