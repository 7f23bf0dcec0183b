"""Draws of a population and its studies together, against posteriors that are known."""

from typing import Any

import numpy as np

from benchmarks.evidence.blocked_sampler import Blocks, sample_blocks

ROWS, NOISE = 4, 0.7


def normal_studies(means: np.ndarray, chains: int) -> Blocks:
    """Populations [g] of studies [g, s] of known noise, whose rows have these means.

    Of each population u the studies stand around u[0] with spread exp(u[1]); priors u[0] ~ N(0, 2²)
    and u[1] ~ N(-0.5, 0.5²).
    """
    import jax.numpy as jnp

    groups, count = means.shape

    def given(u: Any, x: Any) -> Any:
        centre, ln_spread = (jnp.repeat(part, count) for part in u.reshape(groups, 2).T)
        return -0.5 * ((x[:, 0] - centre) / jnp.exp(ln_spread)) ** 2 - ln_spread

    def log_prior(u: Any) -> Any:
        centre, ln_spread = u.reshape(groups, 2).T
        return jnp.sum(-0.5 * (centre / 2) ** 2 - 0.5 * ((ln_spread + 0.5) / 0.5) ** 2)

    flat = means.reshape(-1, 1)
    return Blocks(
        log_prior,
        given,
        lambda x: -0.5 * ROWS * ((flat[:, 0] - x[:, 0]) / NOISE) ** 2,
        np.ones(flat.shape, dtype=bool),
        (np.zeros((chains, 2 * groups)), flat, np.full((len(flat), 1, 1), 0.3)),
    )


def exact(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of u by quadrature: the studies integrate out."""
    centre, spread = np.meshgrid(np.linspace(-4, 4, 801), np.linspace(-3, 2, 501), indexing="ij")
    variance = np.exp(2 * spread) + NOISE**2 / ROWS
    density = -0.5 * (centre / 2) ** 2 - 0.5 * ((spread + 0.5) / 0.5) ** 2
    for mean in means:
        density = density - 0.5 * (mean - centre) ** 2 / variance - 0.5 * np.log(variance)
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    found = [float(np.sum(weight * value)) for value in (centre, spread)]
    square = [
        float(np.sum(weight * (value - middle) ** 2))
        for value, middle in zip((centre, spread), found, strict=True)
    ]
    return np.array(found), np.array(square)


def sampled(means: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[chains, draws, g, 2] of u."""
    chains = sample_blocks(
        normal_studies(means, 4),
        rounds=2,
        sweeps=400,
        draws=draws,
        thin=2,
        steps=(3, 3),
        seed=seed,
    )
    assert np.all((chains.accepted > 0.6) & (chains.accepted < 0.95))
    return chains.population.reshape(4, draws, -1, 2)


def test_the_population_of_normal_studies_is_what_quadrature_says() -> None:
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    means = np.random.default_rng(0).normal(0.4, np.hypot(0.6, NOISE / 2), 8)
    draws = sampled(means[None], 1500, seed=0)[:, :, 0]
    middle, variance = exact(means)
    assert split_gelman_rubin(draws).max() < 1.02
    effective = effective_sample_size(draws)
    assert effective.min() > 400
    flat = draws.reshape(-1, 2)
    assert np.all(np.abs(flat.mean(axis=0) - middle) < 4 * np.sqrt(variance / effective))
    np.testing.assert_allclose(flat.var(axis=0), variance, rtol=0.15)


def test_ranks_of_simulated_truths_are_even() -> None:
    """Truths drawn from the prior lie anywhere among their draws (Talts et al. 2018)."""
    generator = np.random.default_rng(1)
    truth = generator.normal([0.0, -0.5], [2.0, 0.5], (24, 2))
    studies = generator.normal(truth[:, :1], np.exp(truth[:, 1:]), (24, 5))
    draws = sampled(generator.normal(studies, NOISE / np.sqrt(ROWS)), 400, seed=1)
    away = np.mean(draws < truth, axis=(0, 1)) - 0.5
    # A mean of 24 even ranks is .5 ± .059; the mean square distance from .5 is 1/12 ± .015.
    assert np.all(np.abs(away.mean(axis=0)) < 0.18)
    assert np.all(np.abs((away**2).mean(axis=0) - 1 / 12) < 0.045)


def test_the_same_seed_gives_the_same_draws() -> None:
    means = np.array([[-0.3, 0.2, 1.1]])
    np.testing.assert_array_equal(sampled(means, 50, seed=3), sampled(means, 50, seed=3))
