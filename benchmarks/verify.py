"""Is `shapelaw verify` right as often as it claims, where the truth is known?

    python -m benchmarks.verify ANSWER.json [--truths 200] [--flops 1e14] [--json]

Each truth is a study drawn from the population; the plan's proxies are given losses by it, with
its own noise, and the population is turned into the law of these runs. A verdict of `stands` claims
with the answer's confidence that no rival is better; so does `does not stand` the contrary.
"""

import argparse
import json
from collections import Counter
from typing import Any

import numpy as np

from shapelaw.results.evidence.shipped_evidence import shipped_population
from shapelaw.verification.verdict import (
    FALLS,
    OPEN,
    STANDS,
    Runs,
    belief_after,
    belief_of,
    rivals_of,
)
from shapelaw.verification.verify import plan_verification, would_be


def trial(plan: Any, truth: np.ndarray, seed: int) -> tuple[str, bool]:
    """The verdict on runs of one truth [1, p + 2], and whether the pick stands in truth."""
    population = shipped_population()
    generator = np.random.default_rng(seed)
    runs: Runs = would_be(plan.question, list(plan.proxies), plan.seeds)
    row, run = np.exp(truth[0, -2]), np.exp(truth[0, -1])
    loss = runs.predicted(truth)[0] + row * generator.standard_t(4.0, len(runs.run))
    loss = loss + (run * generator.standard_t(4.0, runs.run.max() + 1))[runs.run]
    seen = Runs(runs.features, loss, runs.run, runs.weight)
    after = belief_after(population, plan.question, seen, seed)
    rivals = rivals_of(plan.question)
    verdict = after.verdict(rivals, plan.question.confidence)
    return verdict, belief_of(truth, plan.question).probability(rivals) > 0.5


def report(answer: str, truths: int, flops: float, seed: int = 1) -> dict[str, Any]:
    """Counts of each verdict, and the share of them that is right."""
    plan = plan_verification(answer, flops)
    population = shipped_population()
    theta, _ = population.new_studies(truths, np.random.default_rng(seed), unit_known=True)
    found = [trial(plan, theta[[number]], number) for number in range(truths)]
    count = Counter(found)
    said = {name: count[name, True] + count[name, False] for name in (STANDS, FALLS, OPEN)}
    return {
        "truths": truths,
        "flops": plan.flops,
        "runs": plan.runs,
        "claimed": plan.question.confidence,
        "expected_power": plan.power,
        "verdicts": said,
        "stands_right": count[STANDS, True] / said[STANDS] if said[STANDS] else None,
        "falls_right": count[FALLS, False] / said[FALLS] if said[FALLS] else None,
        "pick_stands_in_truth": sum(truth for _, truth in found) / truths,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("answer")
    parser.add_argument("--truths", type=int, default=200)
    parser.add_argument("--flops", type=float, default=1e14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = report(asked.answer, asked.truths, asked.flops, asked.seed)
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:22} {value}")
    print(f"bar: each verdict is right in at least {figures['claimed']:g} of its cases")


if __name__ == "__main__":
    main()
