"""Draws of a population and its studies together, block by block (JAX).

Given the population studies are independent, and given the studies the population needs no rows. So
a sweep moves every study by Hamiltonian steps of its own, accepted or not by itself, and then the
population (Hamiltonian Monte Carlo within Gibbs, Neal 2011, section 5). Each block walks in
coordinates in which its density given the other is about round.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

ACCEPTANCE = 0.8
_JITTER = 0.5
"""A trajectory takes this share of the step or more, at random: no length returns to its start."""
_THINNED_GRADIENTS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Blocks:
    """A population u [m] and studies x [s, q] as log densities."""

    log_prior: Callable[[Any], Any]
    """u -> density of the population before any study is read, and of what is not a block."""
    log_given: Callable[[Any, Any], Any]
    """u, x -> density [s] of each study's parameters given the population."""
    log_likelihood: Callable[[Any], Any]
    """x -> likelihood [s] of each study's rows."""
    own: np.ndarray
    """[s, q] which numbers of x are a study's parameters; the others stay where they start."""
    start: tuple[np.ndarray, np.ndarray, np.ndarray]
    """u [chains, m]; of each study a middle [s, q] and a root of covariance [s, q, q]."""


@dataclasses.dataclass(frozen=True, eq=False)
class Chains:
    """Draws and how the sampler fared."""

    population: np.ndarray
    """[chains, draws, m]."""
    studies: np.ndarray
    """[chains, draws, s, q]."""
    accepted: np.ndarray
    """[s + 1] share of proposals accepted, the population's last."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Coordinates:
    """u = middle + root·w and x = middle + root·z."""

    u_middle: Any
    u_root: Any
    x_middle: Any
    x_root: Any

    def leaves(self) -> tuple[Any, ...]:
        return self.u_middle, self.u_root, self.x_middle, self.x_root


def sample_blocks(
    blocks: Blocks,
    *,
    rounds: int,
    sweeps: int,
    draws: int,
    thin: int,
    steps: tuple[int, int] = (9, 12),
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Chains:
    """Draws after `rounds` of `sweeps` that learn coordinates and step sizes, in float64.

    Args:
        draws: draws kept of each chain, one in `thin` sweeps.
        steps: leapfrog steps of a study and of the population.
    """
    import jax

    with jax.enable_x64(True):
        return _sample_blocks(blocks, rounds, sweeps, draws, thin, steps, seed, say)


def _sample_blocks(
    blocks: Blocks,
    rounds: int,
    sweeps: int,
    draws: int,
    thin: int,
    steps: tuple[int, int],
    seed: int,
    say: Callable[[str], None],
) -> Chains:
    import jax
    import jax.numpy as jnp

    own = jnp.asarray(blocks.own, dtype=float)
    study_steps, population_steps = steps

    def density_of_studies(z: Any, u: Any, at: tuple[Any, ...]) -> Any:
        x = at[2] + jnp.einsum("sij,sj->si", at[3], z)
        return blocks.log_likelihood(x) + blocks.log_given(u, x)

    def density_of_population(w: Any, x: Any, at: tuple[Any, ...]) -> Any:
        u = at[0] + at[1] @ w
        return blocks.log_prior(u) + jnp.sum(blocks.log_given(u, x))

    def trajectory(
        density: Callable[[Any], Any], q: Any, p: Any, step: Any, count: int, key: Any
    ) -> tuple[Any, Any]:
        """New place and acceptance probability of each block; the last axis is within a block."""

        def gradient(place: Any) -> tuple[Any, Any]:
            value, back = jax.vjp(density, place)
            return value, back(jnp.ones_like(value))[0]

        before, slope = gradient(q)
        width = step[..., None]

        def leap(_: int, state: tuple[Any, ...]) -> tuple[Any, ...]:
            place, momentum, slope, _ = state
            momentum = momentum + 0.5 * width * slope
            place = place + width * momentum
            value, slope = gradient(place)
            return place, momentum + 0.5 * width * slope, slope, value

        place, momentum, _, after = jax.lax.fori_loop(0, count, leap, (q, p, slope, before))
        energy = after - before + 0.5 * (jnp.sum(p * p, -1) - jnp.sum(momentum * momentum, -1))
        chance = jnp.where(jnp.isfinite(energy), jnp.exp(jnp.minimum(energy, 0.0)), 0.0)
        taken = jax.random.uniform(key, chance.shape) < chance
        return jnp.where(taken[..., None], place, q), chance

    def sweep(state: tuple[Any, Any], key: Any, step: Any, at: tuple[Any, ...]) -> Any:
        w, z = state
        keys = jax.random.split(key, 6)
        u = at[0] + at[1] @ w
        momentum = jax.random.normal(keys[0], z.shape) * own
        size = step[:-1] * jax.random.uniform(keys[1], (len(z),), minval=_JITTER)

        def masked(place: Any) -> Any:
            return density_of_studies(place * own, u, at)

        z, of_studies = trajectory(masked, z, momentum, size, study_steps, keys[2])
        x = at[2] + jnp.einsum("sij,sj->si", at[3], z)
        momentum = jax.random.normal(keys[3], w.shape)
        size = step[-1] * jax.random.uniform(keys[4], minval=_JITTER)
        w, of_population = trajectory(
            lambda place: density_of_population(place, x, at),
            w,
            momentum,
            size,
            population_steps,
            keys[5],
        )
        return (w, z), jnp.concatenate([of_studies, of_population[None]])

    def places(state: tuple[Any, Any], at: tuple[Any, ...]) -> tuple[Any, Any]:
        w, z = state
        return at[0] + w @ at[1].T, at[2] + jnp.einsum("sij,csj->csi", at[3], z)

    def many(state: Any, key: Any, ln_step: Any, at: tuple[Any, ...], gain: Any) -> Any:
        """`sweeps` sweeps, one in `thin` kept; `gain` 0 leaves the step sizes."""

        def one(carry: Any, key: Any) -> Any:
            state, ln_step, turn = carry
            keys = jax.random.split(key, len(state[0]))
            state, chance = jax.vmap(sweep, (0, 0, None, None))(state, keys, jnp.exp(ln_step), at)
            chance = chance.mean(axis=0)
            ln_step = ln_step + gain * (chance - ACCEPTANCE) / jnp.sqrt(1 + 0.1 * turn)
            return (state, ln_step, turn + 1), chance

        def kept(carry: Any, key: Any) -> Any:
            carry, chance = jax.lax.scan(one, carry, jax.random.split(key, thin))
            return carry, (*places(carry[0], at), chance.mean(axis=0))

        keys = jax.random.split(key, sweeps // thin)
        carry, found = jax.lax.scan(kept, (state, ln_step, 0.0), keys)
        return carry[0], carry[1], found

    run = jax.jit(many)
    slopes = jax.jit(
        jax.vmap(
            jax.grad(lambda u, x: blocks.log_prior(u) + jnp.sum(blocks.log_given(u, x))), (0, 0)
        )
    )
    u, middle, roots = (jnp.asarray(value) for value in blocks.start)
    at = _Coordinates(jnp.zeros(u.shape[1]), jnp.eye(u.shape[1]), middle, roots)
    ln_step = jnp.full(len(blocks.own) + 1, np.log(0.1))
    key, used = jax.random.split(jax.random.PRNGKey(seed))
    x = places((u, jax.random.normal(used, (len(u), *own.shape)) * own), at.leaves())[1]
    for turn in range(rounds):
        key, used = jax.random.split(key)
        state = _whitened(u, x, at)
        state, ln_step, (us, xs, chance) = run(state, used, ln_step, at.leaves(), 0.2)
        u, x = places(state, at.leaves())
        half = len(us) // 2
        us, xs = (np.asarray(v[half:]).reshape(-1, *v.shape[2:]) for v in (us, xs))
        some = np.linspace(0, len(us) - 1, min(len(us), _THINNED_GRADIENTS)).astype(int)
        at = _learned(us, xs, np.asarray(slopes(us[some], xs[some])), blocks.own)
        ln_step = jnp.full_like(ln_step, np.log(0.3))
        say(f"round {turn}: accepted {np.asarray(chance[half:]).mean(axis=0).round(2)}")
    key, used = jax.random.split(key)
    state, ln_step, _ = run(_whitened(u, x, at), used, ln_step, at.leaves(), 0.2)
    found = []
    for used in jax.random.split(key, -(-draws * thin // sweeps)):
        state, _, part = run(state, used, ln_step, at.leaves(), 0.0)
        found.append([np.asarray(value) for value in part])
        say(f"{len(found) * sweeps} sweeps")
    us, xs, chance = (np.concatenate(column)[:draws] for column in zip(*found, strict=True))
    return Chains(us.swapaxes(0, 1), xs.swapaxes(0, 1), chance.mean(axis=0))


def _whitened(u: Any, x: Any, at: _Coordinates) -> tuple[Any, Any]:
    import jax.numpy as jnp

    w = jnp.linalg.solve(at.u_root, (u - at.u_middle).T).T
    z = jnp.linalg.solve(at.x_root[None], (x - at.x_middle)[..., None])[..., 0]
    return w, z


def _learned(us: np.ndarray, xs: np.ndarray, slopes: np.ndarray, own: np.ndarray) -> _Coordinates:
    """Coordinates from draws: of studies by their covariance; of the population by its curvature
    given the studies, which is the mean square of its slope."""
    import jax.numpy as jnp

    curvature = slopes.T @ slopes / len(slopes)
    diagonal = np.diag(np.diag(curvature))
    curvature = 0.9 * curvature + 0.1 * diagonal + 1e-3 * np.eye(len(curvature))
    u_root = np.linalg.inv(np.linalg.cholesky(curvature)).T
    roots = np.tile(np.eye(xs.shape[-1]), (len(own), 1, 1))
    for place, mine in enumerate(own):
        at = np.flatnonzero(mine)
        covariance = np.atleast_2d(np.cov(xs[:, place, at].T))
        covariance = 0.98 * covariance + 0.02 * np.diag(np.diag(covariance))
        roots[place][np.ix_(at, at)] = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(at)))
    return _Coordinates(
        jnp.asarray(us.mean(axis=0)),
        jnp.asarray(u_root),
        jnp.asarray(xs.mean(axis=0)),
        jnp.asarray(roots),
    )
