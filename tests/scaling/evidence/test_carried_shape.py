"""Shape carries over by its correlation; level and unit do not."""

import numpy as np
import pytest

from shapelaw.results.evidence.shipped_evidence import shipped_population
from shapelaw.scaling.evidence.carried_shape import KEPT, carried, carry, credible
from shapelaw.scaling.evidence.study_law import INDEX
from shapelaw.scaling.evidence.study_population import N_ALL


def test_correlation_falls_with_the_distance_in_size() -> None:
    assert carried(1e5, 1e5) == 1
    assert carried(1e5, 1e6) == pytest.approx(KEPT)
    assert carried(1e8, 1e5) == pytest.approx(KEPT**3)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_carried_studies_are_of_the_population(correlation: float) -> None:
    population = shipped_population()
    generator = np.random.default_rng(0)
    theta, member = population.new_studies(20_000, generator)
    asked = carry(population, theta, member, correlation, generator)[:, :N_ALL]
    theta = theta[:, :N_ALL]
    mean, spread = (each[member] for each in (population.mean, population.spread))
    for name in ("ln_best_depth", "gain_immediate", "gqa"):
        at = INDEX[name]
        first, second = ((each - mean)[:, at] / spread[:, at] for each in (theta, asked))
        assert np.corrcoef(first, second)[0, 1] == pytest.approx(correlation, abs=0.03)
        assert second.std() == pytest.approx(1.0, abs=0.03)
    # The level is a new one, in the unit that is asked for.
    level = (theta - mean)[:, INDEX["ln_loss"]], (asked - mean)[:, INDEX["ln_loss"]]
    assert abs(np.corrcoef(*level)[0, 1]) < 0.03
    known, _ = population.new_studies(20_000, generator, unit_known=True)
    assert asked[:, 0].std() == pytest.approx(known[:, 0].std(), rel=0.1)


def test_most_studies_are_credible_and_a_wild_one_is_not() -> None:
    theta, _ = shipped_population().new_studies(200, np.random.default_rng(0), unit_known=True)
    assert 0.8 < credible(theta).mean() < 1
    wild = theta[credible(theta)][:1].copy()
    wild[0, INDEX["ln_depth_cost"]] = 4.0
    assert not credible(wild)[0]
