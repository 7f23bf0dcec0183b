"""What runs of proxies do to the claim that a pick is best, and what they can be expected to do.

The population of studies (shapelaw.scaling.evidence) is the belief before; runs of the user's own
study turn it into the belief after. The claim is that no rival is better by more than TOLERANCE at
the size and tokens of the question; its probability is the share of draws in which it holds.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.evidence.conditioning import Runs, condition
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.study_features import of_architectures
from shapelaw.scaling.evidence.study_population import Population
from shapelaw.verification.question import Question

TOLERANCE = 0.01
"""Nats by which a rival must be better to take the pick's place."""
TAIL = 0.01
"""Share of the draws at each end that a covariance does not follow."""
STANDS, FALLS, OPEN = "stands", "does not stand", "cannot tell"


@dataclasses.dataclass(frozen=True, eq=False)
class Belief:
    """Loss of each finalist less the pick's, nats, by each draw [k, finalists]; 0 for the pick."""

    differences: np.ndarray

    def probability(self, rivals: np.ndarray) -> float:
        """That no rival is better than the pick by more than TOLERANCE."""
        return float(np.mean(np.all(self.differences[:, rivals] > -TOLERANCE, axis=1)))

    def verdict(self, rivals: np.ndarray, confidence: float) -> str:
        """What may be said with that confidence of being right."""
        p = self.probability(rivals)
        return STANDS if p >= confidence else FALLS if 1 - p >= confidence else OPEN


def rivals_of(question: Question) -> np.ndarray:
    """Numbers of the finalists that could be picked instead."""
    return np.array([i for i, each in enumerate(question.finalists) if i and each.rival], dtype=int)


def belief_of(theta: np.ndarray, question: Question) -> Belief:
    """By studies `theta` [k, p + 2]."""
    batch = ArchitectureBatch.of([each.architecture for each in question.finalists])
    loss = np.exp(EvidenceLaw.log_loss_of(theta, of_architectures(batch, question.tokens)))
    return Belief(loss - loss[:, :1])


def belief_before(population: Population, question: Question, draws: int = 2000) -> Belief:
    """By the population alone: a study that nobody has run yet."""
    theta, _ = population.new_studies(draws, np.random.default_rng(0), unit_known=True)
    return belief_of(theta, question)


def runs_of(
    architectures: list[Architecture], tokens: np.ndarray, log_loss: np.ndarray, run: np.ndarray
) -> Runs:
    """Runs as the likelihood sees them, [rows] each; rows of one trunk share its error."""
    features = of_architectures(ArchitectureBatch.of(architectures), tokens)
    return Runs(features, log_loss, np.unique(run, return_inverse=True)[1], np.ones(len(run)))


def belief_after(population: Population, question: Question, runs: Runs, seed: int = 0) -> Belief:
    """By the population turned into the law of these runs."""
    return belief_of(condition(population, runs, seed=seed), question)


def expected_power(
    population: Population, question: Question, runs: Runs, *, draws: int = 1000, seed: int = 0
) -> float:
    """Probability that such runs, once trained, let more be said than "cannot tell".

    Draws of the population are the truth in turn; the belief after is the linear Gaussian update of
    the losses' and the differences' joint draws, which is quick and, at the few per cent by which
    shapes differ, near enough for a plan.

    Args:
        runs: as they would be; their losses are not read.
    """
    generator = np.random.default_rng(seed)
    theta, _ = population.new_studies(draws, generator, unit_known=True)
    seen = runs.predicted(theta)
    row_noise, run_noise = np.exp(theta[:, -2]), np.exp(theta[:, -1])
    trunks = runs.run.max() + 1
    same = runs.run[:, None] == runs.run[None, :]
    # Student t errors of four degrees of freedom have twice the variance of their scale.
    noise = 2.0 * (
        np.median(row_noise) ** 2 * np.eye(len(runs.run)) + np.median(run_noise) ** 2 * same
    )
    heard = seen + row_noise[:, None] * generator.standard_t(4.0, seen.shape)
    heard += (run_noise[:, None] * generator.standard_t(4.0, (draws, trunks)))[:, runs.run]
    rivals = rivals_of(question)
    asked = belief_of(theta, question).differences[:, rivals]
    # A few studies of the population's tails would outweigh all others in a covariance.
    asked = np.clip(asked, *np.quantile(asked, [TAIL, 1 - TAIL], axis=0))
    off, target = seen - seen.mean(axis=0), asked - asked.mean(axis=0)
    gain = np.linalg.solve(off.T @ off / draws + noise, off.T @ target / draws)
    mean = asked.mean(axis=0) + (heard - seen.mean(axis=0)) @ gain
    left = target.T @ target / draws - gain.T @ (off.T @ target / draws)
    values, vectors = np.linalg.eigh(left)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    scatter = generator.standard_normal((200, len(rivals))) @ root.T
    holds = np.all(mean[:, None, :] + scatter[None] > -TOLERANCE, axis=2).mean(axis=1)
    sure = np.maximum(holds, 1 - holds) >= question.confidence
    return float(np.mean(sure))
