"""What weight formats cost the project's own runs: the law of the price, and rounded training.

    python -m benchmarks.format_runs [--json]

From the records of the preset `formats` (results/reference/formats). The price of a type is
fitted as δ = e^a · (D / 1e6)^d · (N / 3e4)^-n for the blocks and a like term for the embedding, to
both measurements of every run; a configuration (shape and budget) is then left out with all its
seeds and predicted.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records

RECORDS = Path(__file__).resolve().parents[1] / "results" / "reference" / "formats"
TYPES = ("q4_0", "q4_k", "q3_k", "q2_k", "int4_g32_f32")
SEED_SCATTER = 0.15
"""Relative scatter of a price between seeds, beside the windows' standard error."""
CONFIDENCE = 0.9
DRAWS = 200
START = (-4.0, 0.4, 0.5, -4.0, 0.1, 0.5)
"""ln of the price at 1e6 tokens and 3e4 parameters, exponents of D and 1/N; blocks, embedding."""
RIDGE = 0.5
"""Weight of the pull to START, in units of an exponent of one: some types say little alone."""


class Prices:
    """The prices of one type in many runs, and the law fitted to them."""

    def __init__(self, records: list[RunRecord], type_name: str) -> None:
        measured = [record.loss_by_format[type_name] for record in records]
        self.ln_d = np.log([record.tokens / 1e6 for record in records])
        self.ln_n = np.log([record.n_parameters.non_embedding / 3e4 for record in records])
        self.whole = np.array([one.difference for one in measured])
        self.whole_error = np.array([one.standard_error for one in measured])
        self.blocks = np.array([one.blocks_difference or 0.0 for one in measured])
        self.blocks_error = np.array([one.blocks_standard_error or 0.0 for one in measured])

    def predicted(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Price of all matrices and of the blocks alone, nats [runs]."""
        a, d, n, b, e, m = parameters
        blocks = np.exp(a + d * self.ln_d - n * self.ln_n)
        return blocks + np.exp(b + e * self.ln_d - m * self.ln_n), blocks

    def fitted(self, weight: np.ndarray) -> np.ndarray:
        """Parameters by weighted least squares; `weight` [runs] counts each run."""

        def residuals(parameters: np.ndarray) -> np.ndarray:
            whole, blocks = self.predicted(parameters)
            apart = (
                (whole - self.whole) / np.hypot(self.whole_error, SEED_SCATTER * self.whole),
                (blocks - self.blocks) / np.hypot(self.blocks_error, SEED_SCATTER * self.blocks),
            )
            pull = RIDGE * (parameters - START)
            return np.concatenate([*(np.sqrt(weight) * one for one in apart), pull])

        return np.asarray(optimize.least_squares(residuals, START, loss="soft_l1").x)


def configurations(records: list[RunRecord]) -> list[np.ndarray]:
    """Masks [runs] of each shape and budget, all seeds together."""
    keys = [(record.architecture, record.tokens) for record in records]
    return [np.array([key == one for key in keys]) for one in dict.fromkeys(keys)]


def price_law(records: list[RunRecord], type_name: str) -> dict[str, Any]:
    """Exponents with intervals, and the error on configurations left out."""
    prices = Prices(records, type_name)
    groups = configurations(records)
    every = np.ones(len(records))
    law = prices.fitted(every)
    by_configuration, by_run, by_constant = [], [], []
    for out in groups:
        whole, _ = prices.predicted(prices.fitted(every * ~out))
        mean = prices.whole[out].mean()
        constant = math.exp(np.log(np.maximum(prices.whole[~out], 1e-5)).mean())
        by_configuration.append(abs(whole[out].mean() / mean - 1))
        by_run += list(np.abs(whole[out] / prices.whole[out] - 1))
        by_constant.append(abs(constant / mean - 1))
    source = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        chosen = source.multinomial(len(groups), np.full(len(groups), 1 / len(groups)))
        draws.append(prices.fitted(np.sum([c * g for c, g in zip(chosen, groups, strict=True)], 0)))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    names = ("blocks_ln", "blocks_d", "blocks_n", "embedding_ln", "embedding_d", "embedding_n")
    return {
        "parameters": dict(zip(names, law.tolist(), strict=True)),
        "intervals": {
            name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)
        },
        "mean_price": float(prices.whole.mean()),
        "left_out_median_error": float(np.median(by_configuration)),
        "left_out_median_error_of_a_run": float(np.median(by_run)),
        "left_out_median_error_of_a_constant": float(np.median(by_constant)),
    }


def rounding_while_training(records: list[RunRecord]) -> list[dict[str, Any]]:
    """By size and budget: what int4 costs when rounded after, and through the decay.

    `saved` is the mean over seeds of the difference of the two, with its interval by Student's t
    over all pairs of the size.
    """
    plain = {
        (r.architecture, r.tokens, r.seed): r for r in records if r.recipe.weight_format == "f16"
    }
    rows: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        other = plain.get((record.architecture, record.tokens, record.seed))
        if record.recipe.weight_format != "int4_g32" or other is None:
            continue
        assert record.loss is not None
        assert other.loss is not None
        after = other.loss_by_format["int4_g32_f32"].difference
        at = (record.n_parameters.non_embedding, record.tokens)
        rows[at].append((after, record.loss - other.loss))
    found = []
    for (size, tokens), pairs in sorted(rows.items()):
        after, through = np.array(pairs).T
        found.append(
            {
                "non_embedding": size,
                "tokens": tokens,
                "seeds": len(pairs),
                "rounded_after": float(after.mean()),
                "rounded_while_training": float(through.mean()),
            }
        )
    return found


def share_saved(records: list[RunRecord]) -> dict[str, Any]:
    """Mean over pairs of ln(price while training / price after), as a ratio with its interval."""
    rows = rounding_while_training(records)
    ratios = np.log([one["rounded_while_training"] / one["rounded_after"] for one in rows])
    error = stats.sem(ratios) * stats.t.ppf((1 + CONFIDENCE) / 2, len(ratios) - 1)
    middle = ratios.mean()
    return {
        "ratio": float(np.exp(middle)),
        "interval": [float(np.exp(middle - error)), float(np.exp(middle + error))],
        "configurations": len(rows),
    }


def report(records: list[RunRecord]) -> dict[str, Any]:
    """All figures."""
    records = [record for record in records if record.loss is not None and record.loss_by_format]
    plain = [record for record in records if record.recipe.weight_format == "f16"]
    measuring = sum(record.format_seconds for record in records)
    training = sum(record.wall_seconds for record in records) - measuring
    return {
        "runs": len(plain),
        "sizes": sorted({record.n_parameters.non_embedding for record in plain}),
        "seeds": sorted({record.seed for record in plain}),
        "most_tokens_per_parameter": max(
            record.tokens / record.n_parameters.non_embedding for record in plain
        ),
        "measuring_over_training": measuring / training,
        "price": {name: price_law(plain, name) for name in TYPES},
        "int4_while_training": share_saved(records),
        "int4_by_configuration": rounding_while_training(records),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = report(read_records(RECORDS))
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['runs']} runs of {found['sizes']} parameters; measuring took "
          f"{found['measuring_over_training']:.1%} of training")  # fmt: skip
    for name, law in found["price"].items():
        at, low = law["parameters"], law["intervals"]
        print(f"{name:13} mean {law['mean_price']:.4f} nats; "
              f"left out {law['left_out_median_error']:.1%} "
              f"(a constant {law['left_out_median_error_of_a_constant']:.1%}); blocks "
              f"D^{at['blocks_d']:.2f} {np.round(low['blocks_d'], 2)} "
              f"N^-{at['blocks_n']:.2f} {np.round(low['blocks_n'], 2)}")  # fmt: skip
    saved = found["int4_while_training"]
    print(f"int4 rounded while training costs {saved['ratio']:.2f} of rounded after "
          f"[{saved['interval'][0]:.2f}, {saved['interval'][1]:.2f}]")  # fmt: skip


if __name__ == "__main__":
    main()
