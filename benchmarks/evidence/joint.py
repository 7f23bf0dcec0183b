"""Population and studies together: `python -m benchmarks.evidence.joint --json`

Draws the joint posterior by blocks (blocked_sampler.py), of which the fit that ships is an
approximation: there each study stands as a thousand draws made without the others. Prints, for each
mean and spread of the population, both medians and the distance in standard deviations of the joint
posterior, and how well the joint draws stand for it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.blocked_sampler import Blocks, Chains, sample_blocks
from benchmarks.evidence.population_density import PopulationDensity, other, student
from benchmarks.evidence.posterior import FEW_ROWS
from benchmarks.evidence.priors import N_ALL, N_LEVEL, REFERENCE
from benchmarks.evidence.studies import Study
from benchmarks.evidence.study_draws import least_squares_fit
from benchmarks.evidence.study_likelihood import own_parameters, row_likelihood, thinned
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.scaling.evidence.study_population import RUN_NOISE

CHAINS = 4
_NOISE_WIDTHS = {N_ALL: 0.1, RUN_NOISE: 0.3}
"""Where chains start around the least squares of a study, in ln noise of row and of run."""
_CENTRE_WIDTH = 0.05
"""The same in each level parameter of a family's mean."""


class Families:
    """Families of studies of many rows as blocks [b, q].

    A family of several starts with its mean level, which given the population is told by its
    studies alone; then come each study's own parameters.
    """

    def __init__(self, studies: Sequence[Study], leave: Collection[str] = ()) -> None:
        kept = [study for study in studies if study.family not in leave]
        self.long = [thinned(study) for study in kept if len(study) >= FEW_ROWS]
        self.short = [study for study in kept if len(study) < FEW_ROWS]
        of_study = [study.family for study in self.long]
        self.names = list(dict.fromkeys(of_study))
        own = [own_parameters(study) for study in self.long]
        several = [of_study.count(name) > 1 for name in self.names]
        sizes = [
            N_LEVEL * many + sum(len(o) for o, f in zip(own, of_study, strict=True) if f == name)
            for name, many in zip(self.names, several, strict=True)
        ]
        self.own = np.arange(max(sizes))[None] < np.array(sizes)[:, None]
        """[b, q] which numbers are used."""
        self.place = np.full((len(self.long), N_ALL + 2), -1)
        """[s, p + 2] where a study's parameter stands among all numbers; -1 where it has none."""
        self.member = np.array([[f == name for name in self.names] for f in of_study], dtype=float)
        self.grouped = self.member @ np.array(several, dtype=float)
        self.mean_level = np.arange(len(self.names))[:, None] * max(sizes) + np.arange(N_LEVEL)
        used = [N_LEVEL * many for many in several]
        for study, mine in enumerate(own):
            block = self.names.index(of_study[study])
            self.place[study, mine] = block * max(sizes) + used[block] + np.arange(len(mine))
            used[block] += len(mine)

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Middle [b, q] and root of covariance [b, q, q] by the least squares of each study."""
        blocks, width = self.own.shape
        middle, root = np.zeros((blocks, width)), np.tile(np.eye(width), (blocks, 1, 1))
        for i, study in enumerate(self.long):
            names = [PARAMETERS[at] for at in own_parameters(study) if at < N_ALL]
            point, spread = least_squares_fit(study, names)
            at = self.place[i][self.place[i] >= 0]
            block, at = at[0] // width, at % width
            fitted = at[: len(names)]
            middle[block, fitted] = point
            root[block][np.ix_(fitted, fitted)] = spread
            for noise, step in _NOISE_WIDTHS.items():
                if self.place[i, noise] >= 0:
                    one = self.place[i, noise] % width
                    middle[block, one], root[block, one, one] = REFERENCE[0][noise], step
            if self.grouped[i]:
                middle[block, :N_LEVEL] += point[:N_LEVEL] / self.member[:, block].sum()
                root[block][:N_LEVEL, :N_LEVEL] = _CENTRE_WIDTH * np.eye(N_LEVEL)
        return middle, root


def joint_blocks(
    families: Families, leave: Collection[str] = (), seed: int = 0
) -> tuple[Blocks, Callable[[Any], Any]]:
    """The joint density as blocks, and the population's mean and spread as a function of u.

    Made and used where JAX computes in float64.
    """
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    short_families = list(dict.fromkeys(study.family for study in families.short))
    population = PopulationDensity(families.short, short_families, leave)
    first, unravel = ravel_pytree(population.start)
    likelihood = row_likelihood(families.long)
    tells = (families.place >= 0).astype(float)
    rest = REFERENCE[0]
    where = np.where(
        families.place >= 0, families.place, families.own.size + np.arange(N_ALL + 2)[None]
    )
    member, grouped = families.member, families.grouped

    def theta_of(x: Any) -> Any:
        return jnp.concatenate([x.ravel(), jnp.asarray(rest)])[where]

    def log_prior(u: Any) -> Any:
        p = unravel(u)
        return population.log_density(p, population.parts(p))

    def log_given(u: Any, x: Any) -> Any:
        of = population.parts(unravel(u))
        theta, means = theta_of(x), x.ravel()[families.mean_level]
        inverse = jax.scipy.linalg.solve_triangular(of.factor, jnp.eye(N_LEVEL), lower=True)
        z = (means - of.mean[:N_LEVEL]) @ inverse.T
        of_means = student(jnp.sum(z * z, axis=-1)) - jnp.sum(jnp.log(jnp.diag(of.factor)))
        z = (theta[:, :N_LEVEL] - member @ means) / of.within
        total = grouped * (-0.5 * jnp.sum(z * z, axis=-1) - jnp.sum(jnp.log(of.within)))
        total += other(theta[:, N_ALL], of.hyper[0], of.hyper[1])
        total += tells[:, RUN_NOISE] * other(theta[:, RUN_NOISE], of.hyper[2], of.hyper[3])
        shape = other(theta[:, N_LEVEL:N_ALL], of.mean[N_LEVEL:], jnp.log(of.spread[N_LEVEL:]))
        total += jnp.sum(tells[:, N_LEVEL:N_ALL] * shape, axis=-1)
        return of_means + total @ member

    def of_population(u: Any) -> Any:
        of = population.parts(unravel(u))
        return jnp.stack([of.mean, of.spread])

    generator = np.random.default_rng(seed)
    scattered = np.asarray(first) + 0.3 * generator.standard_normal((CHAINS, len(first)))
    blocks = Blocks(
        log_prior,
        log_given,
        lambda x: likelihood(theta_of(x)) @ member,
        families.own,
        (scattered, *families.start()),
    )
    return blocks, of_population


def health(draws: np.ndarray) -> dict[str, float]:
    """The fewest effective draws and the largest r-hat of draws [chains, n, ...]."""
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    return {
        "effective": round(float(np.min(effective_sample_size(draws)))),
        "r_hat": round(float(np.max(split_gelman_rubin(draws))), 3),
    }


def compared(chains: Chains, families: Families, of_population: Callable[[Any], Any]) -> Any:
    """The joint draws beside those that ship."""
    import jax

    from shapelaw.results.evidence.shipped_evidence import shipped_population

    ours = np.asarray(jax.vmap(jax.vmap(of_population))(chains.population))
    shipped = shipped_population()
    numbers = chains.studies.reshape(*chains.studies.shape[:2], -1)
    answer: dict[str, Any] = {
        "studies": {
            study.name: health(numbers[:, :, place[place >= 0]])
            for study, place in zip(families.long, families.place, strict=True)
        },
        "accepted": [round(float(share), 2) for share in chains.accepted],
    }
    for at, kind in enumerate(("mean", "spread")):
        draws, other_draws = ours[:, :, at], getattr(shipped, kind)
        answer[kind] = {
            name: {
                "joint": round(float(np.median(draws[..., i])), 3),
                "shipped": round(float(np.median(other_draws[:, i])), 3),
                "distance": round(
                    float(
                        (np.median(other_draws[:, i]) - np.median(draws[..., i]))
                        / draws[..., i].std()
                    ),
                    2,
                ),
                **health(draws[..., i : i + 1]),
            }
            for i, name in enumerate(PARAMETERS)
        }
    return answer


def main() -> None:
    """Print the joint posterior beside what ships."""
    import jax

    from benchmarks.evidence.studies import all_studies

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    indent = None if parser.parse_args().json else 1
    jax.config.update("jax_enable_x64", True)
    families = Families(all_studies())
    blocks, of_population = joint_blocks(families)
    chains = sample_blocks(
        blocks,
        rounds=6,
        sweeps=200,
        draws=400,
        thin=4,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    print(json.dumps(compared(chains, families, of_population), indent=indent))


if __name__ == "__main__":
    main()
