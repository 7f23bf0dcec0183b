"""How well populations without a family foretell it: differences of shape, few runs, accuracy.

Every score asks a population that has not seen the family. None of them chose a form or a prior.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from benchmarks.evidence.priors import N_ALL, N_LEVEL, PRIORS
from benchmarks.evidence.studies import TABLES, Study
from benchmarks.evidence.study_draws import StudyDraws
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.evidence.conditioning import Runs, condition
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw, new_study
from shapelaw.scaling.evidence.study_law import (
    INDEX,
    LEVEL,
    SHAPE,
    SLOPES,
    exponents,
    level_log_loss,
    of_draws,
    shape_penalty,
)
from shapelaw.scaling.evidence.study_population import ROW_NOISE, RUN_NOISE, Population

Array = np.ndarray
_EQUAL_D = 0.05
_DRAWS = 300


def exponent(values: dict[str, Any]) -> float:
    """alpha of level parameters."""
    return float(exponents(np, values.__getitem__)[0])


def with_exponent(theta: Array, alpha: float) -> Array:
    """Studies [k, p + 2] with this alpha and all else their own."""
    fixed = theta.copy()
    fixed[:, INDEX["ln_capacity_slope"]] = np.log(alpha) - np.logaddexp(
        0.0, theta[:, INDEX["floor"]]
    )
    return fixed


def level_refit(study: Study, population: Population, penalty_of: Any) -> Array:
    """Level parameters [level] of a study whose shape parameters are given, robustly.

    The population is their prior, ln_loss apart: a study of four rows cannot refit seven.
    """
    new, _ = population.new_studies(1000, np.random.default_rng(0), unit_known=True)
    middle, width = new[:, :N_LEVEL].mean(axis=0), new[:, :N_LEVEL].std(axis=0)
    width[0] = 3.0
    runs, scale = study.runs, 0.006

    def errors(point: Array) -> Array:
        values = dict(zip(LEVEL, point, strict=True))
        predicted = level_log_loss(
            np, values.__getitem__, runs.features, penalty_of(exponent(values))
        )
        weighed = (predicted - runs.log_loss) * np.sqrt(runs.weight) / scale
        return np.concatenate([weighed, (point - middle) / width])

    start = middle.copy()
    start[0] = float(np.median(runs.log_loss))
    return np.asarray(least_squares(errors, start, loss="soft_l1").x)


def equal_groups(study: Study, equal_n: float) -> list[Array]:
    """Rows of about equal N and equal D (of any D where N is equal to the last digit, looped)."""
    ln_n, ln_d = study.runs.features["ln_n"], study.runs.features["ln_d"]
    left, found = list(np.lexsort([ln_n, ln_d])), []
    while left:
        first = left[0]
        same = np.abs(ln_n[left] - ln_n[first]) < equal_n
        same &= (np.abs(ln_d[left] - ln_d[first]) < _EQUAL_D) | (
            np.abs(ln_n[left] - ln_n[first]) < 1e-9
        ) & (study.family == "looped")
        rows = np.array(left)[same]
        left = [row for row in left if row not in set(rows.tolist())]
        if len(rows) > 1:
            found.append(rows)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Differences:
    """Errors of one study's differences at about equal N and D, in % of ln L."""

    shaped: Array
    """Residuals less their group's mean, by the population's mean shape, level refitted."""
    plain: Array
    """The same without shape, level refitted."""
    inside: Array
    """Whether differences to the first of each group lie in their 90 % interval."""


