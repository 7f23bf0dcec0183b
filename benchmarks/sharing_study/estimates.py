"""Differences of the cells at one budget, and what a shared parameter counts for, with intervals.

At one budget ln(loss) is a level for each cell plus one for each seed, by least squares; what is
left is one variance, pooled over cells and seeds. Where fewer than `LEAST_FREEDOM` degrees of
freedom are left, the noise of `shapelaw.sweeps.design.power` stands for it. Intervals are 90 %, of
Student's t.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from benchmarks.sharing_study.runs import Run
from shapelaw.sweeps.design import power

LEVEL = 0.9
LEAST_FREEDOM = 6
"""Fewer tell a variance to worse than a factor of two either way."""
DRAWS = 20_000
DEPTH_FORMS = {"a power of depth": 1, "an optimum of depth": 2}
"""Degree of ln(loss) in ln(depth)."""


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
