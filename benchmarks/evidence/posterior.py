"""The population of studies, fitted to all of them together by NUTS (NumPyro, JAX).

Level parameters of a study: multivariate Student t with 5 degrees of freedom around the population
(a family of several studies has a mean of its own, and its studies differ within it); shape
parameters: normal, one set a family; errors of rows: Student t with 4 degrees of freedom and a
spread per study; rows of one run share an error, integrated out. Published figures that come
without a table stand as studies of their own.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from benchmarks.evidence.studies import Study
from shapelaw.scaling.evidence.study_law import (
    INDEX,
    LEVEL,
    LN_N,
    PARAMETERS,
    SHAPE,
    level_log_loss,
    ln_cosh,
    log_loss,
    shape_penalty,
    sharing_gain,
)
from shapelaw.scaling.evidence.study_population import FREEDOM, Population

N_LEVEL, N_SHAPE, N_ALL = len(LEVEL), len(SHAPE), len(PARAMETERS)

PRIORS: dict[str, tuple[float, float, float, float]] = {
    "ln_loss": (1.2, 0.5, 0.2, 0.5),
    "floor": (0.0, 0.5, 0.6, 0.3),
    "capacity": (0.0, 0.5, 0.5, 0.3),
    "ln_alpha": (float(np.log(0.25)), 0.25, 0.3, 0.3),
    "ln_beta": (float(np.log(0.35)), 0.25, 0.3, 0.3),
    "kappa": (0.02, 0.05, 0.06, 0.3),
    "ln_norm": (0.4, 0.4, 0.4, 0.3),
    "ln_best_depth": (float(np.log(13)), 0.4, 0.35, 0.4),
    "depth_drift": (0.3, 0.12, 0.08, 0.4),
    "ln_depth_cost": (float(np.log(1.4)), 0.5, 0.3, 0.4),
    "ln_best_mlp_ratio": (float(np.log(2.2)), 0.5, 0.35, 0.4),
    "ln_mlp_ratio_cost": (float(np.log(0.7)), 0.6, 0.4, 0.4),
    "gqa": (0.05, 0.1, 0.08, 0.5),
    "ln_attention_width_cost": (float(np.log(0.8)), 0.6, 0.4, 0.4),
    "repeated_depth": (0.5, 0.3, 0.15, 0.4),
    "gain_immediate": (0.25, 0.2, 0.12, 0.4),
    "gain_cycle": (0.4, 0.2, 0.1, 0.4),
    "ln_saturation_immediate": (float(np.log(0.7)), 0.6, 0.3, 0.4),
    "ln_saturation_cycle": (float(np.log(0.2)), 0.6, 0.3, 0.4),
}
"""Of each parameter: mean and spread of the population's mean; median and log spread of the
population's spread. Depths of about 13 layers at 1e8 are what is trained at that size; no study
varied the attention's width, so its cost is this prior and nothing else."""

NOISE_PRIOR = (np.array([-5.0, -0.5, -5.3, -0.7]), np.array([1.0, 0.4, 1.0, 0.4]))
"""Mean of ln(noise of a row), ln of its spread; the same of a run."""

_DEPTH = ("ln_best_depth", "depth_drift", "ln_depth_cost")
USES: dict[str, tuple[str, ...]] = {
    "gemstones": _DEPTH,
    "morph": _DEPTH,
    "reference": (
        *_DEPTH,
        "ln_best_mlp_ratio",
        "ln_mlp_ratio_cost",
        "gqa",
        "repeated_depth",
        "gain_immediate",
        "ln_saturation_immediate",
    ),
}
"""Shape parameters that a study's own runs determine; of the rest it follows the population."""

FIGURES = ("depth transition", "mobilellm", "loops", "loops truncated", "loops hyperconnected")
_OF_LOOPED = FIGURES[2:]
"""Published figures as studies: arXiv 2006.12467 (its fit N = 12·L·exp(2(5.039 + .0555·L)) gives a
best depth of 24 at 1e8 and a drift of .316 between 1e7 and 3e8), arXiv 2402.14905 (30 blocks at
1.06e8 applied twice and four times), arXiv 2604.21106 (three recipes of one source)."""

