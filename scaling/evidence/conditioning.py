"""A user's runs turn the population into their law: sequential Monte Carlo, tempered.

Particles start as new studies of the population; the likelihood of the runs is turned on in steps
that keep half of them effective; after each step they are resampled and moved by random walks
(Del Moral, Doucet & Jasra 2006). It works from one run upward and for posteriors that are no
ellipse, which Laplace's approximation and reweighting alone do not.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.evidence.study_features import Features
from shapelaw.scaling.evidence.study_law import INDEX, level_log_loss, log_loss, of_draws
from shapelaw.scaling.evidence.study_population import N_LEVEL, STATE, Population, log_prior

PARTICLES = 1000
_EFFECTIVE = 0.5
_MOVES = 40
_SCALES = (1.0, 0.5, 0.25)
_WANTED_ACCEPTANCE = 0.3
_FREEDOM = 4.0
"""Of the Student t that errors of rows follow."""


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """Runs as the likelihood sees them."""

    features: Features
    log_loss: np.ndarray
    run: np.ndarray
    """Number of each row's run, [rows]: rows of one run share an error of their own."""
    weight: np.ndarray
    """Seeds averaged in a row, [rows]."""

    @property
    def has_shape(self) -> bool:
        """Whether anything but N and D is known."""
        names = ("has_depth", "has_mlp_ratio", "ln_sharing", "ln_gqa", "ln_attention_width")
        return any(np.any(self.features[name]) for name in names)

    @property
    def told(self) -> np.ndarray:
        """Coordinates that these runs say anything about; the others stay as the population's."""
        names = {
            "has_depth": ("ln_best_depth", "depth_drift", "ln_depth_cost"),
            "has_mlp_ratio": ("ln_best_mlp_ratio", "ln_mlp_ratio_cost"),
            "ln_gqa": ("gqa",),
            "ln_attention_width": ("ln_attention_width_cost",),
            "ln_sharing": (
                "repeated_depth",
                "gain_immediate",
                "gain_cycle",
                "ln_saturation_immediate",
                "ln_saturation_cycle",
            ),
        }
        found = [*range(N_LEVEL), STATE - 3, STATE - 1]
        for feature, parameters in names.items():
            if np.any(self.features[feature]):
                found += [INDEX[name] for name in parameters]
        if np.bincount(self.run).max() > 1:
            found.append(STATE - 2)
        return np.sort(np.array(found))

    def predicted(self, theta: np.ndarray) -> np.ndarray:
        """ln L [k, rows] by studies [k, p + 2]."""
        values = of_draws(theta)
        if self.has_shape:
            return np.asarray(log_loss(np, values, self.features))
        return np.asarray(level_log_loss(np, values, self.features, 0.0))

    def log_likelihood(self, theta: np.ndarray) -> np.ndarray:
        """[k], up to a constant: errors of rows, and of whole runs where rows share one."""
        error = (self.log_loss - self.predicted(theta)) * np.sqrt(self.weight)
        spread = np.exp(theta[:, -2])[:, None]
        rows = np.bincount(self.run)
        if rows.max() == 1:
            return np.asarray(np.sum(_student(error / spread) - np.log(spread), axis=1))
        share = np.zeros((len(rows), len(self.run)))
        share[self.run, np.arange(len(self.run))] = 1 / rows[self.run]
        mean = error @ share.T
        variance = (rows > 1) * np.exp(2 * theta[:, -1])[:, None] + spread**2 / rows
        of_runs = _student(mean / np.sqrt(variance)) - 0.5 * np.log(variance)
        of_rows = _student((error - mean[:, self.run]) / spread) - np.log(spread)
        free = ((rows - 1) / rows)[self.run]
        return np.asarray(of_runs.sum(axis=1) + (of_rows * free).sum(axis=1))


def _student(z: np.ndarray) -> np.ndarray:
    return np.asarray(-0.5 * (_FREEDOM + 1) * np.log1p(z * z / _FREEDOM))


def condition(
    population: Population, runs: Runs, *, particles: int = PARTICLES, seed: int = 0
) -> np.ndarray:
    """Studies [particles, p + 2] that the population and the runs leave."""
    generator = np.random.default_rng(seed)
    state, member = population.new_studies(particles, generator)
    likelihood = _finite(runs.log_likelihood(population.study(state, member)))
    heat, scale = 0.0, 1.0
    while heat < 1:
        step = _next_step(likelihood, 1 - heat)
        heat = min(1.0, heat + step)
        weights = np.exp(step * (likelihood - likelihood.max()))
        places = (np.arange(particles) + generator.random()) / particles
        chosen = np.searchsorted(np.cumsum(weights / weights.sum()), places)
        chosen = np.minimum(chosen, particles - 1)
        state, member, likelihood = state[chosen], member[chosen], likelihood[chosen]
        accepted = _move(population, runs, state, member, likelihood, heat, scale, generator)
        scale *= np.exp(2 * np.clip(accepted - _WANTED_ACCEPTANCE, -0.3, 0.3))
        scale = min(float(scale), 1.5)
    theta = population.study(state, member)
    # Resampling leaves copies; what the runs say nothing about keeps the population's full spread.
    untold = np.setdiff1d(np.arange(theta.shape[1]), runs.told)
    fresh = population.study(*population.new_studies(particles, generator))
    theta[:, untold] = fresh[:, untold]
    return theta


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, -1e12)


def _next_step(likelihood: np.ndarray, left: float) -> float:
    """The largest step in heat that keeps _EFFECTIVE of the particles effective."""

    def effective(step: float) -> float:
        weights = np.exp(step * (likelihood - likelihood.max()))
        return float(weights.sum() ** 2 / np.sum(weights**2)) / len(weights)

    if effective(left) > _EFFECTIVE:
        return left
    low, high = 0.0, left
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle) > _EFFECTIVE else (low, middle)
    return max(low, 1e-9)


def _move(
    population: Population,
    runs: Runs,
    state: np.ndarray,
    member: np.ndarray,
    likelihood: np.ndarray,
    heat: float,
    scale: float,
    generator: np.random.Generator,
) -> float:
    """Random walks in place, by the particles' own covariance; the share accepted."""
    prior = log_prior(state)
    told = runs.told
    root = np.linalg.cholesky(np.cov(state[:, told].T) + 1e-10 * np.eye(len(told)))
    accepted = 0.0
    for turn in range(_MOVES):
        width = scale * 2.38 / np.sqrt(len(told)) * _SCALES[turn % len(_SCALES)]
        proposal = state.copy()
        steps = generator.standard_normal((len(state), len(told)))
        proposal[:, told] += width * steps @ root.T
        new = _finite(runs.log_likelihood(population.study(proposal, member)))
        new_prior = log_prior(proposal)
        taken = np.log(generator.random(len(state))) < (
            heat * (new - likelihood) + new_prior - prior
        )
        state[taken], likelihood[taken] = proposal[taken], new[taken]
        prior[taken] = new_prior[taken]
        accepted += float(taken.mean()) / _MOVES
    return accepted
