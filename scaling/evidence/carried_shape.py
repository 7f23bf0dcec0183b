"""From the study of small proxies to the study that is asked about.

The two are trained on different text, tokenizers and sizes. What proxies tell of the level of loss
stays with them: nats a byte of one text say nothing about nats a token of another. What they tell
of shape carries over as far as a study's own small sizes foretell the shape of its large ones: with
a correlation `KEPT` for each factor of ten in parameters, falling to none, at which the other study
is one more of the population.
"""

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.refuted_studies import refuted
from shapelaw.scaling.evidence.study_population import FREEDOM, N_ALL, N_LEVEL, Population

KEPT = 0.9
"""Correlation of a shape parameter with itself at ten times the size: of those that
`benchmarks.evidence.sizes` tries the largest by which no study's differences at its larger sizes
(4 to 17 times) are missed by more than is stated. It is the reference study that asks for less than
1; the others could not tell."""


def carried(size: float, asked_size: float) -> float:
    """Correlation of shape parameters between two numbers of non-embedding parameters."""
    return float(KEPT ** abs(np.log10(asked_size / size)))


def carry(
    population: Population,
    theta: np.ndarray,
    member: np.ndarray,
    correlation: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Studies [k, p + 2] asked about, one for each study of proxies `theta` [k, p + 2].

    Level parameters are a new study's, in nats a token; shape parameters have `correlation` with
    those of the proxies and are, over all studies, as the population says. Noise stays.

    Args:
        member: [k] the draw of the population that each belongs to.
    """
    z = generator.standard_normal((len(theta), N_ALL))
    chi = generator.gamma(FREEDOM / 2, 2 / FREEDOM, len(theta))
    factors = population.level_factors(unit_known=True)[member]
    level = np.einsum("kij,kj->ki", factors, z[:, :N_LEVEL] / np.sqrt(chi)[:, None])
    mean, spread = (each[member, N_LEVEL:] for each in (population.mean, population.spread))
    away = correlation * (theta[:, N_LEVEL:N_ALL] - mean)
    fresh = np.sqrt(1 - correlation**2) * spread * z[:, N_LEVEL:]
    found = theta.copy()
    found[:, :N_LEVEL] = population.mean[member, :N_LEVEL] + level
    found[:, N_LEVEL:N_ALL] = mean + away + fresh
    return found


def credible(theta: np.ndarray) -> np.ndarray:
    """Which studies [k] some training could have shown (`refuted_studies`)."""

    def losses(batch: ArchitectureBatch, tokens: float) -> np.ndarray:
        return EvidenceLaw(theta, {}, "", "").loss_draws(batch, tokens)

    return ~refuted(losses)