_CHECKPOINTS = 9
"""Checkpoints of a run that are used, evenly over ln D: neighbours say the same."""


def thinned(study: Study) -> Study:
    """At most _CHECKPOINTS budgets where all runs share them."""
    ln_d = study.runs.features["ln_d"]
    budgets = np.unique(ln_d)
    runs = int(study.runs.run.max()) + 1
    if runs == len(study) or len(budgets) * runs != len(study):
        return study
    wanted = np.linspace(budgets[0], budgets[-1], _CHECKPOINTS)
    kept = np.unique(np.abs(budgets[None] - wanted[:, None]).argmin(axis=1))
    return study.take(np.flatnonzero(np.isin(ln_d, budgets[kept])))


@dataclasses.dataclass(frozen=True, eq=False)
class Local:
    """A study's own least-squares fit: the coordinates NUTS walks in."""

    free: np.ndarray
    """[p] which parameters are its own."""
    middle: np.ndarray
    """[p]"""
    root: np.ndarray
    """[p, p] root of its covariance."""


def local_fit(study: Study, own: Sequence[str]) -> Local:
    """Least squares with weak priors; the errors' size from the fit itself."""
    names = [*LEVEL, *own]
    middle = np.array([PRIORS[name][0] for name in names])
    width = np.array([np.hypot(PRIORS[name][1], PRIORS[name][2]) for name in names])
    runs = study.runs
    root_weight = np.sqrt(runs.weight)
    rest = {name: PRIORS[name][0] for name in PARAMETERS}

    def errors(point: np.ndarray) -> np.ndarray:
        values = rest | dict(zip(names, point, strict=True))
        return np.asarray(
            (log_loss(np, values.__getitem__, runs.features) - runs.log_loss) * root_weight
        )

    def penalised(point: np.ndarray, spread: float) -> np.ndarray:
        return np.concatenate([errors(point) / spread, (point - middle) / width])

    start = middle.copy()
    start[0] = np.median(runs.log_loss)
    spread = 0.006
    for _ in range(2):
        found = least_squares(penalised, start, loss="soft_l1", args=(spread,))
        start = found.x
        spread = max(1.5 * float(np.median(np.abs(errors(start)))), 0.0012)
    step = 1e-4
    jacobian = np.stack(
        [
            (errors(start + move) - errors(start - move)) / (2 * step)
            for move in step * np.eye(len(names))
        ],
        axis=1,
    )
    rows = np.bincount(runs.run)
    share = np.zeros((len(rows), len(study)))
    share[runs.run, np.arange(len(study))] = 1 / rows[runs.run]
    if rows.max() > 1:
        mean = share @ errors(start)
        own_spread = 1.5 * np.median(np.abs(errors(start) - mean[runs.run])) + 1e-3
        run_spread = 1.5 * np.median(np.abs(mean)) + 1e-3
        of_runs = (share @ jacobian) / np.sqrt(run_spread**2 + own_spread**2 / rows)[:, None]
        of_rows = (jacobian - (share @ jacobian)[runs.run]) / own_spread
        information = of_runs.T @ of_runs + of_rows.T @ of_rows
    else:
        information = jacobian.T @ jacobian / spread**2
    covariance = np.linalg.inv(information + np.diag(1 / width**2))
    at = np.array([INDEX[name] for name in names])
    free, full, root = np.zeros(N_ALL, dtype=bool), np.zeros(N_ALL), np.zeros((N_ALL, N_ALL))
    free[at], full[at] = True, start
    root[np.ix_(at, at)] = np.linalg.cholesky(covariance)
    return Local(free, full, root)


