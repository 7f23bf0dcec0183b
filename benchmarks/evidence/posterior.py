"""The population of studies, fitted to all of them together by NUTS (NumPyro, JAX).

Its own density is that of population_density.py. A table of runs enters by draws of its study alone
(study_draws.py): its likelihood given the population is the mean over those draws of the
population's density over the density they were drawn under, which integrates the study's parameters
out. How well so few draws stand for it is what joint.py checks.
"""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.population_density import (
    MOBILELLM,
    PopulationDensity,
    other,
    student,
)
from benchmarks.evidence.priors import N_ALL, N_LEVEL
from benchmarks.evidence.studies import Study
from benchmarks.evidence.study_draws import StudyDraws
from shapelaw.scaling.evidence.study_law import INDEX, PARAMETERS
from shapelaw.scaling.evidence.study_population import Population

FEW_ROWS = 10
"""A study of fewer rows enters by its likelihood, not by draws of its own."""


ALONE, GROUPED = 1000, 400
"""Draws used of a study that is a family of its own, and of one in a family of several."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Stack:
    """Draws of studies, stacked: [studies, k]."""

    studies: np.ndarray
    rows: np.ndarray
    level: np.ndarray
    noise: np.ndarray
    log_reference: np.ndarray
    run_noise: dict[int, np.ndarray]
    shapes: dict[int, tuple[np.ndarray, np.ndarray]]
    family: np.ndarray | None


class Problem:
    """Studies as one log density over unconstrained arrays."""

    def __init__(
        self,
        studies: Sequence[Study],
        draws: Mapping[str, StudyDraws],
        leave: Collection[str] = (),
    ) -> None:
        kept = [study for study in studies if study.family not in leave]
        self.long = [study for study in kept if len(study) >= FEW_ROWS]
        self.short = [study for study in kept if len(study) < FEW_ROWS]
        self.draws = [draws[study.name] for study in self.long]
        families = [study.family for study in kept]
        self.several = list(
            dict.fromkeys(
                [name for name in families if families.count(name) > 1]
                + [study.family for study in self.short]
            )
        )
        self.of_population = PopulationDensity(self.short, self.several, leave)

    def _stack(self, chosen: Sequence[tuple[int, StudyDraws]], kept: int) -> "_Stack":
        single = np.float32
        rows = np.linspace(0, len(chosen[0][1].values) - 1, kept).astype(int)
        values = [one.values[rows] for _, one in chosen]
        own = [list(one.own) for _, one in chosen]
        family = [self.long[i].family for i, _ in chosen]
        shapes = {}
        for place, of_study in enumerate(own):
            at = [c for c, name in enumerate(of_study) if N_LEVEL <= name < N_ALL]
            if at:
                shapes[place] = np.array(of_study)[at], values[place][:, at]
        return _Stack(
            np.array([i for i, _ in chosen]),
            rows,
            np.stack([v[:, :N_LEVEL] for v in values]).astype(single),
            np.stack([v[:, o.index(N_ALL)] for v, o in zip(values, own, strict=True)]),
            np.stack([one.log_reference[rows] for _, one in chosen]),
            {
                place: values[place][:, of_study.index(N_ALL + 1)]
                for place, of_study in enumerate(own)
                if N_ALL + 1 in of_study
            },
            shapes,
            np.array([self.several.index(name) for name in family])
            if family[0] in self.several
            else None,
        )

    def density(
        self,
    ) -> tuple[Callable[[Any], Any], Callable[[Any], Any], dict[str, Any], list["_Stack"]]:
        """Log density, the quantities of interest, a start, and the draws of studies."""
        import jax
        import jax.numpy as jnp
        from jax.scipy.special import logsumexp

        single = np.float32
        stacks = []
        for grouped in (False, True):
            chosen = [
                (i, one)
                for i, one in enumerate(self.draws)
                if (self.long[i].family in self.several) == grouped
            ]
            if chosen:
                stacks.append(self._stack(chosen, GROUPED if grouped else ALONE))
        population = self.of_population

        def log_weights(p: Any) -> list[Any]:
            """ln of population over reference, [long studies, k], of each stack."""
            of = population.parts(p)
            mean, spread, factor, centre = of.mean, of.spread, of.factor, of.centre
            within, hyper = of.within, of.hyper
            inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(N_LEVEL), lower=True)
            found = []
            for stack in stacks:
                # Constants in which the two kinds of family differ are the same for all draws.
                if stack.family is None:
                    z = (stack.level - mean[:N_LEVEL].astype(single)) @ inverse.T.astype(single)
                    total = student(jnp.sum(z * z, axis=-1)) - jnp.sum(jnp.log(jnp.diag(factor)))
                else:
                    z = stack.level - centre[stack.family][:, None].astype(single)
                    z = z / within.astype(single)
                    total = -0.5 * jnp.sum(z * z, axis=-1) - jnp.sum(jnp.log(within))
                total = total - stack.log_reference + other(stack.noise, hyper[0], hyper[1])
                for i, values in stack.run_noise.items():
                    total = total.at[i].add(other(values, hyper[2], hyper[3]))
                for i, (at, values) in stack.shapes.items():
                    z = (values - mean[at]) / spread[at]
                    total = total.at[i].add(
                        jnp.sum(-0.5 * z * z, axis=-1) - jnp.sum(jnp.log(spread[at]))
                    )
                found.append(total)
            return found

        def log_density(p: Any) -> Any:
            of = population.parts(p)
            total = population.log_density(p, of)
            for weights in log_weights(p):
                total += jnp.sum(logsumexp(weights, axis=1))
            return total

        def quantities(p: Any) -> dict[str, Any]:
            of = population.parts(p)
            hyper = of.hyper
            return {
                "mean": of.mean,
                "spread": of.spread,
                "correlation": population.to_cholesky(p["correlation"]),
                "noise": jnp.stack([hyper[0], jnp.exp(hyper[1]), hyper[2], jnp.exp(hyper[3])]),
                "short": population.short_theta(p, of),
                "mobilellm": of.pooled[population.pooled.index(MOBILELLM)],
                **{f"weights {i}": found for i, found in enumerate(log_weights(p))},
            }

        return log_density, quantities, population.start, stacks


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the population and of every study in it."""

    population: Population
    theta: dict[str, np.ndarray]
    """Study or published figure -> draws [k, p]; what is not its own is the population's mean."""
    effective: dict[str, float]
    """Effective number of draws of each population mean and spread."""
    r_hat: dict[str, float]
    study_draws: dict[str, float]
    """Long study -> of its own draws, the number that the population's weights leave effective."""
    steps: float
    """Mean leapfrog steps a draw."""
    diverging: int


