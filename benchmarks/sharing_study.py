"""What is sharing worth? Estimates from the runs of the preset `sharing`, whichever there are.

    python -m benchmarks.sharing_study [RUNS] [--json]     RUNS: a sweep's folder or its runs.jsonl
    python -m benchmarks.sharing_study --write             results/sharing/README.md anew

At one budget ln(loss) is a level for each cell plus one for each seed, by least squares; what is
left is one variance, pooled over cells and seeds. Where fewer than `LEAST_FREEDOM` degrees of
freedom are left, the noise of `shapelaw.sweeps.design.power` stands for it, and the text says so.
Intervals are 90 %, of Student's t.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records
from shapelaw.sweeps.design import power
from shapelaw.sweeps.design.design import load_design
from shapelaw.sweeps.design.layout import layout
from shapelaw.sweeps.training.trunk import resolve

FOLDER = Path(__file__).parents[1] / "results" / "sharing"
LEVEL = 0.9
LEAST_FREEDOM = 6
"""Fewer tell a variance to worse than a factor of two either way."""
WIDEST = 0.005
"""Half-width of the 90 % intervals that the study is to reach."""
DRAWS = 20_000

DEPTHS = (4, 8)
NAMES = {
    "distinct": "A",
    "twice": "B",
    "narrow": "C",
    "wide": "D",
    "cycle": "B in cycles",
    "prelude": "B with prelude, coda and injection",
    "thrice": "B, three times",
}
CONTRASTS = (
    ("twice", "distinct", "another application of the same blocks"),
    ("narrow", "distinct", "depth without more parameters"),
    ("twice", "narrow", "sharing against distinct blocks, equal parameters and depth"),
    ("wide", "twice", "the parameters that sharing saves"),
    ("cycle", "twice", "cycles instead of one block twice running"),
    ("prelude", "twice", "prelude, coda and injection"),
    ("thrice", "twice", "a third application"),
)
"""(cell, the cell it is compared with, what the difference is worth)."""
DEPTH_FORMS = {"a power of depth": 1, "an optimum of depth": 2}
"""Degree of ln(loss) in ln(depth)."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run of the study in one cell; C at 4 layers is A at 8 and counts as both."""

    cell: str
    depth: int
    """Base depth: distinct blocks of A."""
    seed: int
    tokens: int
    log_loss: float
    learning_rate: float = 1.0
    """Multiple of the rule's."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate with its 90 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of what lies between its ends."""
        return (self.high - self.low) / 2


def cell_of(label: str) -> tuple[str, int]:
    """Cell and base depth that a label of the preset names."""
    letter, depth, rest = label[0], int(label[1]), label[2:]
    cell = {"A": "distinct", "B": "twice", "C": "narrow", "D": "wide"}[letter]
    for word, other in (("cycles", "cycle"), ("prelude", "prelude"), ("three", "thrice")):
        if word in rest:
            cell = other
    return cell, depth


def runs_of(records: Sequence[RunRecord]) -> list[Run]:
    """The finished records that the preset asked for, once for each cell that they are in."""
    cells: dict[Any, set[tuple[str, int]]] = {}
    for part in load_design("sharing").parts():
        for run in part.runs or ():
            cells.setdefault(run.architecture.build(), set()).add(cell_of(run.label))
    rule = {
        one.architecture: resolve(one.job).learning_rate / one.job.learning_rate
        for one in layout(load_design("sharing"))[0]
    }
    found = []
    for record in records:
        shape = record.architecture.build()
        if record.status != "finished" or record.loss is None or shape not in cells:
            continue
        multiple = round(record.recipe.learning_rate / rule[shape], 3)
        found += [
            Run(cell, depth, record.seed, record.tokens, math.log(record.loss), multiple)
            for cell, depth in sorted(cells[shape])
        ]
    return found


