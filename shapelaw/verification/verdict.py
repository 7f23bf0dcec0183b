"""What runs of proxies do to the claim that a pick is best, and what they can be expected to do.

The population of studies (shapelaw.scaling.evidence) is the belief before. The proxies are a study
of their own, of whose shape `carried_shape` says how much the study asked about has in common with
it. The claim is that no rival is better by more than TOLERANCE at the size and tokens of the
question; its probability is the share of draws in which it holds.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.evidence.carried_shape import carried, carry, credible
from shapelaw.scaling.evidence.conditioning import Runs, condition_both
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.study_features import of_architectures
from shapelaw.scaling.evidence.study_population import Population
from shapelaw.verification.question import Question

TOLERANCE = 0.01
"""Nats by which a rival must be better to take the pick's place."""
STANDS, FALLS, OPEN = "stands", "does not stand", "cannot tell"
_RIDGE = 1.0
"""Of the logistic regression that foresees verdicts, on standardised features."""


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
    return belief_of(theta[credible(theta)], question)


def runs_of(
    architectures: list[Architecture], tokens: np.ndarray, log_loss: np.ndarray, run: np.ndarray
) -> Runs:
    """Runs as the likelihood sees them, [rows] each; rows of one trunk share its error."""
    features = of_architectures(ArchitectureBatch.of(architectures), tokens)
    return Runs(features, log_loss, np.unique(run, return_inverse=True)[1], np.ones(len(run)))


def correlation_of(question: Question, runs: Runs) -> float:
    """Of the shape of the proxies' study with that of the study asked about."""
    size = float(np.exp(np.mean(runs.features["ln_n"])))
    return carried(size, float(question.finalists[0].architecture.non_embedding_parameters))


def belief_after(population: Population, question: Question, runs: Runs, seed: int = 0) -> Belief:
    """By the population and the study of these runs."""
    theta, member = condition_both(population, runs, seed=seed)
    correlation = correlation_of(question, runs)
    generator = np.random.default_rng(seed)
    asked = np.concatenate(
        [carry(population, theta, member, correlation, generator) for _ in range(2)]
    )
    return belief_of(asked[credible(asked)], question)


@dataclasses.dataclass(frozen=True, eq=False)
class Truths:
    """Studies of proxies, the studies asked about, and what the proxies' runs would show."""

    asked: np.ndarray
    """[k, p + 2]"""
    log_loss: np.ndarray
    """[k, rows], with noise."""


def truths(
    population: Population,
    question: Question,
    runs: Runs,
    count: int,
    generator: np.random.Generator,
) -> Truths:
    """About `count` truths, less those that no training could show; `runs` lend their design."""
    theta, member = population.new_studies(count, generator)
    asked = carry(population, theta, member, correlation_of(question, runs), generator)
    kept = credible(asked)
    theta, asked = theta[kept], asked[kept]
    row, run = np.exp(theta[:, -2:-1]), np.exp(theta[:, -1:])
    heard = runs.predicted(theta) + row * generator.standard_t(4.0, (len(theta), len(runs.run)))
    of_runs = run * generator.standard_t(4.0, (len(theta), runs.run.max() + 1))
    return Truths(asked, heard + of_runs[:, runs.run])


def expected_power(
    population: Population, question: Question, runs: Runs, *, draws: int = 6000, seed: int = 0
) -> float:
    """Probability that such runs, once trained, let more be said than "cannot tell".

    Of truths drawn from the population, half teach a logistic regression to read from the runs
    whether the claim holds (contrasts of the proxies' losses and their squares); on the other half
    the share of which it is as sure as the question asks is the power. Whether the claim holds is
    all that it foresees, so that the tails of the population do not weigh on it.

    Args:
        runs: as they would be; their losses are not read.
    """
    generator = np.random.default_rng(seed)
    drawn = truths(population, question, runs, draws, generator)
    rivals = rivals_of(question)
    gaps = belief_of(drawn.asked, question).differences[:, rivals]
    holds = np.all(gaps > -TOLERANCE, axis=1)
    features = _contrasts(drawn.log_loss, runs)
    half = len(holds) // 2
    sure = _logistic(features[:half], holds[:half], features[half:])
    return float(np.mean(np.maximum(sure, 1 - sure) >= question.confidence))


def _contrasts(log_loss: np.ndarray, runs: Runs) -> np.ndarray:
    """Standardised features [k, f]: losses within a size and budget, mean over seeds, less their
    mean there; principal directions of these, and their squares."""
    keys = np.stack([*runs.features.values()], axis=1).round(6)
    cells, which = np.unique(keys, axis=0, return_inverse=True)
    means = np.stack(
        [log_loss[:, which.ravel() == cell].mean(axis=1) for cell in range(len(cells))], axis=1
    )
    names = list(runs.features)
    sizes = np.round(cells[:, names.index("ln_n")] / 0.2)
    budgets = np.round(cells[:, names.index("ln_d")] / 0.2)
    apart = means.copy()
    for group in {*zip(sizes.tolist(), budgets.tolist(), strict=True)}:
        at = (sizes == group[0]) & (budgets == group[1])
        apart[:, at] -= apart[:, at].mean(axis=1, keepdims=True)
    apart = np.clip(apart, *np.quantile(apart, [0.01, 0.99], axis=0))
    apart = apart - apart.mean(axis=0)
    _, scale, directions = np.linalg.svd(apart, full_matrices=False)
    scores = (apart @ directions.T)[:, scale > 1e-6 * scale[0]]
    scores = scores / scores.std(axis=0)
    return np.concatenate([scores, scores**2 - 1], axis=1)


def _logistic(features: np.ndarray, holds: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Probability [k] for the rows `asked`: logistic regression with a ridge, Newton's steps."""
    design = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    weights = np.zeros(design.shape[1])
    ridge = _RIDGE * np.eye(len(weights))
    ridge[0, 0] = 1e-6
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (holds - p) - ridge @ weights
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + ridge, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    rows = np.concatenate([np.ones((len(asked), 1)), asked], axis=1)
    return np.asarray(1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30))))
