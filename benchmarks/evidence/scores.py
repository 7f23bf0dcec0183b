"""How well populations without a family foretell it: differences of shape, few runs, accuracy.

Every score asks a population that has not seen the family. None of them chose a form or a prior.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from benchmarks.evidence.posterior import PRIORS
from benchmarks.evidence.studies import TABLES, Study
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.evidence.conditioning import Runs, condition
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw, new_study
from shapelaw.scaling.evidence.study_law import (
    LEVEL,
    SHAPE,
    level_log_loss,
    of_draws,
    shape_penalty,
)
from shapelaw.scaling.evidence.study_population import Population

Array = np.ndarray
_EQUAL_N, _EQUAL_D = 0.12, 0.05
_DRAWS = 300


def level_refit(study: Study, penalty_of: Any) -> Array:
    """Level parameters [level] of a study whose shape parameters are given, robustly."""
    middle = np.array([PRIORS[name][0] for name in LEVEL])
    width = np.array([3 * np.hypot(PRIORS[name][1], PRIORS[name][2]) for name in LEVEL])
    runs, scale = study.runs, 0.006

    def errors(point: Array) -> Array:
        values = dict(zip(LEVEL, point, strict=True))
        predicted = level_log_loss(
            np, values.__getitem__, runs.features, penalty_of(np.exp(values["ln_alpha"]))
        )
        weighed = (predicted - runs.log_loss) * np.sqrt(runs.weight) / scale
        return np.concatenate([weighed, (point - middle) / width])

    start = middle.copy()
    start[0] = float(np.median(runs.log_loss))
    return np.asarray(least_squares(errors, start, loss="soft_l1").x)


def equal_groups(study: Study) -> list[Array]:
    """Rows of about equal N and equal D (of any D where N is equal to the last digit)."""
    ln_n, ln_d = study.runs.features["ln_n"], study.runs.features["ln_d"]
    left, found = list(np.lexsort([ln_n, ln_d])), []
    while left:
        first = left[0]
        same = np.abs(ln_n[left] - ln_n[first]) < _EQUAL_N
        same &= (np.abs(ln_d[left] - ln_d[first]) < _EQUAL_D) | (
            np.abs(ln_n[left] - ln_n[first]) < 1e-9
        ) & (study.family == "looped")
        rows = np.array(left)[same]
        left = [row for row in left if row not in set(rows.tolist())]
        if len(rows) > 1:
            found.append(rows)
    return found


def shape_differences(study: Study, population: Population) -> dict[str, float]:
    """RMSE of residuals within groups of equal N and D, in % of ln L, and of 90 % intervals.

    The level is refitted on the study itself, with the mean shape of the population and with none.
    """
    runs = study.runs
    state, member = population.new_studies(_DRAWS, np.random.default_rng(0), unit_known=True)
    draws = population.study(state, member)
    middle = draws.mean(axis=0, keepdims=True)
    groups = equal_groups(study)

    def penalty(theta: Array, alpha: float) -> Array:
        fixed = theta.copy()
        fixed[:, LEVEL.index("ln_alpha")] = np.log(alpha)
        return np.asarray(shape_penalty(np, of_draws(fixed), runs.features))

    def residuals(point: Array, multiplier: Array) -> Array:
        values = dict(zip(LEVEL, point, strict=True))
        return np.asarray(
            runs.log_loss - level_log_loss(np, values.__getitem__, runs.features, multiplier)
        )

    def within(error: Array) -> Array:
        return np.concatenate([error[rows] - error[rows].mean() for rows in groups])

    shaped = level_refit(study, lambda alpha: penalty(middle, float(alpha))[0])
    plain = level_refit(study, lambda alpha: 0.0)
    alpha = float(np.exp(shaped[LEVEL.index("ln_alpha")]))
    by_shape = within(residuals(shaped, penalty(middle, alpha)[0]))
    by_none = within(residuals(plain, np.zeros(len(study))))
    many = penalty(draws, alpha)
    values = dict(zip(LEVEL, shaped, strict=True))
    predicted = np.asarray(level_log_loss(np, values.__getitem__, runs.features, many))
    noise = np.hypot(np.exp(draws[:, -2]), np.exp(draws[:, -1]))
    generator = np.random.default_rng(1)
    inside: list[bool] = []
    for rows in groups:
        first, others = rows[0], rows[1:]
        gaps = predicted[:, others] - predicted[:, [first]]
        gaps = gaps + noise[:, None] * np.sqrt(2) * generator.standard_t(4.0, gaps.shape)
        low, high = np.quantile(gaps, [0.05, 0.95], axis=0)
        seen = runs.log_loss[others] - runs.log_loss[first]
        inside += list((low <= seen) & (seen <= high))
    root = [100 * float(np.sqrt(np.mean(error**2))) for error in (by_shape, by_none)]
    return {
        "rmse_percent": root[0],
        "no_shape_percent": root[1],
        "ratio": root[0] / root[1],
        "coverage": float(np.mean(inside)),
        "differences": float(len(inside)),
    }


def weak_fit(study: Study, rows: Array, shaped: bool) -> Array:
    """ln L of all rows by least squares with weak priors on `rows`: Chinchilla's form, or with a
    depth optimum of its own."""
    part = study.take(rows).runs
    names = ["ln_loss", "floor", "capacity", "ln_alpha", "ln_beta"]
    if shaped:
        names += ["kappa", "ln_norm", "ln_best_depth", "depth_drift", "ln_depth_cost"]
    rest = {name: PRIORS[name][0] for name in (*LEVEL, *SHAPE)} | {"kappa": 0.0, "ln_norm": 0.0}
    middle = np.array([rest[name] for name in names])
    width = np.array([2 * np.hypot(PRIORS[name][1], PRIORS[name][2]) for name in names])
    width[0] = 2.0

    def predicted(point: Array, runs: Runs) -> Array:
        values = rest | dict(zip(names, point, strict=True))
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
        noise = np.hypot(np.exp(theta[:, -2]), np.exp(theta[:, -1]))[:, None]
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