class Budget:
    """The levels of the cells at one budget, with their covariance."""

    def __init__(self, runs: Sequence[Run], tokens: int) -> None:
        """Fits what is left of `runs` at `tokens` and at the rule's learning rate."""
        self.tokens = tokens
        mine = [run for run in runs if run.tokens == tokens and run.learning_rate == 1.0]
        # A run that stands in two cells is one observation: one level for both.
        self.level_of: dict[tuple[str, int], int] = {}
        observed: dict[tuple[int, int], float] = {}
        for run in sorted(mine, key=lambda one: (one.depth, one.cell, one.seed)):
            key = (run.cell, run.depth)
            self.level_of.setdefault(key, self._twin(key, len(set(self.level_of.values()))))
            observed[self.level_of[key], run.seed] = run.log_loss
        levels = len(set(self.level_of.values()))
        seeds = sorted({seed for _, seed in observed})
        self.seeds = seeds
        self.design = np.zeros((len(observed), levels + max(0, len(seeds) - 1)))
        for row, (level, seed) in enumerate(observed):
            self.design[row, level] = 1.0
            if seed != seeds[0]:
                self.design[row, levels + seeds.index(seed) - 1] = 1.0
        values = np.array(list(observed.values()))
        self.inverse = np.linalg.pinv(self.design.T @ self.design, hermitian=True)
        self.estimate = self.inverse @ self.design.T @ values
        residual = values - self.design @ self.estimate
        self.freedom = len(values) - int(np.linalg.matrix_rank(self.design))
        self.pooled = self.freedom >= LEAST_FREEDOM
        noise = power.seed_noise(tokens) ** 2 * (1 - power.SHAPES_CORRELATE)
        self.variance = float(residual @ residual) / self.freedom if self.pooled else noise
        self.student = stats.t(self.freedom) if self.pooled else stats.norm()

    def _twin(self, key: tuple[str, int], fresh: int) -> int:
        """The level of C at 4 layers is that of A at 8."""
        twin = {("narrow", 4): ("distinct", 8), ("distinct", 8): ("narrow", 4)}.get(key)
        return self.level_of.get(twin, fresh) if twin else fresh

    def weights(self, first: str, second: str, depths: Sequence[int]) -> np.ndarray | None:
        """Weights of first − second, mean over the base depths; None where a cell is missing."""
        weights = np.zeros(self.design.shape[1])
        for depth in depths:
            for cell, sign in ((first, 1.0), (second, -1.0)):
                if (cell, depth) not in self.level_of:
                    return None
                weights[self.level_of[cell, depth]] += sign / len(depths)
        known = self.design.T @ self.design @ self.inverse @ weights
        return weights if np.allclose(known, weights) else None

    def interval(self, weights: np.ndarray) -> Interval:
        """Of a weighted sum of the levels."""
        value = float(weights @ self.estimate)
        error = math.sqrt(self.variance * float(weights @ self.inverse @ weights))
        reach = float(self.student.ppf((1 + LEVEL) / 2)) * error
        return Interval(value, value - reach, value + reach)

    def contrast(self, first: str, second: str, depths: Sequence[int]) -> Interval | None:
        """ln(loss of first / loss of second), mean over the base depths."""
        weights = self.weights(first, second, depths)
        return None if weights is None else self.interval(weights)


def equal_flops(small: Budget, large: Budget, depth: int) -> Interval | None:
    """B on half the tokens against A on all: about equal FLOPs. Noise of both budgets adds up."""
    keys = (("twice", depth), ("distinct", depth))
    if keys[0] not in small.level_of or keys[1] not in large.level_of:
        return None
    parts = []
    for budget, key in zip((small, large), keys, strict=True):
        level = np.zeros(budget.design.shape[1])
        level[budget.level_of[key]] = 1.0
        # The level for the mean seed: with all seeds in both, their luck is in both.
        level[budget.design.shape[1] - len(budget.seeds) + 1 :] = 1.0 / len(budget.seeds)
        parts.append(budget.interval(level))
    value = parts[0].value - parts[1].value
    reach = math.hypot(parts[0].half_width, parts[1].half_width)
    return Interval(value, value - reach, value + reach)


def phi_of(budget: Budget, degree: int, cell: str) -> Interval | None:
    """φ of a topology where the parameter term counts N_once + s^φ · N_shared (arXiv 2604.21106).

    ln(loss) = base + slope · ln(N counted) + polynomial in ln(applied depth), by least squares over
    all cells of a budget; D has twice the parameters and gives the slope. Draws of the coefficients
    give φ's interval, which holds the noise of runs and not the form's error; None where the cells
    there are do not determine φ.
    """
    once, times, applied = {
        "twice": (0.0, 2, 2.0),
        "cycle": (0.0, 2, 2.0),
        "thrice": (0.0, 3, 3.0),
        "prelude": (0.5, 3, 2.0),
    }[cell]
    used, twin = ("distinct", "narrow", "wide", cell), ("distinct", 8)
    rows, weights = [], []
    for (name, depth), level in budget.level_of.items():
        if name not in used or ((name, depth) == ("narrow", 4) and twin in budget.level_of):
            continue
        deep = math.log(depth * (1.0 if name == "distinct" else applied if name == cell else 2.0))
        rows.append(
            [
                1.0,
                math.log(2.0) if name == "wide" else 0.0,
                1.0 if name == cell else 0.0,
                *(deep**exponent for exponent in range(1, degree + 1)),
            ]
        )
        one = np.zeros(budget.design.shape[1])
        one[level] = 1.0
        weights.append(one)
    features, levels = np.array(rows), np.array(weights)
    if len(rows) < features.shape[-1] or np.linalg.matrix_rank(features) < features.shape[-1]:
        return None
    solve = np.linalg.pinv(features) @ levels
    centre = solve @ budget.estimate
    spread = budget.variance * solve @ budget.inverse @ solve.T
    generator = np.random.default_rng(0)
    normal = generator.multivariate_normal(np.zeros(len(centre)), spread, DRAWS)
    if budget.pooled:
        normal /= np.sqrt(generator.chisquare(budget.freedom, DRAWS) / budget.freedom)[:, None]
    draws = centre + normal

    def phi(slope: np.ndarray, gain: np.ndarray) -> np.ndarray:
        counted = (np.exp(np.minimum(gain / slope, 700.0)) - once) / (1 - once)
        logarithm = np.log(np.where(counted > 0, counted, 1.0)) / math.log(times)
        safe = np.where(counted > 0, logarithm, -np.inf)
        # A slope that is not negative says that parameters are worth nothing: φ may be anything.
        return np.where(slope < 0, safe, np.sign(generator.random(len(slope)) - 0.5) * np.inf)

    values = phi(draws[:, 1], draws[:, 2])
    middle = float(phi(centre[None, 1], centre[None, 2])[0])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return Interval(middle, float(low), float(high))


