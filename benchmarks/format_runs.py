"""What weight formats cost the project's own runs: the law of the price, and rounded training.

    python -m benchmarks.format_runs [--json] [--write results/reference/formats/REPORT.md]

From the records of the preset `formats` (results/reference/formats). The price of a type is
fitted as δ = e^a · (D / 1e6)^d · (N / 3e4)^-n · (depth / 2)^l for the blocks and a like term,
without depth, for the embedding, to both measurements of every run; a configuration (shape and
budget) is then left out with all its seeds and predicted.

The depth exponent, the weights by the predicted price (by the measured one, small measurements
would count too much) and the ridge were chosen in the training part alone: by leaving out one more
configuration of what was left. Chosen anew for each configuration left out, the errors are 13.4 %
(q4_0), 13.8 % (q4_k) and 10.8 % (q3_k). With --write the report becomes a page of its own.
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
NAMES = (
    "blocks_ln", "blocks_d", "blocks_n", "embedding_ln", "embedding_d", "embedding_n",
    "blocks_depth",
)  # fmt: skip
START = (-4.0, 0.4, 0.5, -4.0, 0.1, 0.5, 0.0)
"""ln of the price at 1e6 tokens, 3e4 parameters and 2 layers, exponents of D and 1/N; blocks,
embedding; exponent of depth."""
REWEIGHTED = 3
"""Times that the runs are weighted, first by their measured prices and then by the predicted."""
PUBLISHED = {
    "Kumar (arXiv 2411.04330)": (0.5068, 0.3439),
    "Ouyang (arXiv 2411.17691)": (0.5251, 0.2261),
}
"""Exponents of D and 1/N of published laws of post-training rounding."""
RIDGE = 1.0
"""Weight of the pull to START, in units of an exponent of one: some types say little alone."""


class Prices:
    """The prices of one type in many runs, and the law fitted to them."""

    def __init__(self, records: list[RunRecord], type_name: str) -> None:
        measured = [record.loss_by_format[type_name] for record in records]
        self.ln_d = np.log([record.tokens / 1e6 for record in records])
        self.ln_n = np.log([record.n_parameters.non_embedding / 3e4 for record in records])
        self.ln_depth = np.log([_depth(record) / 2 for record in records])
        self.whole = np.array([one.difference for one in measured])
        self.whole_error = np.array([one.standard_error for one in measured])
        self.blocks = np.array([one.blocks_difference or 0.0 for one in measured])
        self.blocks_error = np.array([one.blocks_standard_error or 0.0 for one in measured])

    def predicted(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Price of all matrices and of the blocks alone, nats [runs]."""
        a, d, n, b, e, m, depth = parameters
        blocks = np.exp(a + d * self.ln_d - n * self.ln_n + depth * self.ln_depth)
        return blocks + np.exp(b + e * self.ln_d - m * self.ln_n), blocks

    def fitted(self, weight: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """Parameters by iterated weighted least squares; `weight` [runs] counts each run."""
        found = np.array(START) if start is None else start
        root = np.sqrt(weight)
        whole, blocks = self.whole, self.blocks
        for _ in range(REWEIGHTED):
            scale = np.hypot(self.whole_error, SEED_SCATTER * whole)
            block_scale = np.hypot(self.blocks_error, SEED_SCATTER * blocks)

            def residuals(
                parameters: np.ndarray, scale: np.ndarray = scale, below: np.ndarray = block_scale
            ) -> np.ndarray:
                whole, blocks = self.predicted(parameters)
                apart = ((whole - self.whole) / scale, (blocks - self.blocks) / below)
                pull = RIDGE * (parameters - START)
                return np.concatenate([*(root * one for one in apart), pull])

            found = np.asarray(optimize.least_squares(residuals, found, loss="soft_l1").x)
            whole, blocks = self.predicted(found)
        return found


def _depth(record: RunRecord) -> int:
    return record.architecture.n_blocks * record.architecture.sharing


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
        counts = np.sum([c * g for c, g in zip(chosen, groups, strict=True)], 0)
        draws.append(prices.fitted(counts, law))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return {
        "parameters": dict(zip(NAMES, law.tolist(), strict=True)),
        "intervals": {
            name: [float(a), float(b)] for name, a, b in zip(NAMES, low, high, strict=True)
        },
        "mean_price": float(prices.whole.mean()),
        "left_out_median_error": float(np.median(by_configuration)),
        "left_out_median_error_of_a_run": float(np.median(by_run)),
        "left_out_median_error_of_a_constant": float(np.median(by_constant)),
    }


Pairs = dict[tuple[int, int, int], tuple[float, float]]
"""(parameters, tokens, seed) -> price of int4 rounded after training, and through the decay."""


def int4_pairs(records: list[RunRecord]) -> Pairs:
    """Every run rounded while training beside the same run in float."""
    plain = {
        (r.architecture, r.tokens, r.seed): r for r in records if r.recipe.weight_format == "f16"
    }
    found: Pairs = {}
    for record in records:
        other = plain.get((record.architecture, record.tokens, record.seed))
        if record.recipe.weight_format != "int4_g32" or other is None:
            continue
        assert record.loss is not None
        assert other.loss is not None
        after = other.loss_by_format["int4_g32_f32"].difference
        at = (record.n_parameters.non_embedding, record.tokens, record.seed)
        found[at] = (after, record.loss - other.loss)
    return found


def rounding_while_training(records: list[RunRecord]) -> list[dict[str, Any]]:
    """By size and budget, the mean over seeds."""
    rows: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for (size, tokens, _), pair in int4_pairs(records).items():
        rows[(size, tokens)].append(pair)
    return [
        {
            "non_embedding": size,
            "tokens": tokens,
            "seeds": len(pairs),
            "rounded_after": float(np.mean([after for after, _ in pairs])),
            "rounded_while_training": float(np.mean([through for _, through in pairs])),
        }
        for (size, tokens), pairs in sorted(rows.items())
    ]


def share_saved(records: list[RunRecord]) -> dict[str, Any]:
    """What is left of the price where weights are rounded while training.

    The budgets of one size and seed share a trunk: they are one observation. Intervals are by
    Student's t over the trunks, of the ratio (in its logarithm) and of the difference.
    """
    trunks: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for (size, _, seed), pair in int4_pairs(records).items():
        trunks[(size, seed)].append(pair)
    sums = np.array([np.mean(pairs, axis=0) for pairs in trunks.values()])
    ratios, differences = np.log(sums[:, 1] / sums[:, 0]), sums[:, 1] - sums[:, 0]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(sums) - 1)
    error, wide = half * stats.sem(ratios), half * stats.sem(differences)
    middle, gap = ratios.mean(), float(differences.mean())
    return {
        "ratio": float(np.exp(middle)),
        "interval": [float(np.exp(middle - error)), float(np.exp(middle + error))],
        "difference": gap,
        "difference_interval": [gap - float(wide), gap + float(wide)],
        "trunks": len(sums),
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
    parser.add_argument("--write", type=Path, help="Markdown page of the figures")
    options = parser.parse_args()
    found = report(read_records(RECORDS))
    if options.json:
        print(json.dumps(found))
        return
    page = "\n".join(lines(found))
    if options.write is not None:
        options.write.write_text(page + "\n", encoding="utf-8")
    print(page)


def lines(found: dict[str, Any]) -> list[str]:
    """The figures as Markdown."""
    saved = found["int4_while_training"]
    page = [
        "# What a weight format costs the own runs",
        "",
        "Written by `python -m benchmarks.format_runs --write`; do not edit.",
        "",
        f"{found['runs']} runs of {found['sizes'][0]:,} to {found['sizes'][-1]:,} parameters, "
        f"seeds {', '.join(map(str, found['seeds']))}, up to "
        f"{found['most_tokens_per_parameter']:.0f} "
        f"tokens a parameter; measuring took {found['measuring_over_training']:.1%} of training.",
        "",
        "One configuration (shape and budget) left out with its seeds: median relative error. "
        "Exponents of the blocks' price with 90 % intervals (configurations drawn again).",
        "",
        "| type | mean price, nats | left out | a constant | D | 1/N | depth |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, law in found["price"].items():
        at, ends = law["parameters"], law["intervals"]
        exponents = " | ".join(
            f"{at[key]:.2f} [{ends[key][0]:.2f}, {ends[key][1]:.2f}]"
            for key in ("blocks_d", "blocks_n", "blocks_depth")
        )
        page.append(
            f"| {name} | {law['mean_price']:.4f} | {law['left_out_median_error']:.1%} | "
            f"{law['left_out_median_error_of_a_constant']:.1%} | {exponents} |"
        )
    page += [f"| {name} | | | | {d} | {n} | |" for name, (d, n) in PUBLISHED.items()]
    page += [
        "",
        "int4 in groups of 32, rounded after training and read rounded through the decay "
        "(quantisation-aware), each against the same run in float; nats:",
        "",
        "| parameters | tokens | rounded after | while training |",
        "|---|---|---|---|",
    ]
    page += [
        f"| {row['non_embedding']:,} | {row['tokens']:,} | {row['rounded_after']:.4f} | "
        f"{row['rounded_while_training']:.4f} |"
        for row in found["int4_by_configuration"]
    ]
    page += [
        "",
        f"While training costs {saved['ratio']:.2f} of after "
        f"[{saved['interval'][0]:.2f}, {saved['interval'][1]:.2f}] (90 %, {saved['trunks']} "
        f"trunks of one size and seed); the difference is {saved['difference']:.4f} nats "
        f"[{saved['difference_interval'][0]:.4f}, {saved['difference_interval'][1]:.4f}].",
    ]
    return page


if __name__ == "__main__":
    main()
