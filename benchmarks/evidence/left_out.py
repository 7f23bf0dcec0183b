"""Populations fitted without one family, kept in a folder between the scores that ask for them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.evidence.posterior import sample
from benchmarks.evidence.studies import Study
from shapelaw.scaling.evidence.study_population import Population, read_population, write_population

WARMUP, DRAWS, TREE_DEPTH = 300, 300, 7


def population_without(family: str, studies: Sequence[Study], folder: Path) -> Population:
    """The population of all other families: read where it was kept, else fitted and kept."""
    path = folder / f"without-{family}.npz"
    if not path.is_file():
        found = sample(
            studies, leave=(family,), warmup=WARMUP, draws=DRAWS, chains=1, tree_depth=TREE_DEPTH
        )
        write_population(found.population, path)
    return read_population(path)