def analyse(records: Sequence[RunRecord]) -> dict[str, Any]:
    """All figures, as `--json` prints them."""
    runs = runs_of(records)
    budgets = [Budget(runs, tokens) for tokens in sorted({run.tokens for run in runs})]
    contrasts = []
    for budget in budgets:
        for first, second, worth in CONTRASTS:
            for depths in ((4,), (8,), DEPTHS):
                found = budget.contrast(first, second, depths)
                if found is not None:
                    contrasts.append(
                        {
                            "tokens": budget.tokens,
                            "of": first,
                            "against": second,
                            "worth": worth,
                            "base_depths": list(depths),
                            **_numbers(found),
                        }
                    )
    equal = []
    for small in budgets:
        for large in budgets:
            for depth in DEPTHS:
                if not math.isclose(large.tokens, 2 * small.tokens, rel_tol=0.01):
                    continue
                found = equal_flops(small, large, depth)
                if found is not None:
                    equal.append({"tokens": small.tokens, "base_depth": depth, **_numbers(found)})
    phis = [
        {"tokens": budget.tokens, "topology": cell, "depth_form": name, **_numbers(found)}
        for budget in budgets
        for cell in ("twice", "cycle", "prelude", "thrice")
        for name, degree in DEPTH_FORMS.items()
        if (found := phi_of(budget, degree, cell)) is not None
    ]
    return {
        "runs": len(records),
        "finished": sum(record.status == "finished" for record in records),
        "budgets": [
            {
                "tokens": budget.tokens,
                "seeds": budget.seeds,
                "cells": len(set(budget.level_of.values())),
                "noise": math.sqrt(budget.variance),
                "freedom": budget.freedom if budget.pooled else None,
            }
            for budget in budgets
        ],
        "contrasts": contrasts,
        "equal_flops": equal,
        "phi": phis,
        "learning_rate": learning_rates(runs),
        "to_come": to_come(records),
    }


def _numbers(found: Interval) -> dict[str, float | None]:
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {name: number if math.isfinite(number) else None for name, number in ends.items()}


