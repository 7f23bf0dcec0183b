"""The share of a swept working set that a random-replacement cache keeps."""

import numpy as np

from shapelaw.search.devices.cache_residency import resident_share


def test_the_share_solves_its_equation() -> None:
    w = np.array([1.05, 1.5, 2.0, 4.0, 10.0])
    h = resident_share(w, 1.0)
    np.testing.assert_allclose(h, np.exp(-(1 - h) * w), atol=3e-6)


def test_what_fits_stays_and_much_more_does_not() -> None:
    h = resident_share(np.array([0.01, 0.5, 1.0, 100.0]), 1.0)
    assert h.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_it_falls_with_the_working_set() -> None:
    h = resident_share(np.linspace(0.5, 60, 5000), 1.0)
    assert np.all(np.diff(h) <= 0)


def test_it_agrees_with_a_simulated_cache() -> None:
    """Sweep 1.5 times the cache's lines cyclically, evicting at random."""
    generator = np.random.default_rng(0)
    lines, kept = 3000, 2000
    slots = list(range(kept))
    where = {line: line for line in range(kept)}
    hits = 0
    for sweep in range(40):
        for line in range(lines):
            if line in where:
                hits += sweep >= 20
                continue
            slot = int(generator.integers(kept))
            del where[slots[slot]]
            slots[slot] = line
            where[line] = slot
    share = hits / (20 * lines)
    assert abs(share - resident_share(np.array([1.5]), 1.0)[0]) < 0.02
