"""A hierarchical regression of the cost model's constants on engines and devices.

Each constant of a device with an engine is, on the logarithmic (or logistic) scale, a root value
plus an effect of the engine and backend, an effect of the device, and one of the pair; each effect
has a normal prior. All rows are fitted at once by Gauss-Newton through the cost model itself, with
Huber weights; the noise of each engine's rows is estimated along with it. The curvature at the
optimum gives the joint uncertainty of a pair's constants, and of pairs that nobody measured: the
engine's effects are known from other devices, the device's from other engines, the pair's own is
drawn from its prior.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.engine_inputs import RowInputs
from benchmarks.engine_priors import (
    EFFECTS,
    HUBER,
    LEVELS,
    NOISE_ROWS,
    WIDEST,
    group,
    level_keys,
    prior_noise,
    root_of,
)
from benchmarks.engine_rows import Row


class Regression:
    """The rows, and the effects they bear on."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        each = [level_keys(r.engine, r.device) for r in rows]
        keys: dict[str, list[Any]] = {level: [k[level] for k in each] for level in LEVELS}
        self.names: dict[str, list[Any]] = {level: sorted(set(keys[level])) for level in keys}
        self.at = {
            level: np.array([self.names[level].index(key) for key in keys[level]]) for level in keys
        }
        self.slots: dict[tuple[str, str], slice] = {}
        start = 0
        for name, effect in EFFECTS.items():
            for level in LEVELS:
                if effect.spread(level):
                    size = len(self.names[level])
                    self.slots[name, level] = slice(start, start + size)
                    start += size
        self.size = start
        self.log_measured = np.log([r.measured for r in rows])
        self.quantity = np.array([r.quantity for r in rows])
        self.groups = np.array([group(r.quantity) for r in rows])
        self.prior_noise = np.array([prior_noise(r) for r in rows])
        self._noise_keys = np.array([f"{r.engine} {group(r.quantity)}" for r in rows])
        self.roots = {name: np.array([root_of(name, r.engine) for r in rows]) for name in EFFECTS}
        self.inputs = RowInputs.of(self.rows)
        self._copies = self.inputs.take(np.tile(np.arange(len(rows)), 1 + len(self.slots)))

    def scale_values(self, u: np.ndarray, name: str) -> np.ndarray:
        """A constant on its own scale, by row."""
        x = self.roots[name]
        for level in LEVELS:
            if (name, level) in self.slots:
                spread = EFFECTS[name].spread(level)
                x = x + spread * u[self.slots[name, level]][self.at[level]]
        return x

    def predict(self, u: np.ndarray) -> np.ndarray:
        """Logarithms of what each row measures."""
        return self.inputs.predict({name: self.scale_values(u, name) for name in EFFECTS})

    def jacobian(self, u: np.ndarray, step: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and their derivatives: effects of one kind and level touch separate rows, so
        that one copy of the rows gives all of them, and all copies are costed in one batch."""
        n = len(self.rows)
        x = {name: np.tile(self.scale_values(u, name), 1 + len(self.slots)) for name in EFFECTS}
        for copy, (name, level) in enumerate(self.slots, start=1):
            x[name][copy * n : (copy + 1) * n] += step * EFFECTS[name].spread(level)
        base, *moved = self._copies.predict(x).reshape(-1, n)
        found = np.zeros((n, self.size))
        for (_, level), where, values in zip(self.slots, self.slots.values(), moved, strict=True):
            columns = np.arange(where.start, where.stop)[self.at[level]]
            found[np.arange(n), columns] = (values - base) / step
        return base, found

    def fit(
        self, chosen: np.ndarray, start: "Posterior | None" = None, rounds: int = 3
    ) -> "Posterior":
        """Fit to the chosen rows, estimating each engine's noise in rounds.

        Args:
            start: where the search for the optimum begins; nothing else of it is kept.
        """
        noise = self.prior_noise.copy()
        u = np.zeros(self.size) if start is None else start.u.copy()
        for _ in range(rounds):
            u, seen = self._solve(chosen, u, noise)
            noise = self._estimated_noise(chosen, u, seen, noise)
        u, seen = self._solve(chosen, u, noise)
        return Posterior(self, chosen, u, seen, noise)

    def _solve(
        self, chosen: np.ndarray, u: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, "Seen"]:
        def cost(at: np.ndarray) -> float:
            r = np.abs((self.predict(at) - self.log_measured)[chosen] / noise[chosen])
            return float(np.sum(np.where(r <= HUBER, r**2, 2 * HUBER * r - HUBER**2)) + at @ at)

        damping, now = 1e-3, cost(u)
        seen = Seen(np.zeros((0, self.size)))
        for _ in range(25):
            base, slopes = self.jacobian(u)
            r = (base - self.log_measured)[chosen] / noise[chosen]
            weight = np.minimum(1.0, HUBER / np.maximum(np.abs(r), 1e-9))
            seen = Seen(slopes[chosen] * (np.sqrt(weight) / noise[chosen])[:, None])
            gradient = seen.scaled.T @ (np.sqrt(weight) * r) + u
            before = now
            for _ in range(8):
                step = np.clip(-seen.solve(gradient, 1 + damping), -1.5, 1.5)
                after = cost(u + step)
                if after < now:
                    u, now, damping = u + step, after, damping / 5
                    break
                damping *= 5
            if before - now < 1e-3:
                break
        return u, seen

    def _estimated_noise(
        self, chosen: np.ndarray, u: np.ndarray, curvature: "Seen", noise: np.ndarray
    ) -> np.ndarray:
        """Each engine's residuals, shrunk towards the prior noise."""
        base, slopes = self.jacobian(u)
        leverage = curvature.variance(slopes) / noise**2
        squared = (base - self.log_measured) ** 2 / np.clip(1 - leverage, 0.15, 1)
        prior = self.prior_noise
        seen = np.zeros(len(self.rows), bool)
        seen[chosen] = True
        found = noise.copy()
        for key in set(self._noise_keys):
            mine = self._noise_keys == key
            rows = mine & seen
            ratio = np.minimum(squared[rows] / prior[rows] ** 2, 400.0)
            scale = (NOISE_ROWS + ratio.sum()) / (NOISE_ROWS + rows.sum()) if rows.any() else 2.0
            found[mine] = prior[mine] * math.sqrt(scale)
        return found


@dataclasses.dataclass(frozen=True)
class Seen:
    """Curvature of a fit with standard normal effects: I + SᵀS for scaled slopes S [rows, effects].

    There are three effects to a row, so everything is solved in the space of the rows.
    """

    scaled: np.ndarray

    def _root(self, ridge: float) -> np.ndarray:
        gram = self.scaled @ self.scaled.T
        return np.asarray(np.linalg.cholesky(gram + ridge * np.eye(len(gram))))

    def solve(self, gradient: np.ndarray, ridge: float = 1.0) -> np.ndarray:
        """(ridge · I + SᵀS)⁻¹ gradient."""
        root = self._root(ridge)
        inner = np.linalg.solve(root.T, np.linalg.solve(root, self.scaled @ gradient))
        return np.asarray((gradient - self.scaled.T @ inner) / ridge)

    def covariance(self, rows: np.ndarray) -> np.ndarray:
        """rows · (I + SᵀS)⁻¹ · rowsᵀ."""
        reduced = np.linalg.solve(self._root(1.0), self.scaled @ rows.T)
        return np.asarray(rows @ rows.T - reduced.T @ reduced)

    def variance(self, rows: np.ndarray) -> np.ndarray:
        """The diagonal of `covariance`."""
        reduced = np.linalg.solve(self._root(1.0), self.scaled @ rows.T)
        return np.maximum(np.sum(rows**2, axis=1) - np.sum(reduced**2, axis=0), 0.0)


@dataclasses.dataclass(frozen=True)
class Posterior:
    """A fit's optimum and curvature."""

    regression: Regression
    chosen: np.ndarray
    """The rows it was fitted to."""
    u: np.ndarray
    seen: Seen
    noise: np.ndarray

    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm and its standard deviation, noise included, for every row, seen or not."""
        base, slopes = self.regression.jacobian(self.u)
        return base, np.sqrt(self.seen.variance(slopes) + self.noise**2)

    def with_noise(self, widen: Mapping[str, float]) -> "Posterior":
        """The same constants, with the noise times factors by group of quantities."""
        factor = np.array([widen.get(g, 1.0) for g in self.regression.groups])
        return dataclasses.replace(self, noise=factor * self.noise)

    def left_out(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Error of each fitted row's logarithm had its group not been fitted, and the standard
        deviation that its constants would have had; by one Newton step from the optimum, which
        holds for models and not for whole devices.

        Args:
            keys: the group of every row of the regression.
        """
        r, at = self.regression, self.chosen
        base, slopes = r.jacobian(self.u)
        error = (base - r.log_measured)[at]
        scale = self.noise[at] / np.sqrt(
            np.minimum(1.0, HUBER / np.maximum(np.abs(error / self.noise[at]), 1e-9))
        )
        scaled = slopes[at] / scale[:, None]
        gram = scaled @ scaled.T
        hat = gram @ np.linalg.inv(gram + np.eye(len(at)))
        missed, spread = np.empty(len(at)), np.empty(len(at))
        for key in set(keys[at]):
            mine = np.flatnonzero(keys[at] == key)
            rest = np.linalg.inv(np.eye(len(mine)) - hat[np.ix_(mine, mine)])
            missed[mine] = scale[mine] * (rest @ (error[mine] / scale[mine]))
            spread[mine] = scale[mine] * np.sqrt(np.maximum(np.diag(rest) - 1, 0.0))
        return missed, spread

    def widened(self, keys: np.ndarray, level: float = 0.9) -> dict[str, float]:
        """Factors on the noise, by group of quantities, with which intervals of the fitted rows,
        their own group left out, cover `level` of them."""
        missed, spread = self.left_out(keys)
        noise, groups = self.noise[self.chosen], self.regression.groups[self.chosen]
        z = NormalDist().inv_cdf(0.5 + level / 2)
        found = {}
        for name in sorted(set(groups)):
            mine = groups == name
            # The factor at which each row comes to lie within its interval.
            needed = (missed[mine] / z) ** 2 - spread[mine] ** 2
            ratio = np.sort(np.sqrt(np.maximum(needed, 0.0)) / noise[mine])
            rank = min(len(ratio), math.ceil(level * (len(ratio) + 1)))
            found[name] = float(np.clip(ratio[rank - 1], *WIDEST))
        return found

    def constants_of(self, engine: str, device: str) -> "PairConstants":
        """A pair's constants; where a level was not seen, its prior spread."""
        r = self.regression
        keys = level_keys(engine, device)
        middle, slopes = [], []
        rows = np.zeros((len(EFFECTS), r.size))
        extra = np.zeros(len(EFFECTS))
        for i, (name, effect) in enumerate(EFFECTS.items()):
            x = root_of(name, engine)
            for level, key in keys.items():
                if (name, level) not in r.slots:
                    continue
                spread = effect.spread(level)
                if key in r.names[level]:
                    at = r.slots[name, level].start + r.names[level].index(key)
                    rows[i, at] = spread
                    x += spread * self.u[at]
                else:
                    extra[i] += spread**2
            middle.append(float(effect.value(np.array(x))))
            slopes.append(effect.log_slope(x))
        joint = self.seen.covariance(rows) + np.diag(extra)
        joint *= np.outer(slopes, slopes)
        return PairConstants(
            dict(zip(EFFECTS, middle, strict=True)),
            joint,
            sum((row.engine, row.device) == (engine, device) for row in r.rows),
        )

    def noise_of(self, engine: str) -> dict[str, float]:
        """Noise of an engine's rows by quantity; where there are none, the mean engine's."""
        found = {}
        for what in ("decode", "prefill", "memory"):
            mine = [
                self.noise[i]
                for i, row in enumerate(self.regression.rows)
                if row.engine == engine and group(row.quantity) == what
            ]
            every = [
                self.noise[i]
                for i, row in enumerate(self.regression.rows)
                if group(row.quantity) == what
            ]
            found[what] = float(np.median(mine) if mine else np.median(every) * 1.5)
        return found


@dataclasses.dataclass(frozen=True)
class PairConstants:
    """Constants of a device with an engine, and the covariance of their logarithms."""

    values: dict[str, float]
    covariance: np.ndarray
    rows: int