def learning_rates(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """ln(loss at another learning rate / loss at the rule's), by cell, one seed and budget."""
    rule = {
        (run.cell, run.depth, run.seed, run.tokens): run.log_loss
        for run in runs
        if run.learning_rate == 1.0
    }
    found = []
    for run in runs:
        partner = rule.get((run.cell, run.depth, run.seed, run.tokens))
        if run.learning_rate != 1.0 and partner is not None:
            found.append(
                {
                    "of": run.cell,
                    "base_depth": run.depth,
                    "tokens": run.tokens,
                    "times": run.learning_rate,
                    "value": run.log_loss - partner,
                }
            )
    return found


def to_come(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """By part of the preset: runs that are not there, and their FLOPs."""
    done = {
        (record.architecture.build(), record.seed, record.tokens, record.recipe.learning_rate)
        for record in records
        if record.status == "finished"
    }
    parts: dict[str, dict[str, Any]] = {}
    for one in layout(load_design("sharing"))[0]:
        plan = resolve(one.job)
        part = parts.setdefault(one.part, {"part": one.part, "runs": 0, "missing": 0, "flops": 0.0})
        for branch in plan.branches:
            part["runs"] += 1
            key = (plan.architecture, one.job.seed, branch.tokens, plan.learning_rate)
            if key not in done:
                part["missing"] += 1
                part["flops"] += branch.flops - branch.shared_flops
    return list(parts.values())


def percent(found: dict[str, Any]) -> str:
    """`-1.23 % [-1.50, -0.90]`."""
    return f"{100 * found['value']:+.2f} % [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"


def number(value: float | None) -> str:
    """Two decimals, or a word for what is not finite."""
    return "no bound" if value is None else f"{value:+.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def text(figures: dict[str, Any]) -> str:
    """The README of results/sharing."""
    missing = sum(part["missing"] for part in figures["to_come"])
    flops = sum(part["flops"] for part in figures["to_come"])
    parts = [
        f"""# The sharing study

Written by `python -m benchmarks.sharing_study --write` from `runs.jsonl`, the records of \
`shapelaw sweep sharing` as they were made. The preset says what the cells A, B, C and D are.

## Which runs there are

{figures["finished"]} finished runs; {missing} of the preset are to come \
({flops:.3g} FLOPs).

{
            table(
                ["part", "runs", "there", "to come, FLOPs"],
                [
                    [
                        part["part"],
                        str(part["runs"]),
                        str(part["runs"] - part["missing"]),
                        f"{part['flops']:.3g}",
                    ]
                    for part in figures["to_come"]
                ],
            )
        }
"""
    ]
    if figures["contrasts"]:
        parts.append(_contrast_text(figures))
    else:
        parts.append(
            "No two cells that are to be compared have been trained: nothing is claimed.\n"
        )
    if figures["equal_flops"]:
        rows = [
            [f"{one['tokens']:,}", str(one["base_depth"]), percent(one)]
            for one in figures["equal_flops"]
        ]
        parts.append(
            "## At equal FLOPs\n\nB on so many tokens against A on twice as many.\n\n"
            + table(["tokens of B", "base depth", "ln(loss B / loss A), 90 %"], rows)
            + "\n"
        )
    if figures["phi"]:
        rows = [
            [
                f"{one['tokens']:,}",
                NAMES[one["topology"]],
                one["depth_form"],
                f"{number(one['value'])} [{number(one['low'])}, {number(one['high'])}]",
            ]
            for one in figures["phi"]
        ]
        parts.append(
            "## φ by topology, under two forms of depth\n\n"
            + table(["tokens", "topology", "depth counts as", "φ, 90 %"], rows)
            + "\n"
        )
    if figures["learning_rate"]:
        rows = [
            [
                NAMES[one["of"]],
                str(one["base_depth"]),
                f"{one['tokens']:,}",
                f"{one['times']:g}",
                f"{100 * one['value']:+.2f} %",
            ]
            for one in figures["learning_rate"]
        ]
        parts.append(
            "## Other learning rates\n\n"
            + table(["cell", "base depth", "tokens", "times the rule's", "loss"], rows)
            + "\n"
        )
    return "\n".join(parts)


def _contrast_text(figures: dict[str, Any]) -> str:
    rows = [
        [
            f"{one['tokens']:,}",
            f"{NAMES[one['of']]} − {NAMES[one['against']]}",
            " and ".join(map(str, one["base_depths"])),
            percent(one),
            one["worth"],
        ]
        for one in figures["contrasts"]
    ]
    noise = "; ".join(
        f"{one['tokens']:,} tokens: {100 * one['noise']:.2f} %, "
        + (
            f"{one['freedom']} degrees of freedom"
            if one["freedom"] is not None
            else "the noise of the reference study: too few runs to tell it here"
        )
        for one in figures["budgets"]
    )
    largest = max(one["tokens"] for one in figures["budgets"])
    narrow = [
        one["high"] - one["low"] <= 2 * WIDEST
        for one in figures["contrasts"]
        if one["tokens"] == largest
        and (one["of"], one["against"]) in (("twice", "distinct"), ("twice", "narrow"))
        and len(one["base_depths"]) == 1
    ]
    return f"""## What the cells differ by

ln(loss / loss), 90 %: below zero the first is better. Noise of one run, of ln(loss): {noise}. \
Of the four intervals of B − A and B − C at the preset's largest budget \
{sum(narrow) if largest >= 12_000_000 else 0} are ± {100 * WIDEST:.1f} % or less.

{table(["tokens", "difference", "base depth", "90 %", "what it is"], rows)}
"""


def main() -> None:
    """Print the figures, or write the README beside the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    figures = analyse(read_records(asked.runs))
    if asked.json:
        print(json.dumps(figures))
        return
    if asked.write:
        (FOLDER / "README.md").write_text(text(figures), encoding="utf-8")
    print(text(figures))


if __name__ == "__main__":
    main()