class Problem:
    """Studies as one log density over unconstrained arrays."""

    def __init__(self, studies: Sequence[Study], leave: Collection[str] = ()) -> None:
        kept = [thinned(study) for study in studies if study.family not in leave]
        self.studies = sorted(kept, key=lambda study: not study.shape)  # those with shape first
        self.families = list(dict.fromkeys(study.family for study in self.studies))
        self.several = [
            family
            for family in self.families
            if sum(study.family == family for study in self.studies) > 1
        ]
        self.figures = [name for name in FIGURES if not (name in _OF_LOOPED and "looped" in leave)]
        self.local = [local_fit(study, USES.get(study.family, ())) for study in self.studies]
        with_shape = [study.family for study in self.studies if study.shape]
        self.pooled = [
            *(family for family in dict.fromkeys(with_shape) if family not in USES),
            *self.figures,
        ]
        """Families whose shape parameters are written as population + spread·z."""

    def density(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any], dict[str, Any]]:
        """Log density, the quantities of interest, and a start."""
        import jax
        import jax.numpy as jnp
        import numpyro.distributions as dist

        single = np.float32
        studies, count = self.studies, len(self.studies)
        features = {
            name: np.concatenate([study.runs.features[name] for study in studies]).astype(single)
            for name in studies[0].runs.features
        }
        y = np.concatenate([study.runs.log_loss for study in studies]).astype(single)
        root_weight = np.sqrt(np.concatenate([s.runs.weight for s in studies])).astype(single)
        of_study = np.repeat(np.arange(count), [len(study) for study in studies])
        with_shape = slice(0, sum(len(study) for study in studies if study.shape))
        one_hot = np.eye(count, dtype=single)[of_study]
        offsets = np.cumsum([0, *(int(study.runs.run.max()) + 1 for study in studies)])
        run = np.concatenate(
            [study.runs.run + offset for study, offset in zip(studies, offsets[:-1], strict=True)]
        )
        sizes = np.bincount(run)
        repeated = np.flatnonzero(sizes > 1)
        several_rows = sizes[run] > 1
        place = np.zeros(len(sizes), dtype=int)
        place[repeated] = np.arange(len(repeated))
        back = (
            np.eye(max(len(repeated), 1), dtype=single)[place[run]] * several_rows[:, None]
        ).astype(single)
        run_sizes = sizes[repeated].astype(single)
        run_study = np.repeat(np.arange(count), np.diff(offsets))[repeated]
        run_studies = np.unique(run_study)
        run_place = np.searchsorted(run_studies, run_study)
        freedom = np.where(several_rows, 1 - 1 / sizes[run], 1.0).astype(single)

        free = np.stack([one.free for one in self.local])
        middle = np.stack([one.middle for one in self.local])
        root = np.stack([one.root for one in self.local])
        slot = np.cumsum(free).reshape(free.shape) - 1
        own_shape = free.copy()
        own_shape[:, :N_LEVEL] = False
        alone = np.array([study.family not in self.several for study in studies])
        family = np.array([self.families.index(study.family) for study in studies])
        family_of = np.array(
            [self.several.index(s.family) if s.family in self.several else 0 for s in studies]
        )
        several = np.array([self.families.index(name) for name in self.several], dtype=int)
        pooled = np.array(
            [
                self.pooled.index(s.family) if s.family in self.pooled else len(self.pooled)
                for s in studies
            ]
        )
        prior = np.array([PRIORS[name] for name in PARAMETERS])
        to_cholesky = dist.transforms.biject_to(dist.constraints.corr_cholesky)
        correlations = dist.LKJCholesky(N_LEVEL, 4.0)

        def normal(x: Any, centre: Any = 0.0, spread: Any = 1.0) -> Any:
            return jnp.sum(-0.5 * ((x - centre) / spread) ** 2 - jnp.log(spread))

        def parts(p: Any) -> tuple[Any, ...]:
            mean = prior[:, 0] + prior[:, 1] * p["mean"]
            spread = prior[:, 2] * jnp.exp(prior[:, 3] * p["spread"])
            own = middle + jnp.einsum("ijk,ik->ij", root, jnp.where(free, p["own"][slot], 0.0))
            of_pooled = mean[N_LEVEL:] + spread[N_LEVEL:] * p["pooled"]
            choices = jnp.concatenate([of_pooled, mean[None, N_LEVEL:]], axis=0)[pooled]
            shape = jnp.where(own_shape[:, N_LEVEL:], own[:, N_LEVEL:], choices)
            theta = jnp.concatenate([own[:, :N_LEVEL], shape], axis=1)
            return mean, spread, own, of_pooled, theta

        def likelihood(theta: Any, p: Any) -> Any:
            rows = one_hot @ theta.astype(single)
            penalty = shape_penalty(
                jnp,
                lambda name: rows[with_shape, INDEX[name]],
                {name: column[with_shape] for name, column in features.items()},
            )
            penalty = jnp.concatenate([penalty, jnp.zeros(len(y) - len(penalty), single)])
            predicted = level_log_loss(jnp, lambda name: rows[:, INDEX[name]], features, penalty)
            error = (y - predicted) * root_weight
            inverse = one_hot @ jnp.exp(-p["noise"]).astype(single)
            total: Any = 0.0
            if len(repeated):
                mean = (back.T @ error) / run_sizes
                variance = (
                    jnp.exp(2 * p["run_noise"])[run_place]
                    + jnp.exp(2 * p["noise"])[run_study] / run_sizes
                ).astype(single)
                terms = -2.5 * jnp.log1p(mean**2 / variance / 4) - 0.5 * jnp.log(variance)
                total = jnp.sum(terms.astype(jnp.float64))
                error = error - back @ mean
            terms = jnp.log(inverse) - 2.5 * jnp.log1p((error * inverse) ** 2 / 4)
            return total + jnp.sum((freedom * terms).astype(jnp.float64))

        def published(of_pooled: Any, mean: Any) -> Any:
            def of(figure: str, name: str) -> Any:
                return of_pooled[self.pooled.index(figure), INDEX[name] - N_LEVEL]

            total = normal(of("depth transition", "ln_best_depth"), np.log(24.0), 0.1)
            total += normal(of("depth transition", "depth_drift"), 0.316, 0.05)
            for figure, value, error in zip(
                _OF_LOOPED, (0.459, 0.35, 0.66), (0.035, 0.05, 0.05), strict=True
            ):
                if figure in self.figures:
                    total += normal(of(figure, "gain_cycle"), value, error)
            alpha = jnp.exp(mean[INDEX["ln_alpha"]])
            best = of("mobilellm", "ln_best_depth") + of("mobilellm", "depth_drift") * (
                np.log(1.06e8) - LN_N
            )

            def net(times: float) -> Any:
                """What applying 30 blocks `times` times is worth, in ln of parameters."""
                deeper = np.log(30.0) + of("mobilellm", "repeated_depth") * np.log(times)
                cost = alpha * jnp.exp(of("mobilellm", "ln_depth_cost"))
                wasted = ln_cosh(jnp, cost * (deeper - best))
                wasted -= ln_cosh(jnp, cost * (np.log(30.0) - best))
                saturation = jnp.exp(of("mobilellm", "ln_saturation_immediate"))
                gain = sharing_gain(
                    jnp, of("mobilellm", "gain_immediate"), saturation, np.log(times)
                )
                return gain - wasted / alpha

            total += normal(net(2.0) / np.log(2), 0.25, 0.08)
            return total + normal((net(4.0) - net(2.0)) / np.log(2), 0.05, 0.08)

        def log_density(p: Any) -> Any:
            mean, spread, own, of_pooled, theta = parts(p)
            factor = to_cholesky(p["correlation"])
            total = normal(p["mean"]) + normal(p["spread"]) + correlations.log_prob(factor)
            total += to_cholesky.log_abs_det_jacobian(p["correlation"], factor)
            total += jnp.sum(FREEDOM / 2 * (p["scale"] - jnp.exp(p["scale"])))
            total += normal(p["within"], -1.2, 0.5) + normal(p["hyper"], *NOISE_PRIOR)
            total += normal(p["noise"], p["hyper"][0], jnp.full(count, jnp.exp(p["hyper"][1])))
            total += normal(
                p["run_noise"], p["hyper"][2], jnp.full(len(p["run_noise"]), jnp.exp(p["hyper"][3]))
            )
            total += normal(p["family"]) + normal(p["pooled"])
            level = spread[:N_LEVEL, None] * factor
            inverse = jax.scipy.linalg.solve_triangular(level, jnp.eye(N_LEVEL), lower=True)
            z = (own[:, :N_LEVEL] - mean[:N_LEVEL]) @ inverse.T
            scale = p["scale"][family]
            of_alone = (
                -0.5 * jnp.exp(scale) * jnp.sum(z * z, axis=1)
                + 0.5 * N_LEVEL * scale
                - jnp.sum(jnp.log(jnp.diag(level)))
            )
            total += jnp.sum(jnp.where(alone, of_alone, 0.0))
            if self.several:
                centre = (
                    mean[:N_LEVEL]
                    + (p["family"] @ level.T) * jnp.exp(-0.5 * p["scale"][several])[:, None]
                )
                width = jnp.exp(p["within"]) * spread[:N_LEVEL]
                z = (own[:, :N_LEVEL] - centre[family_of]) / width
                total += jnp.sum(jnp.where(alone[:, None], 0.0, -0.5 * z**2 - jnp.log(width)))
            z = (own - mean) / spread
            total += jnp.sum(jnp.where(own_shape, -0.5 * z**2 - jnp.log(spread), 0.0))
            return total + published(of_pooled, mean) + likelihood(theta, p)

        def quantities(p: Any) -> dict[str, Any]:
            mean, spread, _, of_pooled, theta = parts(p)
            noise = p["hyper"]
            return {
                "mean": mean,
                "spread": spread,
                "correlation": to_cholesky(p["correlation"]),
                "noise": jnp.stack([noise[0], jnp.exp(noise[1]), noise[2], jnp.exp(noise[3])]),
                "theta": theta,
                "figures": of_pooled[len(self.pooled) - len(self.figures) :],
            }

        start = {
            "mean": np.zeros(N_ALL),
            "spread": np.zeros(N_ALL),
            "correlation": np.zeros(N_LEVEL * (N_LEVEL - 1) // 2),
            "scale": np.zeros(len(self.families)),
            "within": np.full(N_LEVEL, -1.2),
            "hyper": NOISE_PRIOR[0],
            "noise": np.full(count, -5.0),
            "run_noise": np.full(max(len(run_studies), 1), -5.5),
            "own": np.zeros(int(free.sum())),
            "family": np.zeros((len(self.several), N_LEVEL)),
            "pooled": np.zeros((len(self.pooled), N_SHAPE)),
        }
        return log_density, quantities, start


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the population and of every study in it."""

    population: Population
    theta: dict[str, np.ndarray]
    """Study or published figure -> draws [k, p] (of a figure: its shape parameters are real)."""
    effective: dict[str, float]
    """Effective number of draws of each population mean."""
    r_hat: dict[str, float]
    steps: float
    """Mean leapfrog steps a draw."""
    diverging: int


def sample(
    studies: Sequence[Study],
    *,
    leave: Collection[str] = (),
    warmup: int = 500,
    draws: int = 500,
    chains: int = 2,
    seed: int = 0,
    tree_depth: int = 8,
) -> Posterior:
    """Fit the population by NUTS; the same draws for the same arguments on the same machine."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.diagnostics import summary
    from numpyro.infer import MCMC, NUTS

    numpyro.enable_x64()
    problem = Problem(studies, leave)
    log_density, quantities, start = problem.density()
    kernel = NUTS(potential_fn=lambda p: -log_density(p), max_tree_depth=tree_depth)
    chain = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    first = {
        name: jnp.asarray(value) if chains == 1 else jnp.stack([jnp.asarray(value)] * chains)
        for name, value in start.items()
    }
    chain.run(jax.random.PRNGKey(seed), init_params=first, extra_fields=("num_steps", "diverging"))
    extra = chain.get_extra_fields()
    found = jax.jit(jax.vmap(jax.vmap(quantities)))(chain.get_samples(group_by_chain=True))
    by_chain = {name: np.asarray(value) for name, value in found.items()}
    told = summary({"mean": by_chain["mean"]})["mean"]
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in by_chain.items()}
    theta = {study.name: flat["theta"][:, i] for i, study in enumerate(problem.studies)}
    for i, name in enumerate(problem.figures):
        theta[name] = np.concatenate([flat["mean"][:, :N_LEVEL], flat["figures"][:, i]], axis=1)
    return Posterior(
        Population(flat["mean"], flat["spread"], flat["correlation"], flat["noise"]),
        theta,
        dict(zip(PARAMETERS, np.atleast_1d(told["n_eff"]).astype(float).tolist(), strict=True)),
        dict(zip(PARAMETERS, np.atleast_1d(told["r_hat"]).astype(float).tolist(), strict=True)),
        float(np.mean(extra["num_steps"])),
        int(np.sum(extra["diverging"])),
    )
