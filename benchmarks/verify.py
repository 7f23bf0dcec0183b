"""Is `shapelaw verify` right as often as it claims, where the truth is known?

    python -m benchmarks.verify ANSWER.json [--truths 200] [--flops 1e14] [--json]

Each truth is a study of proxies drawn from the population, the study asked about, which has as much
of its shape as `carried_shape` says, and losses of the plan's proxies with noise. The population is
turned into the law of these losses. A verdict of `stands` claims with the probability that it
states, at least the answer's confidence, that no rival is better; `does not stand` the contrary.
"""

import argparse
import itertools
import json
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
    truths,
)
from shapelaw.verification.verify import plan_verification, would_be

BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0)
"""Edges of the stated probabilities that are compared with how often they come true."""


def report(answer: str, count: int, flops: float, seed: int = 1) -> dict[str, Any]:
    """Verdicts, the share of each that is right, and the reliability of probabilities."""
    plan = plan_verification(answer, flops)
    population, question = shipped_population(), plan.question
    would: Runs = would_be(question, list(plan.proxies), plan.seeds)
    generator = np.random.default_rng(seed)
    drawn = truths(population, question, would, 2 * count, generator)
    rivals = rivals_of(question)
    stated, holds = np.zeros(count), np.zeros(count, dtype=bool)
    for number in range(count):
        seen = Runs(would.features, drawn.log_loss[number], would.run, would.weight)
        after = belief_after(population, question, seen, seed=1000 * seed + number)
        stated[number] = after.probability(rivals)
        holds[number] = belief_of(drawn.asked[[number]], question).probability(rivals) > 0.5
    sure = question.confidence
    of = {STANDS: stated >= sure, FALLS: 1 - stated >= sure}
    of[OPEN] = ~(of[STANDS] | of[FALLS])
    claims, right = np.maximum(stated, 1 - stated), np.where(stated >= 0.5, holds, ~holds)

    def mean(values: np.ndarray, among: np.ndarray) -> float | None:
        return float(values[among].mean()) if among.any() else None

    return {
        "truths": count,
        "flops": plan.flops,
        "runs": plan.runs,
        "confidence": sure,
        "probability_before": plan.before.probability(rivals),
        "pick_stands_in_truth": float(holds.mean()),
        "power": plan.power,
        "settled": float(np.mean(~of[OPEN])),
        "verdicts": {name: int(among.sum()) for name, among in of.items()},
        "stands_claimed": mean(claims, of[STANDS]),
        "stands_right": mean(right, of[STANDS]),
        "falls_claimed": mean(claims, of[FALLS]),
        "falls_right": mean(right, of[FALLS]),
        "reliability": [
            {"from": low, "to": high, "truths": int(among.sum()), "stated": mean(stated, among),
             "came_true": mean(holds, among)}
            for low, high in itertools.pairwise(BINS)
            if (among := (stated >= low) & ((stated < high) | (high == 1.0))).any()
        ],
    }  # fmt: skip


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
        if name != "reliability":
            print(f"{name:22} {value}")
    for one in figures["reliability"]:
        print(
            f"stated {one['from']:.2f} to {one['to']:.2f}: {one['truths']:4d} truths, mean "
            f"{one['stated']:.3f}, came true {one['came_true']:.3f}"
        )
    print(f"bar: each verdict is right in at least {figures['confidence']:g} of its cases")


if __name__ == "__main__":
    main()
