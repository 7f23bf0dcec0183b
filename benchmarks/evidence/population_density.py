"""The population's own log density (JAX): priors, published figures, studies of a few rows.

Level parameters of a study: multivariate Student t with 5 degrees of freedom around the population
(a family of several studies has a mean of its own, and its studies differ within it); shape
parameters: normal, one set a family; errors of rows: Student t with 4 degrees of freedom and a
spread per study. Published figures that come without a table stand as studies of their own.

Studies of a few rows, whose own draws would be the prior's, enter by the likelihood of their rows'
differences, their parameters as deviations from the population. A published figure that is a
parameter of a study is integrated out in closed form.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.priors import (
    FIGURES,
    N_ALL,
    N_LEVEL,
    N_SHAPE,
    NOISE_PRIOR,
    PRIORS,
    Figure,
)
from benchmarks.evidence.studies import Study
from shapelaw.scaling.evidence.study_law import (
    INDEX,
    LN_N,
    PARAMETERS,
    exponents,
    level_log_loss,
    ln_cosh,
    shape_penalty,
    sharing_gain,
)
from shapelaw.scaling.evidence.study_population import FREEDOM

MOBILELLM = "mobilellm"
"""A family of one published figure that is a function of several parameters (arXiv 2402.14905)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """What the arrays p of a population stand for (JAX)."""

    mean: Any
    spread: Any
    factor: Any
    """Cholesky factor of the scale of level parameters."""
    centre: Any
    """[families, level] means of families of several studies."""
    within: Any
    """[level] how studies of one family differ."""
    hyper: Any
    """Mean of ln(noise of a row), ln of its spread; the same of a run."""
    pooled: Any
    """[families, shape] shape parameters of families written as population + spread·z."""


def normal(x: Any, centre: Any = 0.0, spread: Any = 1.0) -> Any:
    """Sum of normal log densities, up to a constant."""
    import jax.numpy as jnp

    return jnp.sum(-0.5 * ((x - centre) / spread) ** 2 - jnp.log(spread))


def student(square: Any) -> Any:
    """Log density of a level at this squared distance, up to what the scale adds."""
    import jax.numpy as jnp

    return -0.5 * (FREEDOM + N_LEVEL) * jnp.log1p(square / FREEDOM)


def other(values: Any, centre: Any, ln_spread: Any) -> Any:
    """Normal log density of each value, up to a constant."""
    import jax.numpy as jnp

    return -0.5 * ((values - centre) / jnp.exp(ln_spread)) ** 2 - ln_spread