def shape_differences(
    study: Study, population: Population, own: StudyDraws | None, equal_n: float
) -> Differences:
    """Differences of shape of a study that the population has not seen.

    Intervals carry the shape of a new study and the noise of runs. That noise is, like the level,
    the study's own, from the study's own fit; the population's for a study of a few rows.
    """
    runs = study.runs
    draws, _ = population.new_studies(_DRAWS, np.random.default_rng(0), unit_known=True)
    middle = draws.mean(axis=0, keepdims=True)
    groups = equal_groups(study, equal_n)

    def penalty(theta: Array, alpha: float) -> Array:
        return np.asarray(shape_penalty(np, of_draws(with_exponent(theta, alpha)), runs.features))

    def residuals(point: Array, multiplier: Array) -> Array:
        values = dict(zip(LEVEL, point, strict=True))
        return np.asarray(
            runs.log_loss - level_log_loss(np, values.__getitem__, runs.features, multiplier)
        )

    def within(error: Array) -> Array:
        return np.concatenate([np.zeros(0), *(error[rows] - error[rows].mean() for rows in groups)])

    shaped = level_refit(study, population, lambda alpha: penalty(middle, alpha)[0])
    plain = level_refit(study, population, lambda alpha: 0.0)
    values = dict(zip(LEVEL, shaped, strict=True))
    alpha = exponent(values)
    many = penalty(draws, alpha)
    predicted = np.asarray(level_log_loss(np, values.__getitem__, runs.features, many))
    noise = np.exp(draws[:, ROW_NOISE])
    if own is not None:
        kept = own.values[np.linspace(0, len(own.values) - 1, _DRAWS).astype(int)]
        noise = np.sqrt(np.sum(np.exp(2 * kept[:, own.own >= N_ALL]), axis=1))
    generator = np.random.default_rng(1)
    inside: list[bool] = []
    for rows in groups:
        first, others = rows[0], rows[1:]
        error = noise[:, None] * generator.standard_t(4.0, (_DRAWS, len(rows)))
        error = error / np.sqrt(runs.weight[rows])
        gaps = predicted[:, others] - predicted[:, [first]] + error[:, 1:] - error[:, :1]
        low, high = np.quantile(gaps, [0.05, 0.95], axis=0)
        seen = runs.log_loss[others] - runs.log_loss[first]
        inside += list((low <= seen) & (seen <= high))
    return Differences(
        100 * within(residuals(shaped, penalty(middle, alpha)[0])),
        100 * within(residuals(plain, np.zeros(len(study)))),
        np.array(inside, dtype=bool),
    )


def scored(found: Sequence[Differences]) -> dict[str, float]:
    """RMSE with and without shape, and coverage, of the studies of one family together."""
    shaped, plain = (
        float(np.sqrt(np.mean(np.concatenate([getattr(one, name) for one in found]) ** 2)))
        for name in ("shaped", "plain")
    )
    inside = np.concatenate([one.inside for one in found])
    return {
        "rmse_percent": shaped,
        "no_shape_percent": plain,
        "ratio": shaped / plain,
        "coverage": float(inside.mean()),
        "differences": float(len(inside)),
    }


_EXPONENTS = {
    "alpha": (float(np.log(0.25)), 0.25, 0.3),
    "beta": (float(np.log(0.35)), 0.25, 0.3),
}
"""Of ln exponent in `weak_fit`: middle, and two widths of which it takes twice the hypotenuse."""


def weak_fit(study: Study, rows: Array, shaped: bool) -> Array:
    """ln L of all rows by least squares with weak priors on `rows`: Chinchilla's form, or with a
    depth optimum of its own."""
    part = study.take(rows).runs
    names = ["ln_loss", "floor", "capacity", *_EXPONENTS]
    if shaped:
        names += ["kappa", "ln_norm", "ln_best_depth", "depth_drift", "ln_depth_cost"]
    priors = {**{name: prior[:3] for name, prior in PRIORS.items()}, **_EXPONENTS}
    rest = {name: priors[name][0] for name in (*LEVEL, *SHAPE)} | {"kappa": 0.0, "ln_norm": 0.0}
    middle = np.array([priors[name][0] for name in names])
    width = np.array([2 * np.hypot(priors[name][1], priors[name][2]) for name in names])
    width[0] = 2.0

    def predicted(point: Array, runs: Runs) -> Array:
        values = rest | dict(zip(names, point, strict=True))
        for slope, name in zip(SLOPES, _EXPONENTS, strict=True):
            values[slope] = values[name] - np.logaddexp(0.0, values["floor"])
        penalty = (
            shape_penalty(np, values.__getitem__, runs.features)
            if shaped and runs.has_shape
            else 0.0
        )
        return np.asarray(level_log_loss(np, values.__getitem__, runs.features, penalty))

    def errors(point: Array) -> Array:
        return np.concatenate(
            [(predicted(point, part) - part.log_loss) / 0.01, (point - middle) / width]
        )

    start = middle.copy()
    start[0] = float(np.median(part.log_loss))
    return predicted(np.asarray(least_squares(errors, start, loss="soft_l1").x), study.runs)


