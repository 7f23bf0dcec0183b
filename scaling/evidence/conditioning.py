"""A user's runs turn the population into their law: sequential Monte Carlo, tempered.

Particles start as new studies of the population, each with the draw of the population it comes
from; the likelihood of the runs is turned on in steps that keep half of them effective. After each
step they are resampled, moved by random walks in the study's own parameters, whose posterior the
runs shape and not the draw a particle came from, and given a new draw of the population by its
density there (a Gibbs step). Del Moral, Doucet & Jasra 2006. It works from one run upward and for
posteriors that are no ellipse, which Laplace's approximation and reweighting alone do not.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.evidence.study_features import Features
from shapelaw.scaling.evidence.study_law import INDEX, level_log_loss, log_loss, of_draws
from shapelaw.scaling.evidence.study_population import (
    FREEDOM,
    N_LEVEL,
    NO_RUN_NOISE,
    ROW_NOISE,
    RUN_NOISE,
    Population,
)

PARTICLES = 1000
_EFFECTIVE = 0.5
_MOVES = 60
_CANDIDATES = 100
"""Draws of the population among which a particle's own is chosen anew."""
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
        """Parameters that these runs say anything about; the others stay as the population's."""
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
        found = [*range(N_LEVEL), ROW_NOISE]
        for feature, parameters in names.items():
            if np.any(self.features[feature]):
                found += [INDEX[name] for name in parameters]
        if np.bincount(self.run).max() > 1:
            found.append(RUN_NOISE)
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


class _Prior:
    """Density of what runs tell of a study (level, then others at `at`) by draws of a population.

    Shape and noise are independent given the draw, so what the runs do not tell drops out.
    """

    def __init__(self, population: Population, told: np.ndarray) -> None:
        factors = population.level_factors(unit_known=False)
        mean, spread = population.others()
        self.at = told[N_LEVEL:]
        self.level = population.mean[:, :N_LEVEL]
        self.inverse = np.linalg.inv(factors)
        self.mean, self.spread = mean[:, self.at - N_LEVEL], spread[:, self.at - N_LEVEL]
        self.constant = np.log(np.diagonal(self.inverse, axis1=1, axis2=2)).sum(axis=1)
        self.constant -= np.log(self.spread).sum(axis=1)

    def log_density(self, theta: np.ndarray, member: np.ndarray) -> np.ndarray:
        """[k] of each study by the draw it belongs to."""
        away = theta[:, :N_LEVEL] - self.level[member]
        z = np.einsum("kij,kj->ki", self.inverse[member], away)
        other = (theta[:, self.at] - self.mean[member]) / self.spread[member]
        return np.asarray(self._density((z**2).sum(-1), (other**2).sum(-1), self.constant[member]))

    def of_all(self, theta: np.ndarray, members: np.ndarray) -> np.ndarray:
        """[k, members] of each study by each draw."""
        inverse = self.inverse[members]
        turned = theta[:, :N_LEVEL] @ inverse.reshape(-1, N_LEVEL).T
        turned -= np.einsum("mij,mj->mi", inverse, self.level[members]).ravel()
        level = (turned.reshape(len(theta), len(members), N_LEVEL) ** 2).sum(-1)
        other = (theta[:, None, self.at] - self.mean[members]) / self.spread[members]
        return np.asarray(self._density(level, (other**2).sum(-1), self.constant[members]))

    @staticmethod
    def _density(level: np.ndarray, other: np.ndarray, constant: np.ndarray) -> np.ndarray:
        return -0.5 * (FREEDOM + N_LEVEL) * np.log1p(level / FREEDOM) - 0.5 * other + constant

    def chosen_anew(
        self, theta: np.ndarray, member: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """[k] draws by their density at each study, among its own and some at random."""
        some = generator.choice(len(self.level), min(_CANDIDATES, len(self.level)), replace=False)
        density = np.concatenate(
            [self.log_density(theta, member)[:, None], self.of_all(theta, some)], axis=1
        )
        # The largest of density + Gumbel noise is a draw by weight; a member that stands in both
        # places counts once.
        density[:, 1:][some[None] == member[:, None]] = -np.inf
        best = np.argmax(density + generator.gumbel(size=density.shape), axis=1)
        return np.where(best == 0, member, some[best - 1])


def condition(
    population: Population, runs: Runs, *, particles: int = PARTICLES, seed: int = 0
) -> np.ndarray:
    """Studies [particles, p + 2] that the population and the runs leave."""
    return condition_both(population, runs, particles=particles, seed=seed)[0]


def condition_both(
    population: Population, runs: Runs, *, particles: int = PARTICLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Studies [particles, p + 2] that the population and the runs leave, and the draw of the
    population that each belongs to, [particles]."""
    generator = np.random.default_rng(seed)
    theta, member = population.new_studies(particles, generator)
    told = runs.told
    prior = _Prior(population, told)
    likelihood = _finite(runs.log_likelihood(theta))
    heat, scale = 0.0, 1.0
    while heat < 1:
        step = _next_step(likelihood, 1 - heat)
        heat = min(1.0, heat + step)
        weights = np.exp(step * (likelihood - likelihood.max()))
        places = (np.arange(particles) + generator.random()) / particles
        chosen = np.searchsorted(np.cumsum(weights / weights.sum()), places)
        chosen = np.minimum(chosen, particles - 1)
        theta, member, likelihood = theta[chosen], member[chosen], likelihood[chosen]
        member = prior.chosen_anew(theta, member, generator)
        accepted = _move(prior, runs, theta, member, likelihood, heat, scale, told, generator)
        scale *= np.exp(2 * np.clip(accepted - _WANTED_ACCEPTANCE, -0.3, 0.3))
        scale = min(float(scale), 1.5)
    # What the runs say nothing about keeps the full spread of the draws that they leave.
    untold = np.setdiff1d(np.arange(N_LEVEL, theta.shape[1]), told)
    mean, spread = population.others()
    fresh = generator.standard_normal((particles, len(untold)))
    at = untold - N_LEVEL
    theta[:, untold] = mean[member][:, at] + spread[member][:, at] * fresh
    if RUN_NOISE not in told:
        theta[:, RUN_NOISE] = NO_RUN_NOISE
    return theta, member


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
    prior: _Prior,
    runs: Runs,
    theta: np.ndarray,
    member: np.ndarray,
    likelihood: np.ndarray,
    heat: float,
    scale: float,
    told: np.ndarray,
    generator: np.random.Generator,
) -> float:
    """Random walks in place, by the particles' own covariance; the share accepted."""
    density = prior.log_density(theta, member)
    root = np.linalg.cholesky(np.cov(theta[:, told].T) + 1e-12 * np.eye(len(told)))
    accepted = 0.0
    for turn in range(_MOVES):
        width = scale * 2.38 / np.sqrt(len(told)) * _SCALES[turn % len(_SCALES)]
        proposal = theta.copy()
        steps = generator.standard_normal((len(theta), len(told)))
        proposal[:, told] += width * steps @ root.T
        new = _finite(runs.log_likelihood(proposal))
        new_density = prior.log_density(proposal, member)
        taken = np.log(generator.random(len(theta))) < (
            heat * (new - likelihood) + new_density - density
        )
        theta[taken], likelihood[taken] = proposal[taken], new[taken]
        density[taken] = new_density[taken]
        accepted += float(taken.mean()) / _MOVES
    return accepted