class PopulationDensity:
    """Log density over unconstrained arrays p, before any study of many rows is read.

    Args:
        short: studies of a few rows.
        several: families whose means are among p.
        leave: families that are left out.
    """

    def __init__(
        self, short: Sequence[Study], several: Sequence[str], leave: Collection[str]
    ) -> None:
        import numpyro.distributions as dist

        self.short = short
        self.figures: list[Figure] = [
            one for one in FIGURES if not (one.family == "looped" and "looped" in leave)
        ]
        with_shape = dict.fromkeys(study.family for study in short if study.shape)
        self.pooled = [*with_shape, MOBILELLM]
        self._family = np.array([several.index(s.family) for s in short], dtype=int)
        self._pooled = np.array([self.pooled.index(s.family) for s in short], dtype=int)
        self._of_row = np.repeat(np.arange(len(short)), [len(study) for study in short])
        self._features = {
            name: np.concatenate([study.runs.features[name] for study in short])
            for name in (short[0].runs.features if short else ())
        }
        self._losses = np.concatenate([np.zeros(0), *(study.runs.log_loss for study in short)])
        same = self._of_row[:, None] == self._of_row[None]
        self._share = same / same.sum(axis=1, keepdims=True)
        self._freedom = 1 - 1 / same.sum(axis=1)
        self._prior = np.array([PRIORS[name] for name in PARAMETERS])
        self.to_cholesky = dist.transforms.biject_to(dist.constraints.corr_cholesky)
        self._correlations = dist.LKJCholesky(N_LEVEL, 4.0)
        self.start = {
            "mean": np.zeros(N_ALL),
            "spread": np.zeros(N_ALL),
            "correlation": np.zeros(N_LEVEL * (N_LEVEL - 1) // 2),
            "within": np.zeros(N_LEVEL),
            "hyper": np.zeros(4),
            "family": np.zeros((len(several), N_LEVEL)),
            "short": np.zeros((len(short), N_LEVEL)),
            "short_noise": np.zeros(len(short)),
            "pooled": np.zeros((len(self.pooled), N_SHAPE)),
        }

    def parts(self, p: Any) -> Parts:
        """What p stands for."""
        import jax.numpy as jnp

        prior = self._prior
        mean = prior[:, 0] + prior[:, 1] * p["mean"]
        spread = prior[:, 2] * jnp.exp(prior[:, 3] * p["spread"])
        factor = spread[:N_LEVEL, None] * self.to_cholesky(p["correlation"])
        centre = mean[:N_LEVEL] + p["family"] @ factor.T
        within = jnp.exp(-1.2 + 0.5 * p["within"]) * spread[:N_LEVEL]
        hyper = NOISE_PRIOR[0] + NOISE_PRIOR[1] * p["hyper"]
        pooled = mean[N_LEVEL:] + spread[N_LEVEL:] * p["pooled"]
        return Parts(mean, spread, factor, centre, within, hyper, pooled)

    def short_theta(self, p: Any, of: Parts) -> Any:
        """Parameters [short, p] of the studies of a few rows."""
        import jax.numpy as jnp

        own = of.centre[self._family] + of.within * p["short"]
        return jnp.concatenate([own, of.pooled[self._pooled]], axis=1)

    def _short_likelihood(self, p: Any, theta: Any, hyper: Any) -> Any:
        """Of differences between a study's rows: their common level says nothing else."""
        import jax.numpy as jnp

        if not self.short:
            return 0.0
        rows = theta[self._of_row]

        def value(name: str) -> Any:
            return rows[:, INDEX[name]]

        penalty = shape_penalty(jnp, value, self._features)
        error = self._losses - level_log_loss(jnp, value, self._features, penalty)
        error = error - self._share @ error
        ln_spread = (hyper[0] + jnp.exp(hyper[1]) * p["short_noise"])[self._of_row]
        terms = -2.5 * jnp.log1p((error * jnp.exp(-ln_spread)) ** 2 / 4) - ln_spread
        return jnp.sum(self._freedom * terms)

    def _published(self, parts: Parts) -> Any:
        import jax.numpy as jnp

        mean, spread = parts.mean, parts.spread

        def of(name: str) -> Any:
            return parts.pooled[self.pooled.index(MOBILELLM), INDEX[name] - N_LEVEL]

        total: Any = 0.0
        for figure in self.figures:
            for name, (value, error) in figure.values.items():
                at = INDEX[name]
                total += normal(mean[at], value, jnp.sqrt(spread[at] ** 2 + error**2))
        alpha, _ = exponents(jnp, lambda name: mean[INDEX[name]])
        best = of("ln_best_depth") + of("depth_drift") * (np.log(1.06e8) - LN_N)

        def net(times: float) -> Any:
            """What applying 30 blocks `times` times is worth, in ln of parameters."""
            deeper = np.log(30.0) + of("repeated_depth") * np.log(times)
            cost = alpha * jnp.exp(of("ln_depth_cost"))
            wasted = ln_cosh(jnp, cost * (deeper - best))
            wasted -= ln_cosh(jnp, cost * (np.log(30.0) - best))
            saturation = jnp.exp(of("ln_saturation_immediate"))
            gain = sharing_gain(jnp, of("gain_immediate"), saturation, np.log(times))
            return gain - wasted / alpha

        total += normal(net(2.0) / np.log(2), 0.25, 0.08)
        return total + normal((net(4.0) - net(2.0)) / np.log(2), 0.05, 0.08)

    def log_density(self, p: Any, of: Parts) -> Any:
        """Log density of p, up to a constant."""
        import jax.numpy as jnp

        cholesky = self.to_cholesky(p["correlation"])
        total: Any = self._correlations.log_prob(cholesky)
        total += self.to_cholesky.log_abs_det_jacobian(p["correlation"], cholesky)
        for name in ("mean", "spread", "within", "hyper", "pooled", "short", "short_noise"):
            total += normal(p[name])
        total += jnp.sum(student(jnp.sum(p["family"] ** 2, axis=-1)))
        total += self._published(of)
        total += self._short_likelihood(p, self.short_theta(p, of), of.hyper)
        return total