def few_shot(
    study: Study, population: Population, count: int, repetitions: int
) -> dict[str, float]:
    """Error on the dearest 20 % from `count` runs at random among the cheapest 60 % of compute."""
    runs = study.runs
    order = np.argsort(runs.features["ln_n"] + runs.features["ln_d"])
    cheap, dear = order[: int(0.6 * len(order))], order[int(0.8 * len(order)) :]
    errors: list[list[float]] = []
    inside: list[float] = []
    for repetition in range(repetitions):
        generator = np.random.default_rng(repetition)
        rows = generator.choice(cheap, count, replace=False)
        theta = condition(population, study.take(rows).runs, seed=repetition)
        test = study.take(dear).runs
        draws = test.predicted(theta)
        noise = np.hypot(np.exp(theta[:, ROW_NOISE]), np.exp(theta[:, RUN_NOISE]))[:, None]
        wide = draws + noise * generator.standard_t(4.0, draws.shape)
        low, high = np.quantile(wide, [0.05, 0.95], axis=0)
        inside.append(float(np.mean((low <= test.log_loss) & (test.log_loss <= high))))
        others = [weak_fit(study, rows, shaped)[dear] for shaped in (False, True)]
        errors.append(
            [float(np.mean(np.abs(p - test.log_loss))) for p in (np.median(draws, axis=0), *others)]
        )
    evidence, chinchilla, shape = np.mean(errors, axis=0).tolist()
    return {
        "error": evidence,
        "chinchilla": chinchilla,
        "shape": shape,
        "ratio": evidence / min(chinchilla, shape),
        "coverage": float(np.mean(inside)),
    }


PAIRS = (
    ("3072x12", "2048x27", 1905e6),
    ("3072x12", "1536x50", 1924e6),
    ("2560x8", "1280x36", 1014e6),
    ("1792x7", "768x45", 475e6),
)
"""Gemstones at 350B tokens: in each the second has the lower loss (arXiv 2502.06857)."""


def gemma_like(name: str) -> Architecture:
    """A shape of Gemstones: MLP of 4·d_model, heads of 64, attention half of the usual."""
    width, blocks = (int(part) for part in name.split("x"))
    return Architecture(
        vocab_size=50304,
        d_model=width,
        n_blocks=blocks,
        n_heads=width // 64,
        n_kv_heads=width // 64,
        head_dim=64,
        d_ff=4 * width,
    )


def published_pairs(law: EvidenceLaw) -> list[dict[str, Any]]:
    """ln L of the first less the second, at equal N, and how sure its sign is."""
    found = []
    for first, second, _ in PAIRS:
        both = ArchitectureBatch.of([gemma_like(first), gemma_like(second)])
        depth = np.log(np.asarray(both.depth, dtype=float))
        ln_n = float(np.mean(np.log(both.non_embedding_parameters)))
        best = np.log(law.best_depth(np.array([np.exp(ln_n)])))
        farther = np.abs(depth[0] - best) > np.abs(depth[1] - best)
        found.append(
            {"pair": f"{first} / {second}", "probability_second_better": float(np.mean(farther))}
        )
    return found


def accuracy_by_depth(law: EvidenceLaw, folder: Path = TABLES) -> dict[str, Any]:
    """Spearman of −loss and accuracy on a depth table that is in no fit, and the best depth."""
    import csv

    with (folder / "mobilellm_depth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answer: dict[str, Any] = {}
    for family in ("135M", "380M"):
        shapes, accuracy = [], []
        for row in (row for row in rows if row["family"] == family):
            width, layers = int(row["d_model"]), int(row["n_layers"])
            blocks = 1e6 * float(row["parameters_millions"]) - 32000 * width
            d_ff = round((blocks / layers - 4 * width**2) / (3 * width))
            heads = width // 64
            shapes.append(
                Architecture(
                    vocab_size=32000,
                    d_model=width,
                    n_blocks=layers,
                    n_heads=heads,
                    n_kv_heads=heads,
                    head_dim=64,
                    d_ff=max(d_ff, 64),
                )
            )
            accuracy.append(float(row["mean_zero_shot_accuracy"]))
        batch = ArchitectureBatch.of(shapes)
        loss = law.loss(batch, 2.5e11)
        size = np.array([float(np.mean(batch.non_embedding_parameters))])
        answer[family] = {
            "spearman": float(spearmanr(-loss, accuracy).statistic),
            "best_depth": float(np.median(law.best_depth(size))),
            "best_of_table": int(batch.depth[int(np.argmin(loss))]),
        }
    return answer


def law_of(population: Population) -> EvidenceLaw:
    """A new study of a population."""
    return new_study(population, {}, "evidence", "")
