"""How well the pooled evidence was held out. `python -m benchmarks.evidence --json`

Fits the population anew without each family, then scores: about an hour of one core. Populations
and few-shot scores are kept in the folder --keep and read from there: name another folder after a
change of the model. With --write the scores are also kept beside the draws, where
`benchmarks.evidence.readme` reads them.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.left_out import LeftOut, own_draws
from benchmarks.evidence.rebuild import FOLDER
from benchmarks.evidence.scores import (
    accuracy_by_depth,
    few_shot,
    law_of,
    published_pairs,
    scored,
    shape_differences,
)
from shapelaw.results.evidence.shipped_evidence import evidence_law
from shapelaw.scaling.atomic_files import replacing

SCORES = FOLDER / "scores.json"
_LEAST_ROWS = 30
COUNTS = (4, 8, 16)
EQUAL_N = {"equal_n": 0.12, "same_size": 0.5}
"""What counts as equal N, in ln N: sizes that were meant to be the same, and the same class of
size, where the level's error in N is part of the score."""


def geometric(values: list[float]) -> float:
    """Geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


def shapes(left_out: LeftOut, families: list[str]) -> dict[str, Any]:
    """Differences of shape in every family that varies it, by populations that have not seen it."""
    own = own_draws(left_out.studies, left_out.folder)
    answer: dict[str, Any] = {}
    for label, equal_n in EQUAL_N.items():
        found = {}
        for family in families:
            members = [s for s in left_out.studies if s.family == family and s.shape]
            differences = [
                shape_differences(study, left_out.without(family), own.get(study.name), equal_n)
                for study in members
            ]
            if any(len(one.inside) for one in differences):
                found[family] = scored(differences)
        answer[label] = {"families": found}
        if found:
            answer[label]["ratio_geometric_mean"] = geometric([f["ratio"] for f in found.values()])
            answer[label]["coverage_mean"] = float(
                np.mean([one["coverage"] for one in found.values()])
            )
    return answer


def few(left_out: LeftOut, families: list[str], repetitions: int) -> dict[str, Any]:
    """Few-shot scores of every table."""
    tables = [s for s in left_out.studies if len(s) >= _LEAST_ROWS and s.family in families]
    found: dict[int, dict[str, dict[str, float]]] = {count: {} for count in COUNTS}
    for study in tables:
        population = left_out.without(study.family)
        for count in COUNTS:
            kept = (
                left_out.folder / f"few-{study.name.replace(' ', '-')}-{count}-{repetitions}.json"
            )
            if not kept.is_file():
                score = few_shot(study, population, count, repetitions)
                kept.write_text(json.dumps(score) + "\n", encoding="utf-8")
            found[count][study.name] = json.loads(kept.read_text(encoding="utf-8"))
        say(f"few-shot {study.name}: {[found[count][study.name] for count in COUNTS]}")
    return {
        str(count): {
            "tables": of_count,
            "ratio_geometric_mean": geometric([one["ratio"] for one in of_count.values()]),
            "coverage_mean": float(np.mean([one["coverage"] for one in of_count.values()])),
        }
        for count, of_count in found.items()
        if of_count
    }


def main() -> None:
    """Print the scores."""
    from benchmarks.evidence.studies import all_studies

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("build/evidence"))
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--families", nargs="+", help="score these only")
    parser.add_argument("--parts", nargs="+", choices=("shape", "few"), default=["shape", "few"])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    left_out = LeftOut(all_studies(), arguments.keep)
    families = arguments.families or list(dict.fromkeys(s.family for s in left_out.studies))
    for family in families:
        left_out.without(family)
        say(f"without {family}: {left_out.quality(family)}")
    answer: dict[str, Any] = {
        "draws": {family: left_out.quality(family) for family in families},
        "accuracy_by_depth": accuracy_by_depth(evidence_law()),
    }
    if "shape" in arguments.parts:
        answer["shape"] = shapes(left_out, families)
    if "gemstones" in families:
        pairs = published_pairs(law_of(left_out.without("gemstones")))
        answer["published_pairs_without_gemstones"] = pairs
    if "few" in arguments.parts:
        answer["repetitions"] = arguments.repetitions
        answer["few_shot"] = few(left_out, families, arguments.repetitions)
    text = json.dumps(answer, indent=None if arguments.json else 1)
    if arguments.write:
        with replacing(SCORES) as temporary:
            temporary.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
