"""How well the pooled evidence was held out. `python -m benchmarks.evidence --json`

Fits the population anew without each family (minutes each; kept in --keep), then scores.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.left_out import population_without
from benchmarks.evidence.scores import (
    accuracy_by_depth,
    few_shot,
    law_of,
    published_pairs,
    shape_differences,
)
from benchmarks.evidence.studies import Study, all_studies
from shapelaw.results.evidence.shipped_evidence import evidence_law

_LEAST_ROWS = 30
COUNTS = (4, 8, 16)


def geometric(values: list[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def shapes(studies: list[Study], keep: Path) -> dict[str, Any]:
    """Differences of shape in every study that varies it, by populations without its family."""
    found = {
        study.name: shape_differences(study, population_without(study.family, studies, keep))
        for study in studies
        if study.shape
    }
    return {
        "studies": found,
        "ratio_geometric_mean": geometric([one["ratio"] for one in found.values()]),
        "coverage_mean": float(np.mean([one["coverage"] for one in found.values()])),
    }


def few(studies: list[Study], keep: Path, repetitions: int) -> dict[str, Any]:
    """Few-shot scores of every table."""
    answer: dict[str, Any] = {}
    for count in COUNTS:
        found = {
            study.name: few_shot(
                study, population_without(study.family, studies, keep), count, repetitions
            )
            for study in studies
            if len(study) >= _LEAST_ROWS
        }
        answer[str(count)] = {
            "tables": found,
            "ratio_geometric_mean": geometric([one["ratio"] for one in found.values()]),
            "coverage_mean": float(np.mean([one["coverage"] for one in found.values()])),
        }
    return answer


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("build/evidence"))
    parser.add_argument("--repetitions", type=int, default=20)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    studies = all_studies()
    without_gemstones = population_without("gemstones", studies, arguments.keep)
    answer = {
        "shape": shapes(studies, arguments.keep),
        "few_shot": few(studies, arguments.keep, arguments.repetitions),
        "published_pairs_without_gemstones": published_pairs(law_of(without_gemstones)),
        "accuracy_by_depth": accuracy_by_depth(evidence_law()),
    }
    print(json.dumps(answer, indent=None if arguments.json else 1))


if __name__ == "__main__":
    main()