def sample(
    studies: Sequence[Study],
    own_draws: Mapping[str, StudyDraws],
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
    problem = Problem(studies, own_draws, leave)
    log_density, quantities, start, stacks = problem.density()
    kernel = NUTS(potential_fn=lambda p: -log_density(p), max_tree_depth=tree_depth)
    chain = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    generator = np.random.default_rng(seed)
    shape = () if chains == 1 else (chains,)
    first = {
        name: jnp.asarray(value + 0.3 * generator.standard_normal((*shape, *value.shape)))
        for name, value in start.items()
    }
    chain.run(jax.random.PRNGKey(seed), init_params=first, extra_fields=("num_steps", "diverging"))
    extra = chain.get_extra_fields()
    found = jax.lax.map(
        jax.jit(quantities),
        {
            name: value.reshape(-1, *value.shape[2:])
            for name, value in chain.get_samples(group_by_chain=True).items()
        },
    )
    flat = {name: np.asarray(value) for name, value in found.items()}
    by_chain = {
        name: flat[name].reshape(chains, draws, *flat[name].shape[1:])
        for name in ("mean", "spread")
    }
    told = summary(by_chain)
    theta, used = {}, {}
    for number, stack in enumerate(stacks):
        for place, i in enumerate(stack.studies):
            study, one = problem.long[i], problem.draws[i]
            log_weight = flat[f"weights {number}"][:, place]
            weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
            weight /= weight.sum(axis=1, keepdims=True)
            used[study.name] = float(np.mean(1 / np.sum(weight**2, axis=1)))
            at = (np.cumsum(weight, axis=1) < generator.random(len(weight))[:, None]).sum(axis=1)
            values = one.values[stack.rows[np.minimum(at, len(stack.rows) - 1)]]
            told_by_it = one.own < N_ALL
            theta[study.name] = flat["mean"].copy()
            theta[study.name][:, one.own[told_by_it]] = values[:, told_by_it]
    for i, study in enumerate(problem.short):
        theta[study.name] = flat["short"][:, i]
    for figure in problem.of_population.figures:
        theta[figure.name] = flat["mean"].copy()
        for name, (value, error) in figure.values.items():
            spread = flat["spread"][:, INDEX[name]]
            share = spread**2 / (spread**2 + error**2)
            middle = (1 - share) * flat["mean"][:, INDEX[name]] + share * value
            noise = generator.standard_normal(len(middle))
            theta[figure.name][:, INDEX[name]] = middle + error * np.sqrt(share) * noise
    theta["mobilellm"] = np.concatenate([flat["mean"][:, :N_LEVEL], flat["mobilellm"]], axis=1)

    def by_parameter(key: str) -> dict[str, float]:
        return {
            f"{kind} {name}": float(value)
            for kind in ("mean", "spread")
            for name, value in zip(PARAMETERS, np.atleast_1d(told[kind][key]), strict=True)
        }

    return Posterior(
        Population(flat["mean"], flat["spread"], flat["correlation"], flat["noise"]),
        theta,
        by_parameter("n_eff"),
        by_parameter("r_hat"),
        used,
        float(np.mean(extra["num_steps"])),
        int(np.sum(extra["diverging"])),
    )
