"""Populations fitted without one family, kept in a folder between the scores that ask for them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.posterior import FEW_ROWS, Posterior, sample
from benchmarks.evidence.studies import Study
from benchmarks.evidence.study_draws import StudyDraws, kept_draws
from shapelaw.scaling.evidence.study_population import Population, read_population, write_population

SETTINGS: Mapping[str, Any] = {
    "warmup": 200,
    "draws": 500,
    "chains": 2,
    "seed": 0,
    "tree_depth": 8,
}

LEFT_OUT: Mapping[str, Any] = {**SETTINGS, "warmup": 150, "draws": 250, "chains": 1}
"""Without a family: a third of the work; how many draws are effective is told with the scores."""


def own_draws(studies: Sequence[Study], folder: Path) -> dict[str, StudyDraws]:
    """Draws of every long study by itself, kept in the folder."""
    return {s.name: kept_draws(s, folder) for s in studies if len(s) >= FEW_ROWS}


def fitted(studies: Sequence[Study], folder: Path, leave: Sequence[str] = ()) -> Posterior:
    """The population of all studies, or without the families in `leave`."""
    settings = LEFT_OUT if leave else SETTINGS
    return sample(studies, own_draws(studies, folder), leave=leave, **settings)


@dataclasses.dataclass(frozen=True, eq=False)
class LeftOut:
    """Populations that have not seen a family."""

    studies: Sequence[Study]
    folder: Path

    def without(self, family: str) -> Population:
        """The population of all other families: read where it was kept, else fitted and kept."""
        path = self.folder / f"without-{family}.npz"
        if not path.is_file():
            found = fitted(self.studies, self.folder, (family,))
            write_population(found.population, path)
            told = {
                "fewest_effective": min(found.effective.values()),
                "largest_r_hat": max(found.r_hat.values()),
                "diverging": found.diverging,
            }
            path.with_suffix(".json").write_text(json.dumps(told) + "\n", encoding="utf-8")
        return read_population(path)

    def quality(self, family: str) -> dict[str, float]:
        """How well its draws stand for the posterior."""
        path = self.folder / f"without-{family}.json"
        found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return found
